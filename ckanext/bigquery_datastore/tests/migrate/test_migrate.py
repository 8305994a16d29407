"""``ckan bigquery migrate``: core's DataStore moves in and out, and every row is as it was."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa
from ckan import model
from ckan.cli.cli import ckan
from ckan.tests import factories, helpers

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.table.lookup import get_table
from ckanext.bigquery_datastore.tests.conftest import Site, stack_ini

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")


@pytest.fixture(scope="module")
def url() -> str:
    """The address of core's DataStore."""
    options = configparser.RawConfigParser()
    options.read(stack_ini("-postgresql"))
    return options["app:main"]["ckan.datastore.write_url"]


@pytest.fixture
def database(url: str) -> Iterator[sa.engine.Connection]:
    engine = sa.create_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection
    engine.dispose()


def run(cli, *arguments: Any):
    return cli.invoke(ckan, ["bigquery", "migrate", *map(str, arguments)])


def call(site: Site, action: str, **data: Any) -> Any:
    token = factories.SysadminWithToken()["token"]
    answer = requests.post(
        f"{site.url}/api/3/action/{action}", json=data, headers={"Authorization": token}, timeout=60
    ).json()
    assert answer["success"], answer
    return answer["result"]


def dump(site: Site, id: str, format: str = "csv") -> bytes:
    return requests.get(f"{site.url}/datastore/dump/{id}?format={format}", timeout=60).content


def table(database: sa.engine.Connection, columns: str, *rows: str) -> str:
    """A table of core's making, but for its columns: the id of its resource."""
    id = factories.Resource()["id"]
    database.exec_driver_sql(f'CREATE TABLE "{id}" (_id serial PRIMARY KEY, _full_text tsvector, {columns})')
    for row in rows:
        database.exec_driver_sql(f'INSERT INTO "{id}" VALUES {row}', execution_options={"no_parameters": True})
    return id


FIELDS = [
    {"id": "text", "type": "text", "info": {"label": "Words", "notes": "two\n\nparagraphs"}},
    {"id": "numeric", "type": "numeric", "info": {"label": "N", "type_override": "numeric"}},
    {"id": "float8", "type": "float8"},
    {"id": "int4", "type": "int4"},
    {"id": "int8", "type": "int8"},
    {"id": "bool", "type": "bool"},
    {"id": "date", "type": "date"},
    {"id": "time", "type": "time"},
    {"id": "timestamp", "type": "timestamp"},
    {"id": "timestamptz", "type": "timestamptz"},
    {"id": "json", "type": "json"},
    {"id": "jsonb", "type": "jsonb"},
    {"id": "texts", "type": "_text"},
    {"id": "int4s", "type": "_int4"},
    {"id": "float8s", "type": "_float8"},
    {"id": "varchar", "type": "varchar(20)"},
    {"id": "real", "type": "real"},
    {"id": "uuid", "type": "uuid"},
    {"id": "Preis in € (%s) a:b 'q' \\ &", "type": "text"},
    {"id": "a", "type": "int2"},
    {"id": "A", "type": "int2"},
]
RECORDS: list[dict[str, Any]] = [
    {field["id"]: None for field in FIELDS},
    {
        "text": 'quote " comma , back \\ slash\nline\r\nend\t\u0001 tab \\. \\N 😀 \\0\\1\\2',
        "numeric": "-12345678901234567890123456789.123456789",
        "float8": "NaN",
        "int4": -(2**31),
        "int8": 2**63 - 1,
        "bool": True,
        "date": "0001-01-01",
        "time": "23:59:59.999999",
        "timestamp": "9999-12-31T23:59:59.999999",
        "timestamptz": "0001-01-01T00:00:00.000001+00",
        "json": {"b": 1, "a": [None, "x\"y"], "big": 123456789012345678901234567890},
        "jsonb": '{"bb": 1.50, "a": 12345678901234567890.123, "c": "\\n"}',
        "texts": ["a", None, "", 'q"\\,{}', "NULL", "line\nend"],
        "int4s": [1, None, -3],
        "float8s": [0.1, None, 1e300],
        "varchar": "",
        "real": 0.1,
        "uuid": "6ccd780c-baba-1026-9564-5b8c656024db",
        "Preis in € (%s) a:b 'q' \\ &": "",
        "a": 1,
        "A": -32768,
    },
    {"text": "", "float8": "-Infinity", "numeric": "0.000000001", "json": [], "texts": []},
    {"text": "\\.", "float8": "-0", "numeric": "100", "json": "text", "jsonb": "null"},
    {"text": "\n", "float8": "5e-324", "bool": False, "real": "-Infinity", "int4s": []},
    {"text": " spaces ", "float8": "1.7976931348623157e308", "float8s": "{NaN,-Infinity}"},
    {"text": "=1+1", "float8": "0.1", "real": "3.4028235e38", "json": 5, "jsonb": "{}"},
]


