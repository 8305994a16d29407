"""Each export once, whole, whatever is killed; on the local BigQuery and Cloud Storage."""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery

from ckanext.bigquery_datastore.backend.table import lookup
from ckanext.bigquery_datastore.dump import engine as engine_module
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.state import Ready, Running
from ckanext.bigquery_datastore.errors import BadRequest, ExportFailed, NotReachable, TooLarge
from ckanext.bigquery_datastore.tests.dump.exporting import Place, a_place, release, spawn

ROWS = [{"name": f"name {number}", "size": number / 4} for number in range(1000)]
CSV = b"_id,name,size\n" + b"".join(
    b"%d,name %d,%s\n" % (number + 1, number, f"{number / 4:g}".encode()) for number in range(1000)
)
EMPTY = {"csv": b"_id,name,size\n", "tsv": b"_id\tname\tsize\n", "ndjson": b""}


@pytest.fixture()
def place() -> Iterator[Place]:
    name = uuid.uuid4().hex[:12]
    with a_place(f"engine_{name}", f"engine-{name}") as place:
        place.fill("t", ROWS, name="STRING", size="FLOAT64")
        yield place


def last_names(place: Place) -> list[str]:
    return sorted(found.name.rpartition("/")[2] for found in place.store.list(""))


# --- each export once


def test_the_second_request_gets_the_file_of_the_first(place):
    first = place.advance(place.plan("t", "csv"))
    second = place.advance(place.plan("t", "csv"))
    assert isinstance(first, Ready) and isinstance(second, Ready)
    assert (first.cached, second.cached) == (False, True)
    assert first.objects[0].generation == second.objects[0].generation
    assert len(place.export_jobs()) == 1


def test_a_change_of_the_data_makes_a_new_export_with_the_new_rows(place):
    before = place.file("t", "csv")
    place.bigquery.query(
        f"INSERT `{place.dataset}.t` (_id, name, size) VALUES (1001, 'new', 1)"
    ).result()
    assert place.file("t", "csv") == before + b"1001,new,1\n"
    assert len(place.export_jobs()) == 2


def test_forty_first_requests_from_four_processes_make_one_job(place):
    processes = [spawn(place, "t", "csv", threads=10) for _ in range(4)]
    for process in processes:
        release(process)
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    assert len(place.export_jobs()) == 1
    assert place.file("t", "csv") == CSV


@pytest.mark.parametrize("format_name", ["csv", "tsv", "csv.gz", "tsv.gz"])
def test_a_byte_order_mark_costs_no_second_export(place, format_name):
    plain = place.file("t", format_name)
    marked = replace(place.plan("t", format_name), bom=True)
    first, second = place.advance(marked), place.advance(marked)
    assert isinstance(first, Ready) and isinstance(second, Ready)
    assert first.objects == second.objects and len(first.objects) == 1
    data = place.storage.bucket(place.bucket).blob(marked.target).download_as_bytes()
    assert data.endswith(plain)
    unpacked = gzip.decompress if format_name.endswith(".gz") else bytes
    assert unpacked(data) == b"\xef\xbb\xbf" + unpacked(plain)
    assert first.rows == 1000
    assert len(place.export_jobs()) == 1
    assert last_names(place) == ["attempt", f"data.{format_name}", f"data.{format_name}"]


def test_an_export_is_one_line_in_the_log_however_many_assemble_it(place, caplog):
    place = replace(place, labels={"emulator_shards": "7"})
    plan = place.plan("t", "csv")
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(20) as threads:
        states = list(threads.map(lambda _: place.advance(plan), range(20)))
    assert [state.cached for state in states].count(False) == 1
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Exported ")]
    job = place.export_jobs()[0]
    assert len(said) == 1
    assert re.fullmatch(
        rf"Exported {plan.target}: job {job.job_id}, {job.total_bytes_billed} bytes billed, "
        rf"1000 rows, 7 shards, \d+\.\d s, {len(CSV)} bytes",
        said[0],
    )


def test_forty_requests_for_the_file_with_its_mark_make_one_job_and_one_file(place):
    plan = replace(place.plan("t", "csv"), bom=True)
    with ThreadPoolExecutor(40) as threads:
        states = list(threads.map(lambda _: place.advance(plan), range(40)))
    assert {type(state) for state in states} == {Ready}
    assert len({state.objects[0].generation for state in states}) == 1
    assert len(place.export_jobs()) == 1


def test_a_mark_stands_before_a_file_that_no_one_object_can_hold(place, monkeypatch):
    place = replace(place, labels={"emulator_shards": "5"})
    monkeypatch.setattr(engine_module, "OBJECT_LIMIT", 100)
    for _ in range(2):
        ready = place.advance(replace(place.plan("t", "csv"), bom=True))
        assert isinstance(ready, Ready)
        bucket = place.storage.bucket(place.bucket)
        data = b"".join(bucket.blob(part.name).download_as_bytes() for part in ready.objects)
        assert data == b"\xef\xbb\xbf" + CSV
    assert len(place.export_jobs()) == 1


