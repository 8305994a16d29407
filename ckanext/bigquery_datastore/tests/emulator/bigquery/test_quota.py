"""A table takes five changes of its metadata in ten seconds; those of rows count, and are made."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import Forbidden, TooManyRequests
from google.cloud import bigquery
from google.cloud.bigquery import SchemaField, Table

from ckanext.bigquery_datastore.emulator.bigquery import quota
from ckanext.bigquery_datastore.emulator.bigquery.engine import TableName
from ckanext.bigquery_datastore.emulator.errors import ApiError

from ..conftest import Emulator, run

TOO_MANY = "too many table update operations for this table"


def patch(bq: bigquery.Client, table: Table, times: int) -> None:
    for number in range(times):
        table.description = str(number)
        table._properties.pop("etag", None)
        bq.update_table(table, ["description"], retry=None)


@pytest.fixture
def table(bq: bigquery.Client, dataset: str) -> Table:
    return bq.create_table(Table(f"local.{dataset}.t", [SchemaField("n", "INT64")]))


def test_the_sixth_change_is_refused_for_now(bq: bigquery.Client, table: Table) -> None:
    patch(bq, table, 4)
    with pytest.raises(Forbidden, match=TOO_MANY) as refused:
        patch(bq, table, 1)
    assert refused.value.errors[0]["reason"] == "rateLimitExceeded"
    # Nothing of it was done, and the name counts, whatever is done to the table.
    assert bq.get_table(table).description == "3"
    bq.delete_table(table)
    with pytest.raises(Forbidden, match=TOO_MANY):
        bq.create_table(Table(table.reference, table.schema), retry=None)


JOBS = {
    "load": None,
    "replacement": "CREATE OR REPLACE TABLE {t} (n INT64) AS SELECT 1",
    "added column": "ALTER TABLE {t} ADD COLUMN more FLOAT64",
}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_changes_the_table_ends_with_the_same_reason(
    bq: bigquery.Client, table: Table, job: str
) -> None:
    patch(bq, table, 4)
    sql = JOBS[job]
    with pytest.raises((Forbidden, TooManyRequests), match=TOO_MANY):
        if sql:
            run(bq, sql.format(t=f"`{table.dataset_id}.t`"))
        else:
            config = bigquery.LoadJobConfig(schema=table.schema)
            bq.load_table_from_json([{"n": 1}], table, job_config=config).result()
    assert bq.get_table(table).num_rows == 0


def test_changes_of_rows_count_and_are_never_refused(bq: bigquery.Client, table: Table) -> None:
    for _ in range(6):
        run(bq, f"INSERT INTO `{table.dataset_id}.t` (n) VALUES (1)")
    assert bq.get_table(table).num_rows == 6
    with pytest.raises(Forbidden, match=TOO_MANY):
        patch(bq, table, 1)


def test_it_can_be_switched_off(emulator: Emulator, bq: bigquery.Client, table: Table) -> None:
    emulator.admin("PUT", "switches", {"table_updates": False})
    patch(bq, table, 7)


def test_after_ten_seconds_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 100.0
    monkeypatch.setattr(quota.time, "monotonic", lambda: moment)
    updates, name = quota.UpdateQuota(lambda name: False), TableName("p", "d", "t")
    for _ in range(5):
        updates.take(name)
        moment += 1
    with pytest.raises(ApiError):
        updates.take(name)
    moment = 110.0
    updates.take(name)
    with pytest.raises(ApiError):
        updates.take(name)


def test_a_table_in_partitions_takes_fifty(bq: bigquery.Client, dataset: str) -> None:
    name = f"local.{dataset}.parted"
    bounds = bigquery.PartitionRange(start=0, end=100, interval=10)
    wanted = Table(name, [SchemaField("n", "INT64")])
    wanted.range_partitioning = bigquery.RangePartitioning(bounds, "n")
    made = bq.create_table(wanted)
    patch(bq, made, 49)
    with pytest.raises(Forbidden, match=TOO_MANY):
        patch(bq, made, 1)