def test_there_and_back_every_row_is_as_it_was(cli, core_site, database, url):
    id, alias = factories.Resource()["id"], f"alias {factories.Resource()['id'][:8]}"
    call(
        core_site,
        "datastore_create",
        resource_id=id,
        force=True,
        fields=FIELDS,
        records=RECORDS,
        aliases=[alias],
        primary_key=["text"],
        indexes=["int8", ["date", "bool"]],
    )
    # Numbers that were given out, and are gone.
    database.exec_driver_sql(f'DELETE FROM "{id}" WHERE _id = 7')
    call(
        core_site, "datastore_upsert", resource_id=id, force=True, method="insert",
        records=[{"text": "eighth"}, {"text": "ninth"}],
    )
    database.exec_driver_sql(f'DELETE FROM "{id}" WHERE _id = 9')
    before = dump(core_site, id), json.loads(dump(core_site, id, "json"))
    information = call(core_site, "datastore_info", id=id)

    looked = run(cli, id, "--from", url, "--dry-run")
    assert looked.exit_code == 0, looked.output
    assert f"{id}  7 rows" in looked.output and "1 of 1 tables, 7 rows: can be" in looked.output
    assert get_table(clients.bigquery_rw(), id) is None

    moved = run(cli, id, "--from", url)
    assert moved.exit_code == 0, (moved.output, moved.exception)
    assert "  brought\n" in moved.output
    ours = helpers.call_action("datastore_search", resource_id=id, limit=100)
    theirs = call(core_site, "datastore_search", resource_id=id, limit=100)
    assert ours["records"] == theirs["records"]
    assert ours["fields"] == theirs["fields"]
    assert helpers.call_action("datastore_search", resource_id=alias)["total"] == 7
    assert helpers.call_action("datastore_info", id=id)["fields"][0]["info"] == FIELDS[0]["info"]
    made = get_table(clients.bigquery_rw(), id)
    assert made is not None
    assert (made.primary_key, made.last_id) == (("text",), 9)
    assert set(made.indexes) == {("int8",), ("date", "bool")}
    assert model.Resource.get(id).extras["datastore_active"] is True

    assert "  equal\n" in run(cli, id, "--from", url).output

    database.exec_driver_sql(f'DROP TABLE "{id}" CASCADE')
    back = run(cli, id, "--back", "--to", url)
    assert back.exit_code == 0, (back.output, back.exception)
    assert (dump(core_site, id), json.loads(dump(core_site, id, "json"))) == before
    again = call(core_site, "datastore_info", id=id)
    for told in (information, again):
        told["meta"].pop("size"), told["meta"].pop("idx_size", None)
    assert again == information
    assert call(core_site, "datastore_search", resource_id=id, q="comma")["total"] == 1
    call(
        core_site, "datastore_upsert", resource_id=id, force=True, method="insert",
        records=[{"text": "next"}],
    )
    assert call(core_site, "datastore_search", resource_id=id, filters={"text": "next"})["records"][
        0
    ]["_id"] == 10
    assert "left as it is" in run(cli, id, "--back", "--to", url).output
