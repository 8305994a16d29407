# ruff: noqa: E501 — one query, one line
"""Statements from chance, of every function and node: each is GoogleSQL, or refused."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
from bqemulator.catalog.models import TableFieldSchema

from ckanext.bigquery_datastore.backend.sql import check
from ckanext.bigquery_datastore.backend.sql.check import NotAllowed
from ckanext.bigquery_datastore.backend.sql.postgres import aggregates, functions, moments
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.emulator.bigquery.googlesql.judge import Judge
from ckanext.bigquery_datastore.emulator.bigquery.googlesql.wasm import Service
from ckanext.bigquery_datastore.errors import Invalid
from ckanext.bigquery_datastore.tests.backend.sql import queries
from ckanext.bigquery_datastore.tests.backend.sql.test_as_in_postgresql import TABLES

SEED = int(os.environ.get("DIFFERENTIAL_SEED", "20240229"))
STATEMENTS = 700

COLUMNS = tuple(queries.TABLES["t"][0])
LITERALS = (
    "1", "0", "-3", "2.5", "1e3", "'7'", "'t'", "'2013-01-01'", "'a'", "''", "null", "true",
    "interval '1 day'", "'Europe/Vienna'", "'g'", "date '2012-02-29'", "12345678901",
)  # fmt: skip
OPERATORS = (
    *(
        [
            "+",
            "-",
            "*",
            "/",
            "%",
            "^",
            "||",
            "=",
            "<>",
            "<",
            ">",
            "<=",
            ">=",
            "~",
            "~*",
            "!~",
            "!~*",
        ]
    ),
    *("like", "ilike", "not like", "similar to", "is distinct from", "and", "or"),
)
CASTS = ("int", "bigint", "smallint", "numeric", "numeric(8,2)", "float8", "text", "varchar(3)",
         "bool", "date", "time", "timestamp", "timestamptz")  # fmt: skip


class Grammar:
    """Expressions and queries, most of them of kinds that do not fit."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def pick(self, *options: str) -> str:
        return self.chance.choice(options)

    def term(self) -> str:
        return self.pick(self.pick(*COLUMNS), self.pick(*LITERALS))

    def value(self, depth: int) -> str:
        if depth <= 0:
            return self.term()
        one, two = self.value(depth - 1), self.term()
        return self.chance.choice(
            (self._call, self._call, self._operated, self._operated, self._other)
        )(one, two)

    def _call(self, one: str, two: str) -> str:
        name = self.pick(*sorted(functions.NAMES))
        rows = functions.TABLE.get(name)
        number = len(self.chance.choice(rows).takes) if rows else self.chance.randint(1, 3)
        if name in ("date_part", "date_trunc"):
            return f"{name}('{self.pick(*sorted(moments._NAMES))}', {one})"
        return f"{name}({', '.join([one, two, self.term(), self.term()][:number])})"

    def _operated(self, one: str, two: str) -> str:
        return f"({one}) {self.pick(*OPERATORS)} {two}"

    def _other(self, one: str, two: str) -> str:
        return self.pick(
            f"({one})::{self.pick(*CASTS)}",
            f"extract({self.pick(*sorted(moments._NAMES))} from {one})",
            f"case when {one} then {two} else {self.term()} end",
            f"case {one} when {two} then {self.term()} end",
            f"({one}) in ({two}, {self.term()})",
            f"({one}) between {two} and {self.term()}",
            f"({one}) is null",
            f"({one}) is not true",
            f"not ({one})",
            f"-({one})",
            f"({one}) = any (array[{two}, {self.term()}])",
            f"({one}) in (select {self.pick('n', 's', 'v')} from u)",
            f"(select max({self.pick('n', 's', 'v')}) from u)",
            f"exists (select 1 from u where u.n = {one})",
            f"({one}) at time zone 'Europe/Vienna'",
            f"substring({one} from {two})",
            f"trim(both {two} from {one})",
            f"position({two} in {one})",
        )

    def aggregate(self) -> str:
        name = self.pick(*sorted(aggregates.NAMES))
        arguments = {"string_agg": "s, ','", "corr": "n, f"}.get(name, self.term())
        if name.startswith("covar"):
            arguments = "n, f"
        distinct = self.pick("", "", "distinct ") if name not in ("corr",) else ""
        filtered = self.pick("", f" filter (where {self.value(1)})")
        return f"{name}({distinct}{arguments}){filtered}"

    def window(self) -> str:
        name = self.pick(*sorted(aggregates.WINDOWS))
        arguments = {"ntile": "3", "nth_value": "n, 2", "lag": "n, 1", "lead": "s"}.get(
            name, "n" if name.endswith("_value") else ""
        )
        called = self.pick(f"{name}({arguments})", self.aggregate().split(" filter")[0])
        frame = self.pick("", "", " rows between 1 preceding and current row")
        order = f"order by {self.term()} {self.pick('', 'desc', 'nulls first')}"
        return f"{called} over (partition by {self.pick(*COLUMNS)} {order}{frame})"

    def query(self) -> str:
        value = self.value(2)
        where = self.pick("", f" where {self.value(1)}")
        return self.pick(
            f"select {value} as x, {self.value(1)} from t{where}",
            f"select {value} as x from t{where} order by {self.pick('x', '1', self.term())} desc limit 3",
            f"select {value} as x, {self.aggregate()} from t group by {self.pick('x', '1', value)}",
            f"select {self.aggregate()}, {self.aggregate()} from t{where}",
            f"select _id, {self.window()} from t{where}",
            f"select distinct {value} as x from t order by x",
            f"select distinct on ({value}) n, s from t order by {value}, n",
            f"select {value} from t {self.pick('union', 'union all', 'except')} select {self.term()} from t",
            f"select * from t {self.pick('join', 'left join', 'full join')} u on t.n = u.n",
            f"select * from t {self.pick('natural join', 'cross join', 'join')} u",
            f"with x as (select {value} as y from t) select y from x where y = {self.term()}",
        )


@pytest.fixture(scope="module")
def judged() -> Callable[[str], None]:
    judge = Judge(Service())
    fields = {
        name: [TableFieldSchema(name=c, type=types.TYPES[k].bq) for c, k in kinds.items()]
        for name, (kinds, _) in queries.TABLES.items()
    }
    return lambda sql: judge.check(sql, (), lambda path: fields.get(path[-1]))


def test_each_statement_is_googlesql_or_refused_with_a_sentence(
    judged: Callable[[str], None],
) -> None:
    grammar, passed = Grammar(SEED), 0
    for _ in range(STATEMENTS):
        query = grammar.query()
        try:
            checked = check.parse_select(query, TABLES.get, lambda ids: None)
        except (Invalid, NotAllowed) as refusal:
            assert len(str(refusal)) > 10
            continue
        passed += 1
        judged(checked.sql(10))
    assert passed > STATEMENTS / 10


@pytest.mark.parametrize("name", sorted(functions.TABLE))
def test_each_function_is_googlesql_with_the_kinds_that_it_takes(
    judged: Callable[[str], None], name: str
) -> None:
    kinds = {kind: column for column, kind in reversed(queries.TABLES["t"][0].items())}
    for row in functions.TABLE[name]:
        if row.refuses or "int2" in row.takes:
            continue
        called = f"{name}({', '.join(kinds[kind] for kind in row.takes)})"
        query = f"select {called} as x from t where {called} is not null"
        judged(check.parse_select(query, TABLES.get, lambda ids: None).sql())
