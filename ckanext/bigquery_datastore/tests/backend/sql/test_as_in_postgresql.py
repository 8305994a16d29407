"""A query in PostgreSQL's SQL gives PostgreSQL's rows, or is refused with a sentence.

Three answers are compared: PostgreSQL's own, that of Google's reference evaluator to the text that
we write, and the emulator's, past Google's analyzer, to the same text.
"""

from __future__ import annotations

import math
import os
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import ckan.plugins.toolkit as tk
import psycopg2
import pytest

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend.sql import check, results
from ckanext.bigquery_datastore.backend.sql.check import Checked, NotAllowed
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.model import Column, Table
from ckanext.bigquery_datastore.errors import Invalid
from ckanext.bigquery_datastore.tests.backend.sql import evaluator, queries

TABLES = {
    name: Table("local", "ds", name, tuple(Column(c, types.TYPES[k], c) for c, k in kinds.items()))
    for name, (kinds, _) in queries.TABLES.items()
}

SEED = int(os.environ.get("DIFFERENTIAL_SEED", "20240229"))

#: Of whole queries, how many the emulator is asked.
ASKED = 60


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Any]:
    connection = psycopg2.connect(tk.config["sqlalchemy.url"])
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SET timezone = 'UTC'")
    for name, (kinds, rows) in queries.TABLES.items():
        columns = ", ".join(f'"{column}" {kind}' for column, kind in kinds.items())
        cursor.execute(f"CREATE TEMPORARY TABLE {name} ({columns})")
        for row in rows:
            cursor.execute(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * len(row))})", row)
    yield cursor
    connection.close()


def asked(postgresql: Any, query: str) -> list[tuple[Any, ...]]:
    postgresql.execute(query.replace("public.t", "t"))
    return postgresql.fetchall()


def parsed(query: str, tables: dict[str, Table] = TABLES) -> Checked:
    return check.parse_select(query, tables.get, lambda ids: None)


def by_google(query: str) -> list[tuple[Any, ...]]:
    """What the reference evaluator makes of the text that BigQuery would run."""
    given = {
        f"`local`.`ds`.`{name}`": evaluator.Rows(
            {column: types.TYPES[kind].bq for column, kind in kinds.items()}, rows
        )
        for name, (kinds, rows) in queries.TABLES.items()
    }
    return evaluator.evaluate(parsed(query).sql(), given)


def is_same(one: Any, other: Any, digits: float) -> bool:
    if one is None or other is None or isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) or isinstance(other, float) or (isinstance(one, Decimal) and digits):
        one, other = float(one), float(other)
        both_nan = one != one and other != other
        return both_nan or math.isclose(
            one, other, rel_tol=digits or 1e-13, abs_tol=digits or 1e-15
        )
    return one == other


def differences(
    query: str, ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]], digits: float = 0
) -> list[str]:
    """Where rows differ; in what order they come counts where the query has one."""
    if " order by " not in query:
        ours, theirs = sorted(ours, key=repr), sorted(theirs, key=repr)
    if len(ours) != len(theirs):
        return [f"{query}: {len(ours)} rows, PostgreSQL has {len(theirs)}"]
    return [
        f"{query}: column {place} of row {number} is {one!r}, PostgreSQL has {other!r}"
        for number, (mine, their) in enumerate(zip(ours, theirs, strict=True))
        for place, (one, other) in enumerate(zip(mine, their, strict=True))
        if not is_same(one, other, digits)
    ]


@pytest.mark.parametrize("part", range(4))
def test_googles_evaluator_gives_the_rows_of_postgresql(postgresql: Any, part: int) -> None:
    wrong = []
    for query in queries.all_queries()[part::4]:
        wrong += differences(query, by_google(query), asked(postgresql, query))
    assert wrong == [], "\n".join(wrong[:10])


@pytest.fixture(scope="module")
def stored() -> Iterator[dict[str, Table]]:
    """The same tables, on the emulator."""
    client, found = clients.bigquery_rw(), {}
    for name, (kinds, rows) in queries.TABLES.items():
        table = replace(
            TABLES[name],
            project=config.project(),
            dataset=config.dataset(),
            id=f"sql-{name}-{uuid.uuid4()}",
        )
        columns = {column: types.TYPES[kind].bq for column, kind in kinds.items()}
        made = evaluator.Rows(columns, rows)
        client.query_and_wait(f"CREATE TABLE {table.sql_name} AS SELECT * FROM {made.union()}")
        found[name] = table
    yield found
    for table in found.values():
        client.query_and_wait(f"DROP TABLE {table.sql_name}")


def test_the_emulator_gives_the_rows_of_postgresql(
    postgresql: Any, stored: dict[str, Table], with_plugins: Any, datastore: Any
) -> None:
    whole = [*queries.lines(queries.QUERIES), *queries.lines(queries.OF_CORE)]
    sample = random.Random(SEED).sample(whole, k=ASKED)
    wrong = []
    for query in [*queries.bundles()[SEED % 2 :: 2], *sample]:
        if query in queries.NOT_BY_DUCKDB:
            continue
        checked = parsed(query, stored)
        found = results.run(clients.bigquery_ro(), checked, 1_000, 1_000_000, 20)
        rows = [tuple(row) for row in found.rows]
        # Its quotients have nine decimals, Google's 38.
        wrong += differences(query, rows, asked(postgresql, query), digits=1e-9)
    assert wrong == [], "\n".join(wrong[:10])


@pytest.mark.parametrize(("query", "sentence"), queries.REFUSED.items())
def test_what_cannot_be_said_is_refused_with_a_sentence(query: str, sentence: str) -> None:
    with pytest.raises((Invalid, NotAllowed)) as refusal:
        parsed(query)
    assert sentence in str(refusal.value)


def names(query: str) -> Sequence[str]:
    return [output.name for output in parsed(query).outputs or ()]


@pytest.mark.parametrize("query", [
    "select t.n, u.n from t join u on t.n = u.n",
    "select * from t join u using (n)",
    "select 1, 'a', now(), n::text, 1::text, true, case when b then n end from t",
    "select case when b then n else n end, case when b then 1 else n end, coalesce(n, 1) from t",
    "select count(*), count(n), sum(count(*)) over (), sum(n) filter (where b) from t",
    "select extract(year from d), date_part('year', d), substring(s from 1), trim(s) from t",
    "select ltrim(s), trim(leading from s), position('a' in s), strpos(s, 'a'), -n, (n) from t",
    "select (select max(v) from u), exists (select 1), d at time zone 'UTC', d - 1 from t",
    "select current_date, current_timestamp, n = 1, s || s, n is null, greatest(n, 1) from t",
    'select n as "A", n as a, n as "Ä ö" from t',
])  # fmt: skip
def test_outputs_have_the_names_that_postgresql_gives(postgresql: Any, query: str) -> None:
    asked(postgresql, query)
    assert names(query) == [column.name for column in postgresql.description]


def test_outputs_of_one_name_have_two_in_bigquery() -> None:
    found = parsed('select t.n, u.n, u.n as "N" from t, u').outputs or ()
    assert [output.name for output in found] == ["n", "n", "N"]
    assert [output.stored for output in found] == ["n", "n_2", "N_3"]
