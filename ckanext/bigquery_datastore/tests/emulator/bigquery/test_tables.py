"""A table's modified time, counts and schema follow every change (facts, section 4)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from google.cloud import bigquery
from google.cloud.bigquery import SchemaField, Table

from ..conftest import Emulator, run, until


@pytest.fixture
def table(bq: bigquery.Client, dataset: str) -> Table:
    fields = [SchemaField("_id", "INT64", description="the row"), SchemaField("name", "STRING")]
    return bq.create_table(Table(f"local.{dataset}.t", fields))


CHANGES = {
    "insert": ("INSERT INTO {t} (_id, name) VALUES (3, 'c'), (4, NULL)", 4),
    "update": ("UPDATE {t} SET name = 'x' WHERE _id = 1", 2),
    "delete": ("DELETE FROM {t} WHERE _id = 1", 1),
    "truncate": ("TRUNCATE TABLE {t}", 0),
    "merge": (
        "MERGE {t} t USING (SELECT 1 AS _id, 'm' AS name UNION ALL SELECT 9, 'n') s "
        "ON t._id = s._id WHEN MATCHED THEN UPDATE SET name = s.name "
        "WHEN NOT MATCHED THEN INSERT (_id, name) VALUES (s._id, s.name)",
        3,
    ),
    "script": ("DECLARE n INT64 DEFAULT 5; INSERT INTO {t} (_id) VALUES (n); SELECT n;", 3),
    "committed transaction": (
        "BEGIN TRANSACTION; DELETE FROM {t} WHERE _id = 1; COMMIT TRANSACTION;",
        1,
    ),
    "dynamic statement": ("EXECUTE IMMEDIATE 'INSERT INTO {t} (_id) VALUES (8)'; SELECT 1;", 3),
    "replacement": ("CREATE OR REPLACE TABLE {t} AS SELECT 1 AS _id, 'a' AS name", 1),
    "added column": ("ALTER TABLE {t} ADD COLUMN more FLOAT64", 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_by_sql_moves_the_modified_time_and_the_row_count(
    bq: bigquery.Client, table: Table, change: str
) -> None:
    name = f"`{table.dataset_id}.t`"
    run(bq, f"INSERT INTO {name} (_id, name) VALUES (1, 'a'), (2, 'b')")
    before = bq.get_table(table)
    sql, rows = CHANGES[change]
    run(bq, sql.format(t=name))
    after = bq.get_table(table)
    assert after.modified > before.modified
    assert after.etag != before.etag
    assert after.num_rows == rows


NO_CHANGES = {
    "select": "SELECT * FROM {t}",
    "update of no row": "UPDATE {t} SET name = 'x' WHERE _id = 77",
    "delete of no row": "DELETE FROM {t} WHERE _id = 77",
    "transaction rolled back": (
        "BEGIN TRANSACTION; DELETE FROM {t} WHERE TRUE; ROLLBACK TRANSACTION;"
    ),
    "transaction left open": "BEGIN TRANSACTION; DELETE FROM {t} WHERE TRUE;",
    "transaction that failed": (
        "BEGIN BEGIN TRANSACTION; DELETE FROM {t} WHERE TRUE; SELECT ERROR('no'); "
        "COMMIT TRANSACTION; EXCEPTION WHEN ERROR THEN ROLLBACK TRANSACTION; END"
    ),
}


@pytest.mark.parametrize("statement", NO_CHANGES)
def test_what_changes_no_row_leaves_the_modified_time(
    bq: bigquery.Client, table: Table, statement: str
) -> None:
    name = f"`{table.dataset_id}.t`"
    run(bq, f"INSERT INTO {name} (_id) VALUES (1)")
    before = bq.get_table(table)
    run(bq, NO_CHANGES[statement].format(t=name))
    after = bq.get_table(table)
    assert (after.modified, after.num_rows) == (before.modified, 1)


def test_no_two_changes_share_a_modified_time(bq: bigquery.Client, table: Table) -> None:
    def insert(number: int) -> None:
        run(bq, f"INSERT INTO `{table.dataset_id}.t` (_id) VALUES ({number})")

    seen = {bq.get_table(table).modified}
    for number in range(10):
        insert(number)
        seen.add(bq.get_table(table).modified)
    assert len(seen) == 11
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(insert, range(10, 22)))
    assert bq.get_table(table).num_rows == 22


def test_a_description_moves_the_modified_time_and_keeps_the_rows(
    bq: bigquery.Client, table: Table
) -> None:
    run(bq, f"INSERT INTO `{table.dataset_id}.t` (_id) VALUES (1)")
    before = bq.get_table(table)
    before.description = "words"
    after = bq.update_table(before, ["description"])
    assert after.modified > before.modified
    assert (after.description, after.num_rows) == ("words", 1)


def test_column_descriptions_survive_a_change_of_the_table(
    bq: bigquery.Client, table: Table
) -> None:
    run(bq, f"ALTER TABLE `{table.dataset_id}.t` ADD COLUMN more NUMERIC")
    fields = bq.get_table(table).schema
    assert [(f.name, f.field_type, f.description) for f in fields] == [
        ("_id", "INTEGER", "the row"),
        ("name", "STRING", None),
        ("more", "NUMERIC", None),
    ]


def test_a_patched_schema_adds_columns_and_drops_none(bq: bigquery.Client, table: Table) -> None:
    run(bq, f"INSERT INTO `{table.dataset_id}.t` (_id) VALUES (1)")
    table = bq.get_table(table)
    table.schema = [*table.schema, SchemaField("added", "BIGNUMERIC")]
    bq.update_table(table, ["schema"])
    assert [dict(row) for row in bq.list_rows(bq.get_table(table))] == [
        {"_id": 1, "name": None, "added": None}
    ]
    table = bq.get_table(table)
    table.schema = table.schema[:1]
    with pytest.raises(BadRequest, match="Field name is missing in new schema"):
        bq.update_table(table, ["schema"])


def test_an_old_etag_is_refused(bq: bigquery.Client, table: Table) -> None:
    stale = bq.get_table(table)
    run(bq, f"INSERT INTO `{table.dataset_id}.t` (_id) VALUES (1)")
    stale.description = "late"
    with pytest.raises(PreconditionFailed):
        bq.update_table(stale, ["description"])


def test_num_bytes_are_the_sizes_of_bigquerys_types(bq: bigquery.Client, dataset: str) -> None:
    run(
        bq,
        f"CREATE TABLE `{dataset}.s` AS SELECT 1 AS i, 1.5 AS f, TRUE AS b, 'äb' AS s, b'abc' AS y,"
        " NUMERIC '1' AS n, DATE '2020-01-01' AS d, CAST(NULL AS INT64) AS nothing, [1, 2] AS many",
    )
    assert bq.get_table(f"local.{dataset}.s").num_bytes == 8 + 8 + 1 + 5 + 5 + 16 + 8 + 0 + 16


def test_a_missing_table_or_dataset_is_named_in_the_404(bq: bigquery.Client, dataset: str) -> None:
    with pytest.raises(NotFound, match=f"Not found: Table local:{dataset}.nope") as caught:
        bq.get_table(f"local.{dataset}.nope")
    assert caught.value.errors[0]["reason"] == "notFound"
    with pytest.raises(NotFound, match="Not found: Dataset local:nowhere"):
        bq.get_table("local.nowhere.t")
    with pytest.raises(NotFound, match="Not found: Dataset local:nowhere"):
        bq.get_dataset("nowhere")


def test_a_table_is_created_once(bq: bigquery.Client, table: Table) -> None:
    with pytest.raises(Conflict, match=f"Already Exists: Table local:{table.dataset_id}.t"):
        bq.create_table(Table(table.reference))


def test_a_view_shows_its_query_and_is_no_table(bq: bigquery.Client, table: Table) -> None:
    run(bq, f"INSERT INTO `{table.dataset_id}.t` (_id, name) VALUES (1, 'a')")
    view = Table(f"local.{table.dataset_id}.v")
    view.view_query = f"SELECT name FROM `local.{table.dataset_id}.t`"
    made = bq.create_table(view)
    assert (made.table_type, made.num_rows) == ("VIEW", None)
    assert [tuple(row) for row in bq.query_and_wait(f"SELECT * FROM `{table.dataset_id}.v`")] == [
        ("a",)
    ]


def test_a_streaming_buffer_can_be_put_on_a_table(
    emulator: Emulator, bq: bigquery.Client, table: Table
) -> None:
    path = f"tables/local/{table.dataset_id}/t"
    emulator.admin("PUT", path, {"streamingBuffer": {"estimatedRows": "5", "estimatedBytes": "9"}})
    buffer = bq.get_table(table).streaming_buffer
    assert buffer is not None and buffer.estimated_rows == 5
    emulator.admin("PUT", path, {"streamingBuffer": None})
    assert bq.get_table(table).streaming_buffer is None


def test_a_dataset_in_use_is_not_deleted(bq: bigquery.Client, table: Table) -> None:
    with pytest.raises(BadRequest, match="is still in use"):
        bq.delete_dataset(table.dataset_id)
    assert [item.table_id for item in bq.list_tables(table.dataset_id)] == ["t"]


def test_a_description_survives_on_a_table_made_by_a_query(
    bq: bigquery.Client, dataset: str
) -> None:
    run(bq, f"CREATE TABLE `{dataset}.q` AS SELECT 1 AS a, [STRUCT('x' AS y)] AS many")
    table = bq.get_table(f"local.{dataset}.q")
    table.schema = [SchemaField("a", "INTEGER", description="words"), table.schema[1]]
    bq.update_table(table, ["schema"])
    run(bq, f"INSERT INTO `{dataset}.q` (a) VALUES (2)")
    assert bq.get_table(table).schema[0].description == "words"


@pytest.fixture
def mortal(bq: bigquery.Client, dataset: str) -> str:
    """A dataset whose new tables expire, as those of a project without billing do."""
    changed = bigquery.Dataset(f"local.{dataset}")
    changed.default_table_expiration_ms = 3_600_000
    bq.update_dataset(changed, ["default_table_expiration_ms"])
    return dataset


MADE_BY = {
    "statement": "CREATE TABLE {t} AS SELECT 1 AS n",
    "definition": "CREATE TABLE {t} (n INT64) AS SELECT 1",
    "replacement": "CREATE OR REPLACE TABLE {t} (n INT64) AS SELECT 2",
    "view": "CREATE VIEW {t} AS SELECT 1 AS n",
}


@pytest.mark.parametrize("way", ["request", "load", *MADE_BY])
def test_what_is_new_expires_with_the_datasets_default(
    bq: bigquery.Client, mortal: str, way: str
) -> None:
    name = f"local.{mortal}.t"
    if way in ("request", "replacement"):
        kept = bq.create_table(Table(name, [SchemaField("n", "INT64")]))
        assert kept.expires is not None
        kept.expires = None
        assert bq.update_table(kept, ["expires"]).expires is None
    if way == "load":
        config = bigquery.LoadJobConfig(schema=[SchemaField("n", "INT64")])
        bq.load_table_from_json([{"n": 1}], name, job_config=config).result()
    elif way in MADE_BY:
        run(bq, MADE_BY[way].format(t=f"`{mortal}.t`"))
    found = bq.get_table(name)
    if way == "request":
        assert found.expires is None
        return
    assert found.expires is not None
    left = found.expires - datetime.now(timezone.utc)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


def test_an_expired_table_is_gone(bq: bigquery.Client, mortal: str) -> None:
    brief = Table(f"local.{mortal}.t", [SchemaField("n", "INT64")])
    brief.expires = datetime.now(timezone.utc) + timedelta(seconds=0.3)
    # What is said of the table itself counts more than the dataset's default.
    assert bq.create_table(brief).expires == brief.expires.replace(
        microsecond=brief.expires.microsecond // 1000 * 1000
    )
    until(lambda: not list(bq.list_tables(mortal)))
    with pytest.raises(NotFound):
        bq.get_table(brief)
    with pytest.raises((NotFound, BadRequest)):
        run(bq, f"SELECT * FROM `{mortal}.t`")