# --- whatever is killed


# With 40 shards: 1 claims, 2 starts the job, 3 writes head or footer, 4 and 5 compose the inner
# nodes, 6 publishes; what follows are 43 deletions.
@pytest.mark.parametrize("kill_after", [1, 2, 3, 4, 5, 6, 7, 30, 49])
@pytest.mark.parametrize("format_name", ["csv", "parquet"])
def test_after_a_kill_at_any_step_the_next_request_gets_the_whole_file(
    place, format_name, kill_after
):
    place = replace(place, labels={"emulator_shards": "40"})
    process = spawn(place, "t", format_name, kill_after=kill_after)
    release(process)
    assert process.wait() == -signal.SIGKILL
    data = place.file("t", format_name)
    if format_name == "csv":
        assert data == CSV
    else:
        assert pq.read_table(io.BytesIO(data))["name"].to_pylist() == [r["name"] for r in ROWS]
    assert len(place.export_jobs()) == 1


# --- whatever BigQuery writes


@pytest.mark.parametrize("shards", ["1", "2", "33", "101", "1100"])
def test_any_number_of_shards_is_the_same_file(place, shards):
    place = replace(place, labels={"emulator_shards": shards})
    assert place.file("t", "csv") == CSV
    assert last_names(place) == ["attempt", "data.csv"]


@pytest.mark.parametrize("shards", ["1", "2", "101"])
@pytest.mark.parametrize("format_name", list(EMPTY))
def test_no_rows_are_a_valid_file(place, format_name, shards):
    place = replace(place, labels={"emulator_shards": shards})
    assert place.file("t", format_name, filters={"name": "nobody"}) == EMPTY[format_name]


def test_no_rows_are_valid_in_the_compressed_formats_and_in_parquet(place):
    place = replace(place, labels={"emulator_shards": "101"})
    nobody = {"filters": {"name": "nobody"}}
    assert gzip.decompress(place.file("t", "csv.gz", **nobody)) == EMPTY["csv"]
    assert gzip.decompress(place.file("t", "ndjson.gz", **nobody)) == b""
    table = pq.read_table(io.BytesIO(place.file("t", "parquet", **nobody)))
    assert (table.num_rows, table.column_names) == (0, ["_id", "name", "size"])


def test_more_shards_than_rows_leave_no_trace(place):
    place = replace(place, labels={"emulator_shards": "101"})
    two = place.file("t", "csv", filters={"_id": [1, 2]})
    assert two == b"_id,name,size\n1,name 0,0\n2,name 1,0.25\n"
    table = pq.read_table(io.BytesIO(place.file("t", "parquet", filters={"_id": [1, 2]})))
    assert table["name"].to_pylist() == ["name 0", "name 1"]


def test_gzip_members_are_one_file(place):
    place = replace(place, labels={"emulator_shards": "7"})
    assert gzip.decompress(place.file("t", "csv.gz")) == CSV


def test_ndjson_follows_bigquerys_rules(place):
    place.fill("u", [{"name": "a<b", "size": None}], name="STRING", size="INT64")
    assert place.file("u", "ndjson") == b'{"_id":"1","name":"a\\u003cb"}\n'


def test_rows_are_sorted_by_id_and_an_explicit_sort_is_honoured(place):
    place = replace(place, labels={"emulator_shards": "13"})
    lines = place.file("t", "csv", sort="name desc, _id").splitlines()[1:]
    assert [line.split(b",")[1] for line in lines] == sorted(
        (row["name"].encode() for row in ROWS), reverse=True
    )


# --- never wait


def test_a_running_export_tells_its_progress_and_goes_on_by_itself(place):
    place = replace(place, labels={"emulator_run_seconds": "2"})
    plan = place.plan("t", "csv")
    begun = time.monotonic()
    state = place.advance(plan, seconds=0)
    assert isinstance(state, Running) and state.phase == "export"
    assert place.file("t", "csv") == CSV
    assert time.monotonic() - begun >= 2
    assert len(place.export_jobs()) == 1


# --- what fails


def test_more_bytes_than_allowed_are_refused_before_a_job_is_paid_for(place):
    place = replace(place, maximum_bytes_billed=1000)
    with pytest.raises(TooLarge, match="maximum_bytes_billed"):
        place.advance(place.plan("t", "csv"))
    assert place.export_jobs() == []


def test_an_export_that_runs_too_long_is_stopped_and_said_to_be(place):
    place = replace(place, labels={"emulator_run_seconds": "60"}, timeout_seconds=1)
    with pytest.raises(Exception, match="job_timeout_seconds"):
        place.advance(place.plan("t", "csv"))
    assert last_names(place) == ["attempt"]


