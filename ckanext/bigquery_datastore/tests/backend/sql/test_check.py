"""SQL from outside: what is let through and how it is written anew; every trick is refused."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from ckanext.bigquery_datastore.backend.sql import check
from ckanext.bigquery_datastore.backend.sql.check import Checked, NotAllowed
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.model import Column, Table
from ckanext.bigquery_datastore.errors import Invalid

BOOKS = Table(
    "local",
    "datastore",
    "11111111-aaaa",
    (
        Column("_id", types.TYPES["int8"], "_id"),
        Column("author", types.TYPES["text"], "author"),
        Column("price (€)", types.TYPES["numeric"], "price ___"),
    ),
)
NAMES = {"11111111-aaaa": BOOKS, "books": BOOKS, "b": BOOKS}
FULL = "`local`.`datastore`.`11111111-aaaa`"


def parsed(text: str) -> Checked:
    return check.parse_select(text, NAMES.get, lambda ids: None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('SELECT * FROM "11111111-aaaa"', f"SELECT * FROM {FULL} AS `11111111-aaaa`"),
        ("select Author from public.books", f"SELECT `author` FROM {FULL} AS `books`"),
        (
            "select author::text, count(*) from books group by 1",
            f"SELECT CAST(`author` AS STRING) AS `author`, COUNT(*) AS `count` "
            f"FROM {FULL} AS `books` GROUP BY 1",
        ),
        (
            "select x.\"price (€)\" from books x where x.author ~ '^t'",
            f"SELECT `x`.`price ___` FROM {FULL} AS `x` WHERE REGEXP_CONTAINS(`x`.`author`, '^t')",
        ),
        (
            "with b as (select author from books) select b.author from b",
            f"WITH `b` AS (SELECT `author` FROM {FULL} AS `books`) SELECT `b`.`author` FROM `b`",
        ),
        (
            "with b as (select author from b) select author from b",
            f"WITH `b` AS (SELECT `author` FROM {FULL} AS `b`) SELECT `author` FROM `b`",
        ),
        ("select 'a; b' /* comment */ -- more", "SELECT 'a; b' AS `column`"),
        ('select `author` from `books` where author = "x"', None),
        (
            "select a._id as first from books a, books b where a.author = b.author limit 2",
            f"SELECT `a`.`_id` AS `first` FROM {FULL} AS `a` CROSS JOIN {FULL} AS `b` "
            "WHERE `a`.`author` = `b`.`author` LIMIT 2",
        ),
        ("select upper(author), Upper('x') from books", None),
        ("select row_number() over (order by _id) from books", None),
        ("select author from books union all select author from books", None),
    ],
)
def test_a_query_is_written_anew_with_full_names(text: str, expected: str | None) -> None:
    written = parsed(text).sql()
    if expected is not None:
        assert written == expected
    assert "--" not in written.replace("'--'", "")
    assert written.count("books") == written.count("`books`")


@pytest.mark.parametrize(
    ("term", "written"),
    [
        ("7/2", "DIV(7, 2)"),
        ("_id / 2", "DIV(`_id`, 2)"),
        ("b._id / 2", "DIV(`b`.`_id`, 2)"),
        ("(_id + 1) / -2", "DIV((`_id` + 1), -2)"),
        ("9/3/2", "DIV(DIV(9, 3), 2)"),
        ("sum(_id) / count(*)", "DIV(SUM(`_id`), COUNT(*))"),
        ("author::int / 2", "DIV(CAST(`author` AS INT64), 2)"),
        ("_id::float / 2", "CAST(`_id` AS FLOAT64) / 2"),
    ],
)
def test_whole_numbers_are_divided_as_postgresql_divides_them(term: str, written: str) -> None:
    text = parsed(f"select {term} as x from books b").sql()
    assert text == f"SELECT {written} AS `x` FROM {FULL} AS `b`"


@pytest.mark.parametrize(
    ("term", "quotient"),
    [
        ("7/2.0", "CAST(7 AS BIGNUMERIC) / CAST('2' AS NUMERIC)"),
        ('"price (€)" / 2', "CAST(`price ___` AS BIGNUMERIC) / 2"),
        ("avg(_id)", "CAST(SUM(`_id`) AS BIGNUMERIC) / NULLIF(COUNT(`_id`), 0)"),
    ],
)
def test_numerics_are_divided_with_all_their_digits(term: str, quotient: str) -> None:
    text = parsed(f"select {term} as x from books b").sql()
    assert f"WHEN ABS({quotient}) >= 10000 THEN ROUND({quotient}, 12)" in text


def test_what_is_no_whole_number_is_not_divided_as_one() -> None:
    text = "with b as (select _id * 1.5 as _id from books) select _id / 2 as x from b"
    assert "CAST(`_id` AS BIGNUMERIC) / 2" in parsed(text).sql()
    assert "/ 2" in parsed("select _id / 2 as `x` from `books`").sql()


@pytest.mark.parametrize(
    ("term", "name"),
    [
        ("now()", "now"),
        ("date_trunc('year', now())", "date_trunc"),
        ("string_agg(author, ',')", "string_agg"),
        ("bool_and(author = 'x')", "bool_and"),
        ("strpos(author, 'x')", "strpos"),
        ("count(*)", "count"),
        ("coalesce(author, '')", "coalesce"),
    ],
)
def test_a_result_is_called_after_its_function_as_in_postgresql(term: str, name: str) -> None:
    assert f" AS `{name}` FROM" in parsed(f"select {term} from books").sql()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "SELECT * FROM books; SELECT 1",
        "SELECT * FROM books;; DROP TABLE books",
        "SELECT ** FROM books",
        "DELETE FROM books",
        "INSERT INTO books VALUES (1)",
        "UPDATE books SET author = 'x'",
        "DROP TABLE books",
        "CREATE TABLE x AS SELECT 1",
        "TRUNCATE books",
        "EXPORT DATA OPTIONS (uri='gs://x/*') AS SELECT 1",
        "EXECUTE IMMEDIATE 'select 1'",
        "DECLARE x INT64",
        "BEGIN SELECT 1; END",
        "CALL p()",
        "EXPLAIN SELECT 1",
        "SHOW TABLES",
        "VALUES (1)",
        "SELECT 1 INTO x",
        "SELECT author FROM books FOR UPDATE",
        "SELECT author FROM books TABLESAMPLE SYSTEM (10)",
        "SELECT * FROM `books` FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP()",
        "SELECT AS STRUCT 1 FROM `books`",
        "SELECT @x",
        "SELECT :x",
        "SELECT $1",
        "SELECT ?",
        "SELECT author FROM books, LATERAL (SELECT 1) x",
        "SELECT author FROM books AS t(x)",
        "SELECT * FROM books LIMIT (SELECT 1)",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r",
        "SELECT * FROM other.project.books",
        "SELECT * FROM unknown",
        "SELECT * FROM _ckan_rows_1",
        "SELECT * FROM `books` PIVOT (COUNT(*) FOR author IN ('a'))",
        "(" * 300 + "SELECT 1" + ")" * 300,
        "SELECT 1" + " " * 200_000,
        "SELECT '\0'",
    ],
)
def test_what_is_not_one_plain_select_is_refused(text: str) -> None:
    with pytest.raises((Invalid, NotAllowed)):
        parsed(text).sql(10)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM pg_roles",
        "SELECT * FROM pg_catalog.pg_database",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM INFORMATION_SCHEMA.TABLES",
        "SELECT * FROM `INFORMATION_SCHEMA.TABLES`",
        "SELECT * FROM other.books",
        "SELECT * FROM `other.books`",
        "SELECT * FROM `project.dataset.books`",
        'SELECT * FROM "project.dataset.books"',
        "SELECT * FROM `region-eu`.INFORMATION_SCHEMA.JOBS",
        "SELECT * FROM `books*`",
        "SELECT * FROM `books$20200101`",
        "SELECT * FROM `books@-3600`",
        "SELECT author FROM books WHERE EXISTS (SELECT 1 FROM pg_roles)",
        "SELECT (SELECT MAX(a) FROM other.t) FROM books",
        "SELECT * FROM EXTERNAL_QUERY('connection', 'SELECT 1')",
        "SELECT * FROM ML.PREDICT(MODEL x, TABLE books)",
        "SELECT query_to_xml('SELECT 1', true, true, '')",
        'SELECT "CoUnT"(*) FROM books',
        "SELECT SESSION_USER()",
        "SELECT session_user",
        "SELECT current_user",
        "SELECT @@project_id",
        "SELECT ERROR('x')",
        "SELECT my_dataset.my_function(author) FROM books",
        "SELECT `p.d.remote_function`(author) FROM `books`",
        "SELECT NET.HOST(author) FROM `books`",
        "SELECT KEYS.NEW_KEYSET('x') FROM `books`",
        "SELECT AEAD.DECRYPT_STRING(author, author, '') FROM `books`",
        "SELECT pg_sleep(10)",
        "SELECT pg_read_file('x')",
        "SELECT GENERATE_ARRAY(1, 1000000000)",
        "SELECT * FROM generate_series(1, 1000000000)",
        "SELECT * FROM UNNEST(ARRAY[1,2])",
        "SELECT RAND()",
        "SELECT GENERATE_UUID()",
        "SELECT setval('x', 1)",
        "SELECT repeat_(author) FROM books",
    ],
)
def test_what_leads_out_of_the_tables_is_refused(text: str) -> None:
    with pytest.raises((Invalid, NotAllowed)):
        parsed(text)


@pytest.mark.parametrize(
    "text",
    [
        # A unit is written without quotes.
        "SELECT date_part('1) FROM p.d.priv --', now()) FROM books",
        "SELECT date_trunc('year, (SELECT 1 FROM p.d.priv)', now()) FROM books",
        'SELECT EXTRACT("a) FROM p.d.priv --" FROM now()) FROM books',
        "SELECT date_trunc('session_user', now()) FROM books",
        # GoogleSQL reads a backslash in a quoted name, sqlglot does not.
        'SELECT 1 AS "a\\", 2 AS " FROM p.d.priv --" FROM books',
        'SELECT 1 AS "a`, (SELECT 1 FROM p.d.priv) AS `b" FROM books',
        'SELECT x."a\\" FROM books AS x',
        'WITH "a\\" AS (SELECT 1) SELECT * FROM "a\\"',
        # A type of one's own is written as it came.
        'SELECT CAST(author AS "own) FROM p.d.priv --") FROM books',
        # Functions of a dataset.
        'SELECT "att-proj".ds.octet_length(author) FROM books',
        "SELECT ds.octet_length(author) FROM books",
        "SELECT `att-proj`.ds.octet_length(author) FROM `books`",
        "SELECT `att-proj.ds.octet_length`(author) FROM `books`",
        "SELECT ds.upper(author) FROM books",
        "SELECT SAFE.octet_length(author) FROM `books`",
    ],
)
def test_nothing_is_written_as_it_came(text: str) -> None:
    with pytest.raises((Invalid, NotAllowed)):
        parsed(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT author FROM books LIMIT 'a'",
        "SELECT author FROM books OFFSET 'a'",
        "SELECT author FROM books LIMIT 9223372036854775808",
        "SELECT author FROM (SELECT author FROM books LIMIT 'a') AS x",
        "SELECT regexp_replace(author, 'a') FROM books",
        "SELECT date_add() FROM books",
        "SELECT lpad() FROM books",
        "SELECT date_trunc() FROM books",
        "SELECT extract() FROM books",
    ],
)
def test_what_cannot_be_written_is_the_visitors_mistake(text: str) -> None:
    with pytest.raises((Invalid, NotAllowed)):
        parsed(text)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("it''s", "'it\\'s'"),
        ("a\\", "'a\\\\'"),
        ("a\nb\r", "'a\\nb\\r'"),
        ('`x` -- "y" /* z', "'`x` -- \"y\" /* z'"),
    ],
)
def test_a_text_is_written_with_googles_escapes(value: str, written: str) -> None:
    text = f"SELECT '{value}' AS x FROM books".replace("`", "")
    assert parsed(text).sql() == f"SELECT {written} AS `x` FROM {FULL} AS `books`".replace(
        "`x` --", "x --"
    )


def test_more_tables_than_bigquery_names_are_refused() -> None:
    many = {f"t{number}": replace(BOOKS, id=f"t{number}") for number in range(50)}
    text = " UNION ALL ".join(f"SELECT author FROM {name}" for name in many)
    with pytest.raises(Invalid, match="more than 49 tables"):
        check.parse_select(text, many.get, lambda ids: None)


def test_access_is_asked_for_every_table_by_its_real_id() -> None:
    asked: list[str] = []
    text = (
        "with x as (select author from books) select * from x "
        'where exists (select 1 from "11111111-aaaa" where author in (select author from secret))'
    )
    with pytest.raises(Invalid, match="secret"):
        check.parse_select(text, NAMES.get, asked.extend)
    assert sorted(asked) == ["11111111-aaaa", "11111111-aaaa", "secret"]


def test_who_may_not_read_a_table_learns_nothing_of_it() -> None:
    class Refused(Exception):
        pass

    def refuse(ids: list[str]) -> None:
        raise Refused

    for text in ("SELECT * FROM books", "SELECT * FROM unknown", "SELECT nothing FROM books"):
        with pytest.raises(Refused):
            check.parse_select(text, NAMES.get, refuse)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("SELECT author FROM books", "LIMIT 11"),
        ("SELECT author FROM books LIMIT 5", "LIMIT 5"),
        ("SELECT author FROM books LIMIT 500 OFFSET 2", "LIMIT 11 OFFSET 2"),
        ("SELECT 1 UNION ALL SELECT 2", "LIMIT 11"),
    ],
)
def test_the_number_of_rows_is_limited(text: str, limit: str) -> None:
    assert parsed(text).sql(11).endswith(limit)


def test_a_syntax_error_names_the_place() -> None:
    with pytest.raises(Invalid, match='syntax error at or near "FROM"'):
        parsed("SELECT ** FROM foobar")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT 1" + ",1" * 1664, "at most 1664 entries"),
        ("SELECT 1 UNION SELECT 1" + ",1" * 1664, "at most 1664 entries"),
        ("SELECT `a`" + ",1" * 1664, "at most 1664 entries"),
        ("SELECT 1 WHERE 1 IN (1" + ",1" * 5000 + ")", "too long"),
        ("SELECT 1" + ",1" * 49_990, "too long"),
        ("[" * 100_000, "too long"),
        ("(" * 9_999, "nested too deeply"),
    ],
)
def test_a_query_is_no_larger_than_can_be_read_in_a_moment(text, words):
    begun = time.process_time()
    with pytest.raises(Invalid, match=words):
        parsed(text)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "text",
    ["SELECT 1" + ",1" * 1663, "SELECT 1 WHERE 1 IN (1" + ",1" * 4_900 + ")"],
    ids=["outputs", "values"],
)
def test_the_largest_query_takes_seconds_and_not_minutes(text):
    begun = time.process_time()
    assert parsed(text).sql()
    assert time.process_time() - begun < 10
