"""What is written is what Google reads: one SELECT, of the allowed tables and functions alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlglot
from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql import check
from ckanext.bigquery_datastore.backend.sql.check import Checked, NotAllowed
from ckanext.bigquery_datastore.backend.sql.rules import words
from ckanext.bigquery_datastore.backend.sql.select import select_of
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.model import Column, Table
from ckanext.bigquery_datastore.dump.export import statement
from ckanext.bigquery_datastore.errors import Invalid
from ckanext.bigquery_datastore.tests.backend.sql import googlesql

COLUMNS = tuple(Column(name, types.TYPES["text"], name) for name in ("_id", "author", "price"))
BOOKS = Table("att-proj", "ds", "11111111-aaaa", COLUMNS)
TABLES = {"books": BOOKS, "more": replace(BOOKS, id="22222222-bbbb")}
ALLOWED = {("att-proj", "ds", table.id) for table in TABLES.values()}

#: What GoogleSQL's functions are called in all that may be asked for.
FUNCTIONS = words(
    "ABS ANY_VALUE APPROX_COUNT_DISTINCT ASCII AVG BYTE_LENGTH CEIL CHR COALESCE CONCAT CORR COUNT "
    "CURRENT_TIMESTAMP CURRENT_DATE DATETIME DATE_TRUNC DATETIME_TRUNC DIV EXP FLOOR GREATEST LOG "
    "INITCAP INSTR LEAST LEFT LENGTH LN LOWER LPAD LTRIM MAX MD5 MIN MOD NULLIF REGEXP_CONTAINS "
    "REGEXP_REPLACE REPEAT REPLACE REVERSE RIGHT ROUND ROW_NUMBER SUBSTRING SUM TIMESTAMP "
    "TIMESTAMP_TRUNC TO_HEX TRIM TRUNC UPPER"
) | words(
    # What PostgreSQL's are said with: they compute, too, and nothing else.
    "IF IFNULL COUNTIF IEEE_DIVIDE IS_NAN IS_INF FORMAT FORMAT_DATETIME FORMAT_TIME "
    "FORMAT_TIMESTAMP UNICODE DATE_ADD DATE_SUB DATE_DIFF DATETIME_ADD DATETIME_DIFF "
    "TIMESTAMP_DIFF TIME_DIFF UNIX_MICROS"
)

#: What breaks out of a text, a name, a comment, a unit.
SHARDS = (
    "\\", "\\\\", "'", "''", '"', '""', "`", "--", "#", "/*", "*/", ";", "\n", "\r", "\t", "$$",
    "@", "@@", "{}", "%", "\u2028", "\x1f", "é", "🙂", "a", "1", " ", ")", "(", ",",
    " FROM p.d.priv ",
    "; DROP TABLE p.d.priv", " UNION ALL SELECT * FROM `p.d.priv`", "p.d.priv", "r'", "'''", '"""',
    "ds.f(author)", "SESSION_USER()", "year", "AS x", "\\x27", "\\u0027", "\\047",
)  # fmt: skip


