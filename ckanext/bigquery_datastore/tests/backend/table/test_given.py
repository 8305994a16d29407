"""Dates, times and decimals of Python code are in a column what PostgreSQL makes of them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from ckan import model
from ckan.tests import factories
from ckan.tests.helpers import call_action
from sqlalchemy.exc import DBAPIError

from ckanext.bigquery_datastore import compat
from ckanext.bigquery_datastore.backend.table import types

ZONE = dt.timezone(dt.timedelta(hours=2))
VALUES = [
    dt.datetime(2024, 2, 29, 7, 8, 9),
    dt.datetime(2024, 2, 29, 7, 8, 9, 500000),
    dt.datetime(2024, 2, 29, 1, 8, 9, tzinfo=ZONE),
    dt.date(2024, 2, 29),
    dt.date(1, 1, 1),
    dt.time(7, 8, 9),
    dt.time(7, 8, 9, 120),
    # Trailing zeros are not kept: docs, compatibility.
    Decimal("1.25"),
    Decimal("-3"),
]
NAMES = ["text", "int8", "numeric", "float8", "bool", "date", "timestamp", "timestamptz", "time"]


def stored(connection: Any, type_name: str, value: Any) -> str | None:
    """What a column of PostgreSQL has of a value, as text; None where it takes it not at all."""
    attempt = connection.begin_nested()
    try:
        insert = sa.text(
            f"INSERT INTO given (c_{type_name}) VALUES (:v) RETURNING c_{type_name}::text"
        )
        return connection.execute(insert, {"v": value}).scalar()
    except DBAPIError:
        return None
    finally:
        attempt.rollback()


@pytest.mark.usefixtures("non_clean_db")
def test_a_value_is_what_postgresql_stores_of_it() -> None:
    with model.meta.engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(sa.text("SET LOCAL TIME ZONE 'UTC'"))
        columns = ", ".join(f"c_{name} {name}" for name in NAMES)
        connection.execute(sa.text(f"CREATE TEMP TABLE given ({columns})"))
        taken = 0
        for name in NAMES:
            for value in VALUES:
                expected = stored(connection, name, value)
                try:
                    written = types.TYPES[name].write(value)
                except types.BadValue:
                    written = None
                got = None if written is None else stored(connection, name, written)
                assert got == expected, (name, value, written)
                taken += got is not None
        transaction.rollback()
    assert taken > 30


@pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")
def test_an_action_takes_them_and_core_guesses_their_types() -> None:
    id = factories.Resource()["id"]
    fields = [{"id": "at", "type": "timestamp"}, {"id": "on", "type": "date"}]
    record = {
        "at": dt.datetime(2024, 2, 29, 7, 8, 9),
        "on": dt.date(2024, 2, 29),
        "price": Decimal("1.25"),
        "seen": dt.time(7, 8),
        "notes": {"n": 1},
    }
    types_ = [{"id": "price", "type": "numeric"}, {"id": "seen", "type": "time"}]
    call_action(
        "datastore_create",
        resource_id=id,
        force=True,
        fields=fields + types_,
        records=[record],
        primary_key=["on"],
    )
    call_action(
        "datastore_upsert",
        resource_id=id,
        force=True,
        records=[{"on": record["on"], "price": Decimal("2")}],
    )
    found = call_action("datastore_search", resource_id=id, filters={"on": record["on"]})
    (row,) = found["records"]
    assert (row["at"], row["on"], row["seen"]) == (
        # 2.12 writes milliseconds.
        "2024-02-29T07:08:09" if compat.IS_2_11 else "2024-02-29T07:08:09.000",
        "2024-02-29",
        "07:08:00",
    )
    assert row["price"] == 2 and row["notes"] == {"n": 1}