def test_a_job_that_bigquery_does_not_stop_in_time_is_cancelled(place, monkeypatch):
    monkeypatch.setattr("ckanext.bigquery_datastore.dump.work._CANCEL_SECONDS", 0)
    plan = place.plan("t", "csv")
    place = replace(place, labels={"emulator_run_seconds": "60"})
    assert isinstance(place.advance(plan, seconds=0), Running)
    (job,) = place.export_jobs()
    assert job.to_api_repr()["configuration"]["jobTimeoutMs"] == "3600000"
    # As if the hour had passed: whoever looks has it cancelled, and then is told.
    hasty = replace(place, timeout_seconds=0)
    assert isinstance(hasty.advance(plan, seconds=0), Running)
    with pytest.raises(ExportFailed, match="was stopped"):
        place.advance(plan)
    assert len(place.export_jobs()) == 1


def test_a_failed_export_is_not_paid_for_again_by_the_next_click(place, monkeypatch):
    place = replace(place, labels={"emulator_run_seconds": "60"}, timeout_seconds=1)
    plan = place.plan("t", "csv")
    for _ in range(3):
        with pytest.raises(Exception, match="job_timeout_seconds"):
            place.advance(plan)
    # Sorted, and then not.
    assert len(place.export_jobs()) == 2
    # Later, somebody asks again, and it works.
    monkeypatch.setattr(engine_module, "FAILURE_TTL", -1)
    patient = replace(place, labels={}, timeout_seconds=3600)
    # Unsorted still: its sort is not tried, and paid for, once more.
    assert sorted(patient.file("t", "csv").splitlines()) == sorted(CSV.splitlines())
    assert len(place.export_jobs()) == 3


def test_files_that_somebody_removed_are_exported_anew(place):
    plan = place.plan("t", "csv")
    process = spawn(place, "t", "csv", kill_after=2)
    release(process)
    process.wait()
    store = place.store
    store.delete(found for found in store.list(plan.prefix) if "part-" in found.name)
    assert place.file("t", "csv") == CSV


def test_a_file_that_no_one_object_can_hold_is_its_parts_in_order(place, monkeypatch):
    place = replace(place, labels={"emulator_shards": "5"})
    monkeypatch.setattr(engine_module, "OBJECT_LIMIT", 100)
    assert place.file("t", "csv") == CSV
    ready = place.advance(place.plan("t", "csv"))
    assert isinstance(ready, Ready) and ready.cached
    assert [found.name.rpartition("/")[2].split("-")[0] for found in ready.objects] == [
        "head",
        *["part"] * 5,
    ]
    assert ready.size == len(CSV)


def test_an_extract_is_used_where_it_gives_the_same_and_costs_nothing(place):
    plan = place.plan("t", "ndjson")
    free = unordered(plan)
    assert free.by_extract and not plan.by_extract
    ready = place.advance(free)
    assert isinstance(ready, Ready)
    data = place.storage.bucket(place.bucket).blob(free.target).download_as_bytes()
    assert sorted(int(json.loads(line)["_id"]) for line in data.splitlines()) == list(
        range(1, 1001)
    )
    assert place.export_jobs() == []


def unordered(plan: DumpPlan) -> DumpPlan:
    return replace(plan, select=replace(plan.select, order_by=()))


EXTRACTED = {
    "a table": ({}, True),
    "rows in a streaming buffer": ({"streaming_buffer": True}, False),
    "a view": ({"kind": "VIEW"}, False),
    "an external table": ({"kind": "EXTERNAL"}, False),
    "rows that change data capture brings": ({"has_own_key": True}, False),
    "columns that ckan does not show": ({"columns": ()}, False),
}


@pytest.mark.parametrize("what", list(EXTRACTED))
def test_an_extract_is_not_used_where_it_would_give_other_rows(place, what):
    changes, by_extract = EXTRACTED[what]
    for format_name in ("ndjson", "ndjson.gz", "parquet"):
        plan = unordered(place.plan("t", format_name))
        assert replace(plan, table=replace(plan.table, **changes)).by_extract is by_extract
    for format_name in ("csv", "tsv", "json", "xml", "csv.gz"):
        assert not unordered(place.plan("t", format_name)).by_extract
    assert not unordered(place.plan("t", "parquet", fields=["name"])).by_extract


def test_a_key_that_bigquery_knows_of_is_seen(place):
    api = place.bigquery.get_table(f"{place.dataset}.t")
    keyed = {"tableConstraints": {"primaryKey": {"columns": ["_id"]}}}
    seen = bigquery.Table.from_api_repr({**api.to_api_repr(), **keyed})
    assert lookup.from_api(seen).has_own_key
    assert not place.plan("t", "parquet").table.has_own_key


def test_a_column_that_the_table_does_not_have_is_a_clear_refusal(place):
    with pytest.raises(BadRequest, match="fields"):
        place.plan("t", "csv", fields=["nothing"])


def test_a_bigquery_that_is_down_is_said_within_seconds(place, monkeypatch):
    plan = place.plan("t", "csv")
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr("ckanext.bigquery_datastore.clients.CALL_SECONDS", 1)
    begun = time.monotonic()
    with pytest.raises(NotReachable):
        Place(place.dataset, place.bucket).advance(plan)
    assert time.monotonic() - begun < 20
