"""Jobs: an id once, RUNNING for a while, cancelled, timed out (facts, section 3)."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import httpx
import pytest
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    GoogleAPICallError,
    NotFound,
)
from google.cloud import bigquery

from ..conftest import LOCATION, Emulator, run, until


def start(bq: bigquery.Client, sql: str, job_id: str | None = None, **labels: str):  # type: ignore[no-untyped-def]
    config = bigquery.QueryJobConfig(labels=labels)
    return bq.query(sql, job_config=config, job_id=job_id, location=LOCATION, job_retry=None)


def submit_query(bq: bigquery.Client, job_id: str, dataset: str) -> None:
    start(bq, "SELECT 1", job_id)


def submit_load(bq: bigquery.Client, job_id: str, dataset: str) -> None:
    config = bigquery.LoadJobConfig(schema=[bigquery.SchemaField("a", "INT64")])
    bq.load_table_from_file(
        io.BytesIO(b"1\n"),
        f"local.{dataset}.l",
        job_id=job_id,
        job_config=config,
        location=LOCATION,
    )


def submit_extract(bq: bigquery.Client, job_id: str, dataset: str) -> None:
    target = f"gs://exports/{job_id}/x-*.csv"
    bq.extract_table(f"local.{dataset}.t", target, job_id=job_id, location=LOCATION)


HEAVY = (
    "SELECT COUNT(*) AS n FROM UNNEST(GENERATE_ARRAY(1, 1000000)) AS a, "
    "UNNEST(GENERATE_ARRAY(1, 1000000)) AS b WHERE MOD(a * b, 7) = 3"
)
SUBMISSIONS = {"query": submit_query, "load": submit_load, "extract": submit_extract}


@pytest.mark.parametrize("kind", SUBMISSIONS)
def test_a_job_id_is_taken_once(bq: bigquery.Client, dataset: str, fresh: str, kind: str) -> None:
    run(bq, f"CREATE TABLE `{dataset}.t` AS SELECT 1 AS a")
    SUBMISSIONS[kind](bq, fresh, dataset)
    for _ in range(2):
        with pytest.raises(Conflict) as caught:
            SUBMISSIONS[kind](bq, fresh, dataset)
        assert f"Already Exists: Job local:EU.{fresh}" in caught.value.message
        assert caught.value.errors[0]["reason"] == "duplicate"


def test_the_id_of_a_failed_job_is_burnt(bq: bigquery.Client, fresh: str) -> None:
    job = start(bq, "SELECT nothing_like_this", fresh)
    with pytest.raises(BadRequest):
        job.result(job_retry=None)
    with pytest.raises(Conflict):
        start(bq, "SELECT 1", fresh)


def test_of_many_who_insert_the_same_job_at_once_one_wins(
    emulator: Emulator, bq: bigquery.Client, fresh: str
) -> None:
    def submit(_: int) -> str:
        try:
            start(bq, "SELECT 1", fresh)
        except Conflict:
            return "refused"
        return "won"

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(submit, range(16)))
    assert sorted(outcomes) == ["refused"] * 15 + ["won"]
    refused = emulator.admin("GET", "jobs")["refused"]
    assert [entry["jobReference"]["jobId"] for entry in refused].count(fresh) == 15


def test_a_job_is_not_found_in_another_location(bq: bigquery.Client, fresh: str) -> None:
    start(bq, "SELECT 1", fresh)
    assert bq.get_job(fresh, location="EU").state == "DONE"
    with pytest.raises(NotFound, match=f"Not found: Job local:US.{fresh}"):
        bq.get_job(fresh, location="US")


def test_a_job_runs_as_long_as_its_label_says(bq: bigquery.Client) -> None:
    started = time.monotonic()
    job = start(bq, "SELECT 7 AS x", emulator_run_seconds="700ms")
    assert job.state == "RUNNING"
    seen = until(lambda: bq.get_job(job.job_id).timeline)
    assert seen[-1].completed_units + seen[-1].pending_units == 100
    assert [row.x for row in job.result()] == [7]
    assert time.monotonic() - started >= 0.7
    timeline = bq.get_job(job.job_id).timeline
    assert (timeline[-1].completed_units, timeline[-1].pending_units) == (100, 0)


def test_progress_advances_while_an_export_runs(
    bq: bigquery.Client, bucket: object, fresh: str
) -> None:
    job = start(
        bq,
        f"EXPORT DATA OPTIONS(uri='gs://exports/{fresh}/p-*.csv', format='CSV') AS SELECT 1 AS a",
        emulator_run_seconds="3",
        emulator_shards="2",
    )
    seen = set()
    while (polled := bq.get_job(job.job_id)).state != "DONE":
        statistics = polled._properties["statistics"]["query"]
        assert statistics["exportDataStatistics"] == {"fileCount": "0", "rowCount": "0"}
        seen.add(polled.timeline[-1].completed_units)
        time.sleep(0.05)
    assert len(seen) > 3
    final = polled._properties["statistics"]["query"]["exportDataStatistics"]
    assert final == {"fileCount": "2", "rowCount": "1"}


def test_other_requests_go_on_while_a_query_works(bq: bigquery.Client) -> None:
    heavy = start(bq, HEAVY)
    slowest = 0.0
    answered = 0
    while bq.get_job(heavy.job_id).state != "DONE" and answered < 20:
        began = time.monotonic()
        assert [row.x for row in bq.query_and_wait("SELECT 1 AS x")] == [1]
        slowest = max(slowest, time.monotonic() - began)
        answered += 1
    heavy.cancel()
    assert answered > 1
    assert slowest < 5


def test_a_running_job_can_be_cancelled(bq: bigquery.Client) -> None:
    job = start(bq, "SELECT 1", emulator_run_seconds="60")
    job.cancel()
    until(lambda: bq.get_job(job.job_id).state == "DONE")
    assert bq.get_job(job.job_id).error_result["reason"] == "stopped"
    with pytest.raises(GoogleAPICallError, match="Job execution was cancelled: User requested"):
        job.result(job_retry=None)


def test_a_query_at_work_can_be_cancelled(bq: bigquery.Client) -> None:
    job = start(bq, HEAVY)
    job.cancel()
    until(lambda: bq.get_job(job.job_id).state == "DONE")
    assert bq.get_job(job.job_id).error_result["reason"] == "stopped"


def test_a_cancelled_change_changes_nothing(bq: bigquery.Client, dataset: str) -> None:
    run(bq, f"CREATE TABLE `{dataset}.t` AS SELECT 1 AS a")
    before = bq.get_table(f"local.{dataset}.t")
    job = start(bq, f"DELETE FROM `{dataset}.t` WHERE TRUE", emulator_run_seconds="60")
    job.cancel()
    until(lambda: bq.get_job(job.job_id).state == "DONE")
    after = bq.get_table(f"local.{dataset}.t")
    assert (after.num_rows, after.modified) == (1, before.modified)


def test_a_job_that_runs_too_long_is_stopped(bq: bigquery.Client) -> None:
    config = bigquery.QueryJobConfig(labels={"emulator_run_seconds": "60"})
    config.job_timeout_ms = 300
    job = bq.query("SELECT 1", job_config=config, job_retry=None)
    until(lambda: bq.get_job(job.job_id).state == "DONE")
    error = bq.get_job(job.job_id).error_result
    assert error["reason"] == "stopped"
    assert "timed out after 0.3s" in error["message"]


def test_a_query_at_work_for_too_long_is_stopped(bq: bigquery.Client) -> None:
    config = bigquery.QueryJobConfig()
    config.job_timeout_ms = 300
    job = bq.query(HEAVY, job_config=config, job_retry=None)
    until(lambda: bq.get_job(job.job_id).state == "DONE")
    assert "timed out after 0.3s" in bq.get_job(job.job_id).error_result["message"]


def test_a_run_time_can_be_set_for_one_statement_type(
    emulator: Emulator, bq: bigquery.Client
) -> None:
    emulator.admin("PUT", "defaults", {"run_seconds": {"SELECT": "60"}})
    job = start(bq, "SELECT 1")
    assert job.state == "RUNNING"
    job.cancel()
    emulator.admin("DELETE", "defaults")
    assert start(bq, "SELECT 1").state == "DONE"


def test_a_job_can_be_made_to_fail_partway(emulator: Emulator, bq: bigquery.Client) -> None:
    rule = {"service": "job", "statement_type": "SELECT", "reason": "backendError", "share": 0.5}
    emulator.admin("POST", "faults", rule)
    job = start(bq, "SELECT 1", emulator_run_seconds="200ms")
    with pytest.raises(GoogleAPICallError):
        job.result(job_retry=None, retry=None)
    assert bq.get_job(job.job_id).error_result["reason"] == "backendError"
    assert [row[0] for row in bq.query_and_wait("SELECT 1")] == [1]


def test_jobs_are_counted_by_statement_type(
    emulator: Emulator, bq: bigquery.Client, fresh: str
) -> None:
    config = bigquery.QueryJobConfig(labels={"test": fresh[:20]})
    bq.query("SELECT 1", job_config=config).result()
    found = emulator.admin("GET", f"jobs?statement_type=SELECT&label=test:{fresh[:20]}")
    assert (found["count"], found["counts"]) == (1, {"SELECT": 1})


def test_jobs_are_listed_by_state(bq: bigquery.Client) -> None:
    job = start(bq, "SELECT 1", emulator_run_seconds="60")
    assert job.job_id in [item.job_id for item in bq.list_jobs(state_filter="running")]
    job.cancel()
    until(lambda: bq.get_job(job.job_id).state == "DONE")
    assert job.job_id in [item.job_id for item in bq.list_jobs(state_filter="done")]


def test_jobs_are_listed_by_the_time_at_which_they_were_made(bq: bigquery.Client) -> None:
    first = start(bq, "SELECT 1")
    between = max(datetime.now(timezone.utc), first.created) + timedelta(milliseconds=2)
    until(lambda: datetime.now(timezone.utc) > between + timedelta(milliseconds=2))
    second = start(bq, "SELECT 2")
    later = [job.job_id for job in bq.list_jobs(min_creation_time=between)]
    earlier = [job.job_id for job in bq.list_jobs(max_creation_time=between, max_results=10)]
    assert second.job_id in later and first.job_id not in later
    assert first.job_id in earlier and second.job_id not in earlier


def test_half_a_pair_of_surrogates_is_no_json(emulator: Emulator) -> None:
    url = f"{emulator.bigquery_url}/bigquery/v2/projects/local/queries"
    half, pair = (
        httpx.post(url, content=b'{"query": "SELECT \'%s\'", "useLegacySql": false}' % text)
        for text in (rb"\ud83d", rb"\ud83d\ude00")
    )
    assert (half.status_code, pair.status_code) == (400, 200)
    assert half.json()["error"]["errors"][0]["reason"] == "parseError"


def test_a_query_can_have_a_destination(bq: bigquery.Client, dataset: str) -> None:
    target = f"local.{dataset}.made"
    run(bq, "SELECT 1 AS a, 'x' AS b", destination=target)
    assert [tuple(row) for row in bq.list_rows(bq.get_table(target))] == [(1, "x")]
    with pytest.raises(Conflict):
        run(bq, "SELECT 2 AS a, 'y' AS b", destination=target)
    run(bq, "SELECT 2 AS a", destination=target, write_disposition="WRITE_APPEND")
    assert bq.get_table(target).num_rows == 2
    run(bq, "SELECT 3 AS c", destination=target, write_disposition="WRITE_TRUNCATE")
    assert [field.name for field in bq.get_table(target).schema] == ["c"]


def test_a_union_is_a_select(bq: bigquery.Client) -> None:
    assert run(bq, "SELECT 1 AS a UNION DISTINCT SELECT 2").statement_type == "SELECT"


def test_a_dry_run_of_what_cannot_run_is_refused(bq: bigquery.Client) -> None:
    with pytest.raises(BadRequest):
        run(bq, "SELECT nothing FROM (SELECT 1 AS a)", dry_run=True)


# --- queries that need be no jobs


def test_a_short_query_is_no_job_where_that_is_optional(
    bq: bigquery.Client, emulator: Emulator
) -> None:
    def ask(sql: str, **options: object) -> dict[str, object]:
        body = {"query": sql, "useLegacySql": False, "location": LOCATION, **options}
        return bq._connection.api_request("POST", "/projects/local/queries", data=body)

    short = ask("SELECT 1 AS one", jobCreationMode="JOB_CREATION_OPTIONAL")
    assert "jobReference" not in short and short["jobComplete"] is True
    with pytest.raises(NotFound):
        bq.get_job(str(short["queryId"]), location=LOCATION)
    assert short["queryId"] not in [job.job_id for job in bq.list_jobs(max_results=20)]
    rows = "SELECT n FROM UNNEST(GENERATE_ARRAY(1, 9)) AS n"
    large = ask(rows, jobCreationMode="JOB_CREATION_OPTIONAL", maxResults=5)
    assert large["jobCreationReason"] == {"code": "LARGE_RESULTS"}
    reference = large["jobReference"]
    assert isinstance(reference, dict)
    assert len(list(bq.get_job(reference["jobId"], location=LOCATION).result())) == 9
    emulator.admin("PUT", "defaults", {"run_seconds": {"SELECT": "2"}})
    slow = ask("SELECT 2 AS two", jobCreationMode="JOB_CREATION_OPTIONAL", timeoutMs=100)
    assert slow["jobCreationReason"] == {"code": "LONG_RUNNING"}
    assert slow["jobComplete"] is False and "jobReference" in slow
    assert "jobReference" in ask("SELECT 3 AS three")
