"""GoogleSQL before DuckDB: what BigQuery refuses is refused here, in the same words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery

from ckanext.bigquery_datastore.tests.emulated import emulator_python

from ..conftest import Emulator, run

COLUMNS = (
    "n INT64, s STRING, f FLOAT64, d NUMERIC, j JSON, ts TIMESTAMP, a ARRAY<STRING>, "
    "st STRUCT<x INT64, y STRING>, r RANGE<DATE>, g GEOGRAPHY"
)


@pytest.fixture(autouse=True)
def asked(emulator: Emulator) -> Iterator[None]:
    emulator.admin("PUT", "switches", {"googlesql": True})
    yield
    emulator.admin("PUT", "switches", {"googlesql": False})


@pytest.fixture
def table(bq: bigquery.Client, dataset: str) -> Iterator[str]:
    name = f"local.{dataset}.t"
    run(bq, f"CREATE TABLE `{name}` ({COLUMNS})")
    yield name


VALID = (
    "SELECT * FROM `{t}` ORDER BY n LIMIT 3 OFFSET 1",
    "SELECT t.n, t.s AS S FROM `{t}` LIMIT 0",
    "SELECT n FROM {t} AS x WHERE x.s IN UNNEST(['a'])",
    "SELECT COUNT(*), COUNT(DISTINCT s) FROM `{t}`",
    "SELECT n FROM `{t}` EXCEPT DISTINCT SELECT 1",
    "SELECT n FROM `{t}` WHERE SEARCH(s, 'a') OR CONTAINS_SUBSTR(s, 'a')",
    "SELECT n FROM `{t}` WHERE SEARCH((s, j), 'a', analyzer => 'NO_OP_ANALYZER')",
    "SELECT CONCAT(s, n) FROM `{t}`",
    "SELECT JSON_VALUE(j, '$.a'), TO_JSON_STRING(st), st.x FROM `{t}`",
    "WITH w AS (SELECT n FROM `{t}`) SELECT n FROM w UNION ALL SELECT 2",
    "INSERT INTO `{t}` (n, s) VALUES (1, 'x')",
    "INSERT INTO `{t}` (n, d) SELECT 1, CAST('1.5' AS NUMERIC)",
    "UPDATE `{t}` SET s = 'y' WHERE n = 1",
    "DELETE FROM `{t}` WHERE TRUE",
    "MERGE `{t}` AS t USING (SELECT 1 AS n) AS w ON t.n = w.n "
    "WHEN MATCHED THEN UPDATE SET s = 'z' WHEN NOT MATCHED THEN INSERT (n) VALUES (n)",
    "TRUNCATE TABLE `{t}`",
    "ALTER TABLE `{t}` ADD COLUMN more INT64, ADD COLUMN most INT64",
    "CREATE TABLE `{t}2` (a STRING OPTIONS(description='x')) CLUSTER BY a "
    "OPTIONS(labels=[('a', 'b')]) AS SELECT s FROM `{t}`",
    "CREATE VIEW `{t}3` AS SELECT n FROM `{t}`",
    "DROP TABLE IF EXISTS `{t}9`",
    "BEGIN TRANSACTION; DELETE FROM `{t}` WHERE n = 1; COMMIT TRANSACTION;",
    "SELECT 1;",
)


@pytest.mark.parametrize("sql", VALID)
def test_what_bigquery_runs_is_run(bq: bigquery.Client, table: str, sql: str) -> None:
    assert run(bq, sql.format(t=table)).state == "DONE"


INVALID = {
    "SELECT m FROM `{t}`": "Unrecognized name: m at [1:8]",
    "SELECT n FRM `{t}`": "Syntax error: Expected end of input but got",
    "SELECT n FROM `{t}` WHERE s = 1": "No matching signature for operator =",
    "SELECT n, s FROM `{t}` GROUP BY n": "references column s which is neither grouped nor",
    "SELECT n, 1 AS N FROM `{t}`": "Duplicate column names in the result are not supported. "
    "Found duplicate(s): n",
    "SELECT n FROM `{t}` EXCEPT ALL SELECT 1": "EXCEPT ALL is not supported",
    "SELECT n FROM `{t}` INTERSECT ALL SELECT 1": "INTERSECT ALL is not supported",
    "SELECT DISTINCT j FROM `{t}`": "Column j of type JSON cannot be used in SELECT DISTINCT",
    "SELECT COUNT(*) FILTER (WHERE n > 1) FROM `{t}`": "Syntax error",
    "SELECT PI()": "Function not found: PI",
    "SELECT EXTRACT(DOW FROM ts) FROM `{t}`": "DOW",
    "SELECT SEARCH(s) FROM `{t}`": "Signature: SEARCH(ANY, STRING",
    "SELECT n FROM `{t}` WHERE s LIKE 'a' ESCAPE 'b'": "Syntax error",
    "SELECT n FROM `{t}` WHERE n = @nobody": "Query parameter 'nobody' not found",
    "INSERT INTO `{t}` (d) SELECT 1.5 + f FROM `{t}`": "has type FLOAT64 which cannot be",
    "INSERT INTO `{t}` (m) VALUES (1)": "Column m is not present",
    "UPDATE `{t}` SET n = 1": "UPDATE must have a WHERE clause",
    "CREATE TABLE `{t}2` (d NUMERIC) AS SELECT 1.5": "cannot be coerced from",
    "CREATE TABLE `{t}2` (d INT64) OPTIONS(colour='x') AS SELECT 1": "Unknown option: colour",
    "ALTER TABLE `{t}` DROP COLUMN m": "Column not found: m",
    "EXPORT DATA OPTIONS(uri='gs://exports/x-*', format='CSV', heading=TRUE) AS SELECT 1 AS a": (
        "Unknown option: heading"
    ),
    "EXPORT DATA OPTIONS(uri='gs://exports/x-*', format='CSV') AS SELECT m FROM `{t}`": (
        "Unrecognized name: m"
    ),
    "BEGIN TRANSACTION; DELET FROM `{t}` WHERE n = 1; COMMIT TRANSACTION;": "Syntax error",
}


@pytest.mark.parametrize("sql", INVALID)
@pytest.mark.parametrize("dry", [False, True], ids=["run", "dry run"])
def test_what_bigquery_refuses_is_refused_in_googlesqls_words(
    bq: bigquery.Client, table: str, sql: str, dry: bool
) -> None:
    with pytest.raises(BadRequest) as refusal:
        run(bq, sql.format(t=table), dry_run=dry)
    assert INVALID[sql] in refusal.value.message
    assert refusal.value.errors[0]["reason"] == "invalidQuery"


def test_a_parameter_has_the_type_that_the_request_says(bq: bigquery.Client, table: str) -> None:
    sql = f"SELECT n FROM `{table}` WHERE n IN UNNEST(@wanted)"
    numbers = bigquery.ArrayQueryParameter("wanted", "INT64", [1])
    assert run(bq, sql, query_parameters=[numbers]).state == "DONE"
    words = bigquery.ArrayQueryParameter("wanted", "STRING", ["1"])
    with pytest.raises(BadRequest, match="IN UNNEST"):
        run(bq, sql, query_parameters=[words])
    first = bigquery.ScalarQueryParameter(None, "STRING", "x")
    (row,) = run(bq, "SELECT CONCAT(?, 'y')", query_parameters=[first]).result()
    assert row[0] == "xy"


def test_a_table_that_is_not_there_is_not_found(bq: bigquery.Client, dataset: str) -> None:
    with pytest.raises(NotFound):
        run(bq, f"SELECT n FROM `local.{dataset}.nobody`")


def test_many_threads_are_answered_each_for_itself(bq: bigquery.Client, table: str) -> None:
    def answer(number: int) -> str:
        column = "n" if number % 2 else f"m{number}"
        try:
            return run(bq, f"SELECT {column} FROM `{table}`").state
        except BadRequest as error:
            return error.message

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(answer, range(64)))
    for number, words in enumerate(answers):
        expected = "DONE" if number % 2 else f"Unrecognized name: m{number} at [1:8]"
        assert expected in words


def test_the_switch_lets_a_statement_pass_unseen(
    emulator: Emulator, bq: bigquery.Client, table: str
) -> None:
    sql = f"SELECT n FROM `{table}` EXCEPT ALL SELECT 1"
    emulator.admin("PUT", "switches", {"googlesql": False})
    assert run(bq, sql).state == "DONE"
    emulator.admin("PUT", "switches", {"googlesql": True})
    with pytest.raises(BadRequest, match="EXCEPT ALL"):
        run(bq, sql)


def _in_emulators_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [emulator_python(), "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


_PACKAGE = "ckanext.bigquery_datastore.emulator.bigquery.googlesql"


def test_without_its_package_the_emulator_says_so_and_goes_on() -> None:
    code = (
        f"import sys; sys.modules['zetasql'] = None\nfrom {_PACKAGE} import judge_or_none\n"
        "print(judge_or_none())"
    )
    done = _in_emulators_python(code)
    assert done.stdout == "None\n"
    assert "GoogleSQL is not installed (zetasql" in done.stderr
    assert "ckanext-bigquery-datastore[emulator]" in done.stderr


def test_a_deep_expression_is_no_failure(bq: bigquery.Client, table: str) -> None:
    terms = " OR ".join(f"n = {number} AND f > {number} + n" for number in range(200))
    assert run(bq, f"SELECT n FROM `{table}` WHERE {terms}").state == "DONE"
    sums = "+".join(["n"] * 120)
    assert run(bq, f"SELECT {sums} AS x FROM `{table}`").state == "DONE"
    with pytest.raises(BadRequest, match="Unrecognized name: nobody"):
        run(bq, f"SELECT {sums} + nobody AS x FROM `{table}`")


def test_after_a_trap_the_next_statement_meets_a_new_instance() -> None:
    code = f"""
