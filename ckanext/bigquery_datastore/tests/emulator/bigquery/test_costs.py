"""Bytes: counted as BigQuery documents it, limited, and known before a query runs."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from ..conftest import Emulator, run

MEGABYTE = 1024 * 1024


@pytest.fixture
def table(bq: bigquery.Client, dataset: str) -> str:
    run(bq, f"CREATE TABLE `{dataset}.t` AS SELECT x, 'abc' AS s FROM UNNEST([1, 2, 3, 4]) AS x")
    return f"`local.{dataset}.t`"


# Of a table of four rows: 8 bytes of x each, 2 + 3 of s.
READS = {
    "SELECT x FROM {t}": 32,
    "SELECT s FROM {t} WHERE x = 1": 52,
    "SELECT * FROM {t} ORDER BY x LIMIT 1": 52,
    "SELECT COUNT(*) FROM {t}": 0,
    "SELECT COUNT(s) FROM {t}": 20,
    "SELECT a.x FROM {t} AS a JOIN {t} AS b ON a.x = b.x": 32,
    "SELECT 1": 0,
    "INSERT INTO {t} (x, s) VALUES (9, 'y')": 0,
    "INSERT INTO {t} (x) SELECT x FROM {t}": 32,
    "UPDATE {t} SET s = 'abc' WHERE x = 1": 32 + 52,
    "DELETE FROM {t} WHERE x = 9": 32 + 52,
    "MERGE {t} AS t USING (SELECT 1 AS n) AS w ON t.x = w.n "
    "WHEN NOT MATCHED THEN INSERT (x) VALUES (n)": 32,
    "MERGE {t} AS t USING (SELECT 1 AS n) AS w ON t.x = w.n "
    "WHEN MATCHED THEN UPDATE SET s = 'abc'": 32 + 52,
    "TRUNCATE TABLE {t}": 0,
}


@pytest.mark.parametrize("sql", READS)
def test_what_is_read_counts_and_ten_megabytes_a_table_are_billed_at_least(
    bq: bigquery.Client, table: str, sql: str
) -> None:
    job = run(bq, sql.format(t=table))
    assert job.total_bytes_processed == READS[sql]
    assert job.total_bytes_billed == (10 * MEGABYTE if READS[sql] else 0)


def test_tables_without_googlesql_are_counted_whole(
    bq: bigquery.Client, table: str, emulator: Emulator
) -> None:
    emulator.admin("PUT", "switches", {"googlesql": False})
    assert run(bq, f"SELECT x FROM {table}").total_bytes_processed == 52
    assert run(bq, f"DELETE FROM {table} WHERE x = 9").total_bytes_processed == 52 + 52


def test_a_view_costs_what_its_query_names(bq: bigquery.Client, table: str, dataset: str) -> None:
    made = run(bq, f"CREATE VIEW `{dataset}.v` AS SELECT x FROM {table}")
    assert made.total_bytes_billed == 0
    assert run(bq, f"SELECT x FROM `{dataset}.v`").total_bytes_processed == 52


@pytest.fixture
def ranges(bq: bigquery.Client, dataset: str) -> str:
    """Ten partitions of ten rows, and one row beside them; each row counts 16 bytes."""
    run(
        bq,
        f"CREATE TABLE `{dataset}.r` (_id INT64, x INT64) PARTITION BY RANGE_BUCKET(_id, "
        "GENERATE_ARRAY(0, 100, 10)) AS SELECT n, n FROM UNNEST(GENERATE_ARRAY(0, 99)) AS n "
        "UNION ALL SELECT 1000, 1000",
    )
    return f"`local.{dataset}.r`"


# The partitions that are read, of ten; what is in none is always read.
PARTITIONS = {
    "_id BETWEEN 10 AND 19": 1,
    "_id BETWEEN 9 AND 20": 3,
    "_id = 55 AND x > 3": 1,
    "_id IN (1, 2, 99)": 2,
    "_id IN UNNEST([1, 2, 99])": 2,
    "_id IN UNNEST(@several)": 2,
    "_id = @one": 1,
    "CAST(@text AS INT64) = _id": 1,
    "_id < 10": 1,
    "_id <= 10": 2,
    "90 <= _id": 1,
    "_id > 89": 1,
    "_id > 5000": 0,
    "_id = 5 OR _id = 15": 2,
    "_id = 5 OR x = 15": 10,
    "_id + 0 = 5": 10,
    "_id = (SELECT 5)": 10,
    "NOT (_id > 10)": 10,
}


def test_a_table_that_is_named_twice_is_read_once(bq: bigquery.Client, ranges: str) -> None:
    count = f"(SELECT COUNT(*) FROM {ranges} WHERE _id BETWEEN 10 AND 19)"
    sql = f"SELECT {count}, x FROM {ranges} WHERE _id "
    assert run(bq, f"{sql} BETWEEN 10 AND 19").total_bytes_processed == 16 * 11
    assert run(bq, f"{sql} = 55").total_bytes_processed == 16 * 21
    assert run(bq, f"{sql} > x").total_bytes_processed == 16 * 101


@pytest.mark.parametrize("where", PARTITIONS)
def test_partitions_are_left_out_by_constants_alone(
    bq: bigquery.Client, ranges: str, where: str
) -> None:
    parameters = [
        bigquery.ArrayQueryParameter("several", "INT64", [1, 2, 99]),
        bigquery.ScalarQueryParameter("one", "INT64", 55),
        bigquery.ScalarQueryParameter("text", "STRING", "55"),
    ]
    job = run(bq, f"SELECT * FROM {ranges} WHERE {where}", query_parameters=parameters)
    assert job.total_bytes_processed == 16 * (10 * PARTITIONS[where] + 1)


def test_dml_pays_for_the_partitions_that_it_can_reach(bq: bigquery.Client, ranges: str) -> None:
    job = run(bq, f"UPDATE {ranges} SET x = 1 WHERE _id = 5")
    assert job.total_bytes_processed == 11 * 8 + 11 * 16
    merge = (
        f"MERGE {ranges} AS t USING (SELECT 5 AS n) AS s ON t._id = s.n AND t._id IN (5, 15) "
        "WHEN MATCHED THEN UPDATE SET x = 2"
    )
    assert run(bq, merge).total_bytes_processed == 21 * 8 + 21 * 16
    merge += " WHEN NOT MATCHED BY SOURCE AND _id = 5 THEN DELETE"
    assert run(bq, merge).total_bytes_processed == 101 * 8 + 101 * 16


def test_ranges_are_told_and_kept(bq: bigquery.Client, ranges: str, dataset: str) -> None:
    table = bigquery.Table(f"local.{dataset}.made", [bigquery.SchemaField("_id", "INTEGER")])
    table.range_partitioning = bigquery.RangePartitioning(
        bigquery.PartitionRange(0, 1000, 100), "_id"
    )
    bq.create_table(table)
    run(bq, f"INSERT INTO `{dataset}.made` (_id) VALUES (1), (150)")
    assert bq.get_table(table).range_partitioning == table.range_partitioning
    run(
        bq,
        f"CREATE TABLE `{dataset}.plain` (_id INT64) PARTITION BY "
        "RANGE_BUCKET(_id, GENERATE_ARRAY(-10, 1000, 10))",
    )
    plain = bq.get_table(f"local.{dataset}.plain").range_partitioning
    assert (plain.range_.start, plain.range_.end, plain.range_.interval) == (-10, 1000, 10)
    with pytest.raises(GoogleAPICallError, match="different partitioning spec"):
        run(bq, f"CREATE OR REPLACE TABLE {ranges} (_id INT64) AS SELECT 1")
    columns = "(_id INT64) PARTITION BY RANGE_BUCKET(_id, GENERATE_ARRAY(0, 9000, 1))"
    for count, refused in ((4000, False), (4001, True)):
        rows = f"SELECT n FROM UNNEST(GENERATE_ARRAY(1, {count})) AS n"
        with pytest.raises(GoogleAPICallError, match="Too many") if refused else nullcontext():
            run(bq, f"CREATE OR REPLACE TABLE `{dataset}.many` {columns} AS {rows}")
    assert bq.get_table(f"local.{dataset}.many").num_rows == 4000
    table = bigquery.Table(f"local.{dataset}.text", [bigquery.SchemaField("_id", "STRING")])
    table.range_partitioning = bigquery.RangePartitioning(
        bigquery.PartitionRange(0, 1000, 100), "_id"
    )
    with pytest.raises(GoogleAPICallError, match="no INTEGER"):
        bq.create_table(table)


def test_clustering_saves_blocks_and_only_the_running_statement_knows(
    bq: bigquery.Client, dataset: str, emulator: Emulator
) -> None:
    run(
        bq,
        f"CREATE TABLE `{dataset}.c` (k INT64, x INT64) CLUSTER BY k AS "
        "SELECT n, n FROM UNNEST(GENERATE_ARRAY(1, 1024)) AS n",
    )
    # 16 KiB that count as 1 GiB: 16 blocks of 64 MB.
    emulator.admin("PUT", "meter", {"factor": 2**16})
    assert bq.get_table(f"local.{dataset}.c").num_bytes == 2**30
    name, block = f"`local.{dataset}.c`", 64 * MEGABYTE
    assert run(bq, f"SELECT x FROM {name}").total_bytes_processed == 2**29
    sql = f"SELECT * FROM {name} WHERE k = 5"
    assert run(bq, sql).total_bytes_processed == 2 * block
    assert run(bq, f"{sql} AND x > 3").total_bytes_processed == 2 * block
    assert run(bq, f"SELECT * FROM {name} WHERE x = 5").total_bytes_processed == 2**30
    assert run(bq, f"SELECT * FROM {name} WHERE k < 513").total_bytes_processed == 9 * block
    changed = run(bq, f"UPDATE {name} SET x = 1 WHERE k = 5")
    assert changed.total_bytes_processed == block + 2**30  # half of two blocks: k alone
    dry = bq.query(sql, job_config=bigquery.QueryJobConfig(dry_run=True))
    assert dry.total_bytes_processed == 2**30
    accuracy = dry._properties["statistics"]["query"]["totalBytesProcessedAccuracy"]
    assert accuracy == "UPPER_BOUND"
    with pytest.raises(GoogleAPICallError, match="Query exceeded limit"):
        run(bq, sql, maximum_bytes_billed=2**30 - 1)


def test_a_result_is_given_again_for_nothing_as_long_as_its_table_is_the_same(
    bq: bigquery.Client, table: str
) -> None:
    sql = f"SELECT s FROM {table} WHERE x = @x"

    def asked(x: int, **options: bool) -> tuple[bool, int, int]:
        given = bigquery.ScalarQueryParameter("x", "INT64", x)
        job = run(bq, sql, query_parameters=[given], **options)
        return job.cache_hit, job.total_bytes_billed, job.result().total_rows

    cost = 10 * MEGABYTE
    assert asked(1) == (False, cost, 1)
    assert asked(1) == (True, 0, 1)
    assert asked(9) == (False, cost, 0)
    assert asked(1, use_query_cache=False) == (False, cost, 1)
    run(bq, f"INSERT INTO {table} (x, s) VALUES (1, 'new')")
    assert asked(1) == (False, cost, 2)
    for _ in range(2):
        assert not run(bq, f"SELECT s, CURRENT_TIMESTAMP() AS now FROM {table}").cache_hit


def test_costs_are_added_up_by_kind_label_and_identity(
    bq: bigquery.Client, table: str, emulator: Emulator
) -> None:
    begun = emulator.admin("GET", "costs")["now"]
    run(bq, f"SELECT x FROM {table}", labels={"site": "one"})
    run(bq, f"SELECT s FROM {table}", labels={"site": "two"})
    run(bq, f"UPDATE {table} SET s = '' WHERE x = 1", labels={"site": "one"})
    with pytest.raises(GoogleAPICallError):
        run(bq, f"SELECT ERROR('no') FROM {table} WHERE x = 1")
    # Metadata, and rows by tabledata.list.
    list(bq.list_rows(bq.get_table(table.strip("`"))))
    found = emulator.admin("GET", f"costs?since={begun}")
    assert found["billed"] == 30 * MEGABYTE
    assert found["dollars"] == pytest.approx(6.25 * 30 / 2**20)
    assert found["by_statement_type"]["UPDATE"]["processed"] == 32 + 52
    assert found["by_statement_type"]["SELECT"]["billed"] == 20 * MEGABYTE
    assert found["by_label"]["site:one"]["jobs"] == 2
    assert list(found["by_identity"]) == ["anonymous"]
    one = emulator.admin("GET", f"costs?since={begun}&label=site:two")
    assert (one["jobs"], one["billed"]) == (1, 10 * MEGABYTE)


def test_a_dry_run_tells_bytes_and_schema_and_runs_nothing(bq: bigquery.Client, table: str) -> None:
    config = bigquery.QueryJobConfig(dry_run=True)
    job = bq.query(f"SELECT x, s AS t FROM {table}", job_config=config)
    assert (job.state, job.total_bytes_processed) == ("DONE", 52)
    assert [(field.name, field.field_type) for field in job.schema] == [
        ("x", "INTEGER"),
        ("t", "STRING"),
    ]
    bq.query(f"DELETE FROM {table} WHERE TRUE", job_config=config)
    assert next(iter(bq.query_and_wait(f"SELECT COUNT(*) FROM {table}")))[0] == 4


def test_a_query_over_its_byte_limit_is_refused(bq: bigquery.Client, table: str) -> None:
    with pytest.raises(GoogleAPICallError) as caught:
        run(bq, f"SELECT x FROM {table}", maximum_bytes_billed=MEGABYTE)
    assert (
        "Query exceeded limit for bytes billed: 1048576. 10485760 or higher required."
        in caught.value.message
    )
    assert caught.value.errors[0]["reason"] == "bytesBilledLimitExceeded"
    run(bq, f"SELECT x FROM {table}", maximum_bytes_billed=10 * MEGABYTE)


def test_an_export_over_its_byte_limit_writes_nothing(
    bq: bigquery.Client, table: str, bucket: object, fresh: str
) -> None:
    sql = f"EXPORT DATA OPTIONS(uri='gs://exports/{fresh}/*.csv', format='CSV') AS SELECT * FROM "
    with pytest.raises(GoogleAPICallError, match="Query exceeded limit"):
        run(bq, sql + table, maximum_bytes_billed=1)
    assert list(bucket.list_blobs(prefix=fresh)) == []  # type: ignore[attr-defined]