class Grammar:
    """Queries from chance: well-formed but for the shards in their names, texts and units."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def pick(self, *options: str) -> str:
        return self.chance.choice(options)

    def shards(self) -> str:
        return "".join(self.chance.choice(SHARDS) for _ in range(self.chance.randint(1, 4)))

    def name(self) -> str:
        if self.chance.random() < 0.75:
            return self.pick("author", "price", "_id", "x.author", '"price"')
        return '"' + self.shards().replace('"', '""') + '"'

    def literal(self) -> str:
        if self.chance.random() < 0.4:
            return self.pick("1", "2.5", "1e3", "NULL", "TRUE")
        quote = self.pick("'", "'", "E'", "$$", "U&'")
        text = self.shards()
        return f"$${text}$$" if quote == "$$" else quote + text.replace("'", "''") + "'"

    def unit(self) -> str:
        return self.pick("year", "month", "day", "hour", self.shards())

    def value(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(self.name(), self.literal())
        one, two = self.value(depth - 1), self.value(depth - 1)
        called = self.pick("upper", "length", "md5", "octet_length", "coalesce", "abs", "ds.upper")
        return self.pick(
            f"{called}({one})",
            f"concat({one}, {two})",
            f"replace({one}, {two}, {one})",
            f"regexp_replace({one}, {two}, {one})",
            f"({one} {self.pick('+', '-', '*', '/', '%', '||', '=', '<', '~', 'LIKE')} {two})",
            f"CASE WHEN {one} = {two} THEN {one} ELSE {two} END",
            f"CAST({one} AS {self.pick('text', 'int', 'numeric', 'date', self.name())})",
            f"date_trunc('{self.unit()}', {one})",
            f"date_part('{self.unit()}', {one})",
            f"EXTRACT({self.unit()} FROM {one})",
            f"now() - INTERVAL '1 {self.unit()}'",
            f"(SELECT max({one}) FROM {self.table()})",
            f"row_number() OVER (ORDER BY {one})",
            one,
        )

    def table(self) -> str:
        return self.pick("books", "books", "more", "p.d.priv", '"p.d.priv"', self.name())

    def query(self, depth: int = 2) -> str:
        outputs = ", ".join(
            f"{self.value(depth)} AS {self.name()}" for _ in range(self.chance.randint(1, 3))
        )
        source = self.pick("books", "books", "more", self.table())
        text = f"SELECT {outputs} FROM {source} AS x"
        if self.chance.random() < 0.3:
            text += f" WHERE {self.value(1)} = {self.value(1)}"
        if self.chance.random() < 0.2:
            text += f" ORDER BY {self.value(1)} DESC"
        if self.chance.random() < 0.1:
            text = f"WITH c AS ({text}) SELECT * FROM c, more"
        if self.chance.random() < 0.1:
            text = f"{text} UNION ALL {text}"
        if self.chance.random() < 0.1:
            text += self.shards()
        return text

    def google_query(self) -> str:
        """The same, in a text that is read as GoogleSQL."""
        return self.query().replace('"', "`").replace("books", "`books`")


def let_through(text: str) -> Checked | None:
    try:
        return check.parse_select(text, TABLES.get, lambda ids: None)
    except (Invalid, NotAllowed):
        return None


def judge(text: str, kind: str = "QueryStatement") -> bool:
    """Whether Google can read a text; whatever it then finds there is allowed."""
    try:
        found = googlesql.read(text)
    except googlesql.Unreadable:
        return False  # BigQuery runs nothing of it
    assert found.statement == kind, text
    own = {(name,) for name in found.ctes}
    assert found.tables <= ALLOWED | own, text
    called = {".".join(path).upper() for path in found.functions}
    assert called <= FUNCTIONS, text
    return True


@pytest.mark.parametrize("make", [Grammar.query, Grammar.google_query])
def test_google_reads_only_what_is_allowed_in_what_is_let_through(
    make: Callable[[Grammar], str],
) -> None:
    grammar, read, passed, asked = Grammar(20), 0, 0, 9_000
    for _ in range(asked):
        checked = let_through(make(grammar))
        if checked is None:
            continue
        passed += 1
        read += judge(checked.sql(10))
        if passed % 5 == 0:
            select = select_of(checked, COLUMNS[:1]).sql()
            judge(select)
            judge(statement(select, "gs://b/x-*", {"format": "CSV"}), "ExportDataStatement")
    # The gate is no wall, and what it lets through is GoogleSQL.
    assert passed > asked / 40
    assert read > passed * 0.9


@pytest.mark.parametrize("template", [
    "SELECT date_part('{}', now()) AS x FROM books",
    "SELECT date_trunc('{}', now()) AS x FROM books",
    'SELECT EXTRACT("{}" FROM now()) AS x FROM books',
    "SELECT now() - INTERVAL '1' {} AS x FROM books",
    'SELECT 1 AS "{}", 2 AS " FROM p.d.priv --" FROM books',
    'SELECT x."{}" FROM books AS x',
    "SELECT 1 AS `{}`, 2 AS ` FROM p.d.priv --` FROM `books`",
    "SELECT '{}' AS x, ' FROM p.d.priv --' AS y FROM books",
    'WITH "{}" AS (SELECT 1 AS n) SELECT * FROM "{}"',
    'SELECT CAST(author AS "{}") AS x FROM books',
    'SELECT "{}"(author) AS x FROM books',
    'SELECT "{}".ds.octet_length(author) AS x FROM books',
    "SELECT author FROM books {}",
])  # fmt: skip
def test_google_reads_only_what_is_allowed_wherever_a_text_is_broken_into(template: str) -> None:
    chance = Grammar(21)
    for _ in range(400):
        checked = let_through(template.replace("{}", chance.shards()))
        if checked is not None:
            judge(checked.sql(10))


def test_the_judge_sees_what_sqlglot_does_not() -> None:
    smuggled = "SELECT 1 AS `a\\`, 2 AS ` FROM p.d.priv --` FROM pub"
    tree = sqlglot.parse_one(smuggled, read="bigquery")
    assert [table.name for table in tree.find_all(exp.Table)] == ["pub"]
    assert googlesql.read(smuggled).tables == {("p", "d", "priv")}
    assert googlesql.read("DROP TABLE p.d.priv").statement == "DropStatement"
    with pytest.raises(googlesql.Unreadable):
        googlesql.read("SELECT 1; DROP TABLE p.d.priv")