from {_PACKAGE}.judge import Judge
from {_PACKAGE}.wasm import Service
from ckanext.bigquery_datastore.emulator.errors import ApiError
judge = Judge(Service())
judge.check("SELECT " + " + ".join(["1"] * 5000), (), lambda names: None)
try:
    judge.check("SELECT nobody", (), lambda names: None)
except ApiError as error:
    print(error.message)
"""
    done = _in_emulators_python(code)
    assert "call stack exhausted" in done.stderr
    assert done.stdout == "Unrecognized name: nobody at [1:8]\n"


def test_two_that_start_at_once_compile_once_and_a_broken_file_is_made_anew(
    tmp_path: Path,
) -> None:
    # GoogleSQL itself takes a minute to compile: this one takes a second.
    source = tmp_path / "other.wasm"
    body = "".join(f"(i32.add (local.get 0) (i32.const {n}))drop " for n in range(20))
    functions = f"(func (param i32) {body})" * 1000
    text = tmp_path / "other.wat"
    text.write_text(f"(module {functions})")
    _in_emulators_python(
        "from pathlib import Path; import wasmtime\n"
        f"Path({str(source)!r}).write_bytes(wasmtime.wat2wasm(Path({str(text)!r}).read_text()))"
    )
    code = f"""
from {_PACKAGE} import wasm
from {_PACKAGE}.wasm import Module, compiled_file
wasm.get_wasm_path = lambda: {str(source)!r}
compiled_file().parent.mkdir(parents=True, exist_ok=True)
made = []
compiled = Module._keep
Module._keep = lambda self, data: (made.append(1), compiled(self, data))
Module(compiled_file())
print(len(made))
"""
    folder = tmp_path / "ckanext-bigquery-datastore"
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: _in_emulators_python(code, **environment), range(2)))
    assert sorted(done.stdout for done in both) == ["0\n", "1\n"], [d.stderr for d in both]
    (file,) = folder.glob("*.cwasm")
    file.write_bytes(file.read_bytes()[:1000])
    assert _in_emulators_python(code, **environment).stdout == "1\n"
    assert not list(folder.glob("*.new"))
