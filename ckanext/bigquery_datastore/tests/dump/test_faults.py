"""Lost answers, refusals and outages: the whole file or a sentence, and never a part of a file."""

from __future__ import annotations

import datetime as dt
import io
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.dump import assemble
from ckanext.bigquery_datastore.dump import engine as engine_module
from ckanext.bigquery_datastore.dump import storage as storage_module
from ckanext.bigquery_datastore.dump.state import Ready, Running
from ckanext.bigquery_datastore.dump.sweep import sweep
from ckanext.bigquery_datastore.errors import (
    NotReachable,
    OutsideError,
    PermissionMissing,
    TooLarge,
)
from ckanext.bigquery_datastore.tests.dump.exporting import Place, a_place
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

ROWS = [{"name": f"name {number}", "size": number / 4} for number in range(1000)]
CSV = b"_id,name,size\n" + b"".join(
    b"%d,name %d,%s\n" % (number + 1, number, f"{number / 4:g}".encode()) for number in range(1000)
)
# With composes of 4 at most, 10 shards and the header line make a tree of two levels.
SHARDS = {"emulator_shards": "10"}

# Every kind of call that the engine makes, as a rule meets it.
CALLS: dict[str, dict[str, Any]] = {
    "the look-up": {"method": "GET", "path": r"/data\.csv"},
    "the look for a claim": {"method": "GET", "path": "/attempt"},
    "the claim": {"method": "POST", "path": "/upload/", "body": "/attempt"},
    "jobs.get": {"service": "bigquery", "method": "GET", "path": "/jobs/ckan_dump_"},
    "jobs.insert": {"service": "bigquery", "method": "POST", "path": "/jobs"},
    "the list of shards": {"method": "GET", "path": r"/o\?.*part-"},
    "the header line": {"method": "POST", "path": "/upload/", "body": "/head"},
    "the list of nodes": {"method": "GET", "path": r"/o\?.*tree-"},
    "an inner compose": {"method": "POST", "path": "/tree-.*/compose"},
    "the final compose": {"method": "POST", "path": r"/data\.csv/compose"},
    "a delete": {"method": "DELETE", "path": "/part-"},
}
EFFECTS = [
    "the claim",
    "jobs.insert",
    "the header line",
    "an inner compose",
    "the final compose",
    "a delete",
]


@pytest.fixture(scope="module")
def filled(_own_emulator: OwnEmulator) -> Iterator[Place]:
    """A table that all tests read, and an empty bucket that none writes to."""
    name = uuid.uuid4().hex[:12]
    with pytest.MonkeyPatch.context() as patch:
        for variable, address in _own_emulator.environment.items():
            patch.setenv(variable, address)
        with a_place(f"faults_{name}", f"faults-{name}") as place:
            place.fill("t", ROWS, name="STRING", size="FLOAT64")
            yield place


@pytest.fixture
def place(own_emulator: OwnEmulator, filled: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The table, and a bucket of the test's own."""
    monkeypatch.setattr(assemble, "COMPOSE_LIMIT", 4)
    place = Place(filled.dataset, f"faults-{uuid.uuid4().hex[:12]}", SHARDS)
    place.storage.create_bucket(place.bucket, location="EU")
    own_emulator.forget_requests()
    return place


@pytest.fixture
def impatient() -> Iterator[pytest.MonkeyPatch]:
    """What is down is given up sooner than by default, so that the tests do not take minutes; until
    it is undone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "CALL_SECONDS", 1.5)
        patch.setattr(storage_module, "UPLOAD_SECONDS", 1.5)
        yield patch


@contextmanager
def one_whole_file(own: OwnEmulator, place: Place, size: int = len(CSV)) -> Iterator[None]:
    """At any time there is one file or none, and it is the whole one."""
    with own.watched(place.bucket) as files:
        yield
    assert [found[1] for found in files] == [size]


def shown(own: OwnEmulator, place: Place) -> list[tuple[str, int, str]]:
    return own.files(place.bucket)


# --- a lost answer, a burst, a broken connection


@pytest.mark.parametrize("call", EFFECTS)
@pytest.mark.parametrize("how", [{"drop": True}, {"status": 503}], ids=["dropped", "503"])
def test_an_answer_that_is_lost_after_its_effect_is_one_job_and_the_right_file(
    own_emulator, place, call, how
):
    lost = own_emulator.fault(**CALLS[call], **how, when="after")
    with one_whole_file(own_emulator, place):
        assert place.file("t", "csv") == CSV
    assert own_emulator.met(lost) == 1
    assert len(place.export_jobs()) == 1


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize(
    "how", [{"status": 503, "times": 3}, {"drop": True, "times": 2}], ids=["503", "dropped"]
)
def test_a_burst_of_failures_at_any_call_is_overcome(own_emulator, place, call, how):
    burst = own_emulator.fault(**CALLS[call], **how)
    begun = time.monotonic()
    with one_whole_file(own_emulator, place):
        assert place.file("t", "csv") == CSV
    assert own_emulator.met(burst) == how["times"]
    assert len(place.export_jobs()) == 1
    assert time.monotonic() - begun < 30


def test_a_job_that_is_there_and_not_yet_to_be_seen_is_waited_for(own_emulator, place):
    """After a 409, jobs.get may say 404 for a moment."""
    own_emulator.fault(**CALLS["jobs.insert"], drop=True, when="after")
    hidden = own_emulator.fault(
        **CALLS["jobs.get"], status=404, reason="notFound", message="Not found: Job", times=3
    )
    assert place.file("t", "csv") == CSV
    assert own_emulator.met(hidden) == 3
    assert len(place.export_jobs()) == 1


def test_one_write_a_second_to_a_name_is_all_that_an_export_needs(own_emulator, place):
    own_emulator.admin("PUT", "switches", {"one_write_per_second": True})
    with one_whole_file(own_emulator, place):
        assert place.file("t", "csv") == CSV
    assert own_emulator.seen(status="429")["count"] == 0


def test_a_name_that_was_written_a_moment_ago_is_written_a_moment_later(own_emulator, place):
    """The second attempt writes the claim's name again."""
    own_emulator.admin("PUT", "switches", {"one_write_per_second": True})
    own_emulator.fault(service="job", statement_type="EXPORT_DATA", reason="backendError")
    with one_whole_file(own_emulator, place):
        assert place.file("t", "csv") == CSV


@pytest.mark.parametrize(
    "how", [{"truncate": 100}, {"drop": True}, {"status": 503}], ids=["cut", "dropped", "503"]
)
def test_a_footer_that_arrives_broken_is_read_again(own_emulator, place, how):
    broken = own_emulator.fault(method="GET", path=r"/part-.*alt=media", times=2, **how)
    table = pq.read_table(io.BytesIO(place.file("t", "parquet")))
    assert table["name"].to_pylist() == [row["name"] for row in ROWS]
    assert own_emulator.met(broken) == 2


# --- jobs that fail


@pytest.mark.parametrize("reason", ["backendError", "internalError"])
def test_a_job_that_fails_for_a_passing_reason_is_run_again_under_a_new_id(
    own_emulator, place, reason
):
    own_emulator.fault(service="job", statement_type="EXPORT_DATA", reason=reason, share=0.5)
    with one_whole_file(own_emulator, place):
        assert place.file("t", "csv") == CSV
    jobs = place.export_jobs()
    assert len({job.job_id for job in jobs}) == 2
    assert sorted(bool(job.error_result) for job in jobs) == [False, True]


def test_shards_of_a_burnt_attempt_are_never_in_the_file(own_emulator, place):
    """Half of them were there when the job failed, under names that the next job uses, too."""
    slow = replace(place, labels={**SHARDS, "emulator_run_seconds": "1"})
    own_emulator.fault(
        service="job", statement_type="EXPORT_DATA", reason="jobBackendError", share=0.7
    )
    plan = slow.plan("t", "csv")
    with one_whole_file(own_emulator, place):
        assert isinstance(slow.advance(plan), Ready)
    burnt = {found.name for found in place.store.list(plan.prefix) if "/part-" in found.name}
    assert burnt, "the failed job wrote nothing: this test shows nothing"
    assert place.file("t", "csv") == CSV


def test_a_job_that_fails_three_times_is_given_up_with_a_sentence_and_nothing_published(
    own_emulator, place
):
    own_emulator.fault(service="job", statement_type="EXPORT_DATA", reason="backendError", times=0)
    plan = place.plan("t", "csv")
    for _ in range(2):
        with pytest.raises(NotReachable, match="cannot run the export now") as failed:
            place.advance(plan)
        assert (failed.value.status, failed.value.retry_after > 0) == (503, True)
    assert len(place.export_jobs()) == 3
    assert shown(own_emulator, place) == []


def test_what_failed_three_times_is_tried_again_later(own_emulator, place, monkeypatch):
    own_emulator.fault(service="job", statement_type="EXPORT_DATA", reason="backendError", times=3)
    with pytest.raises(NotReachable):
        place.file("t", "csv")
    monkeypatch.setattr(engine_module, "FAILURE_TTL", -1)
    assert place.file("t", "csv") == CSV


def test_what_cannot_be_sorted_goes_out_unsorted_and_says_so(own_emulator, place, caplog):
    caplog.set_level(logging.WARNING)
    own_emulator.fault(
        service="job", statement_type="EXPORT_DATA", reason="resourcesExceeded", status=400
    )
    ready = place.advance(place.plan("t", "csv"))
    assert isinstance(ready, Ready)
    assert "exporting unsorted" in caplog.text
    assert ready.objects[0].metadata["ordered"] == "False"
    assert not ready.ordered
    assert "ORDER BY" not in max(place.export_jobs(), key=lambda job: job.created).query
    lines = place.file("t", "csv").splitlines(keepends=True)
    assert (lines[0], sorted(lines)) == (
        b"_id,name,size\n",
        sorted(CSV.splitlines(keepends=True)),
    )


def test_a_sort_that_somebody_asked_for_is_not_given_up_in_silence(own_emulator, place):
    own_emulator.fault(
        service="job", statement_type="EXPORT_DATA", reason="resourcesExceeded", status=400, times=0
    )
    with pytest.raises(TooLarge, match="Without sort"):
        place.file("t", "csv", sort="name")
    assert len(place.export_jobs()) == 1
    assert shown(own_emulator, place) == []


def test_a_refusal_says_what_bigquery_refuses(own_emulator, place):
    own_emulator.fault(
        service="job",
        statement_type="EXPORT_DATA",
        reason="accessDenied",
        message="Access Denied: bigquery.tables.export",
    )
    with pytest.raises(PermissionMissing, match=r"bigquery\.tables\.export"):
        place.file("t", "csv")
    assert len(place.export_jobs()) == 1


def test_a_dataset_in_another_location_is_said_and_the_option_named(own_emulator, place):
    own_emulator.fault(
        **CALLS["jobs.insert"],
        status=404,
        reason="notFound",
        message="Not found: Dataset local:d was not found in location EU",
    )
    with pytest.raises(PermissionMissing, match=r"in location EU.*bigquery_datastore\.location"):
        place.file("t", "csv")
    assert place.file("t", "csv") == CSV


# --- a bucket that refuses


def test_a_bucket_that_refuses_compose_gives_the_file_as_its_parts_in_order(own_emulator, place):
    own_emulator.fault(path="/compose", status=403, message="Object retention forbids it", times=0)
    assert place.file("t", "csv") == CSV
    ready = place.advance(place.plan("t", "csv"))
    assert isinstance(ready, Ready) and ready.cached
    assert [found.name.rpartition("/")[2].split("-")[0] for found in ready.objects] == [
        "head",
        *["part"] * 10,
    ]
    assert (ready.size, ready.rows) == (len(CSV), len(ROWS))
    assert len(place.export_jobs()) == 1


def test_a_bucket_that_may_not_be_written_is_said(own_emulator, place):
    own_emulator.fault(
        method="POST", path="/upload/", status=403, message="needs storage.objects.create", times=0
    )
    with pytest.raises(PermissionMissing, match=r"storage\.objects\.create"):
        place.file("t", "csv")
    assert place.export_jobs() == []


# --- an outage that begins at any step


@pytest.mark.parametrize("how", [{"status": 503}, {"drop": True}], ids=["503", "dropped"])
@pytest.mark.parametrize("call", [call for call in CALLS if call != "a delete"])
def test_an_outage_that_begins_at_any_step_is_503_in_seconds_and_harmless(
    own_emulator, place, impatient, call, how
):
    own_emulator.fault(**CALLS[call], **how, times=0)
    plan = place.plan("t", "csv")
    begun = time.monotonic()
    with one_whole_file(own_emulator, place):
        with pytest.raises(NotReachable, match="Google does not answer"):
            place.advance(plan)
        assert time.monotonic() - begun < 30
        assert shown(own_emulator, place) == []
        own_emulator.mend()
        impatient.undo()
        assert place.file("t", "csv") == CSV
    assert len(place.export_jobs()) == 1


def test_an_outage_while_tidying_is_no_error_and_a_sweep_tidies_later(
    own_emulator, place, impatient, caplog
):
    own_emulator.fault(**CALLS["a delete"], status=503, times=0)
    assert place.file("t", "csv") == CSV
    assert "Left for a later sweep" in caplog.text
    own_emulator.mend()
    assert place.file("t", "csv") == CSV
    left = [found.name for found in place.store.list("") if "/part-" in found.name]
    assert left
    sweep(place.store, "dumps/", dt.timedelta(0))
    names = sorted(found.name.rpartition("/")[2] for found in place.store.list(""))
    assert names == ["attempt", "data.csv"]


@pytest.mark.parametrize("service", ["storage", "bigquery"])
def test_a_service_that_refuses_everything_is_503_in_seconds(
    own_emulator, place, impatient, service
):
    plan = place.plan("t", "csv")
    own_emulator.fault(service=service, status=503, times=0)
    begun = time.monotonic()
    with pytest.raises(NotReachable):
        place.advance(plan)
    assert time.monotonic() - begun < 25
    own_emulator.mend()
    impatient.undo()
    assert place.file("t", "csv") == CSV


def test_a_service_that_never_answers_is_503_in_seconds(own_emulator, place, impatient):
    plan = place.plan("t", "csv")
    own_emulator.fault(service="storage", delay=30, times=0)
    begun = time.monotonic()
    with pytest.raises(NotReachable):
        place.advance(plan)
    assert time.monotonic() - begun < 25


def test_sources_that_vanish_again_and_again_end_in_a_sentence_and_not_in_a_circle(
    own_emulator, place
):
    own_emulator.fault(
        path=r"/data\.csv/compose", status=404, reason="notFound", message="No such object", times=0
    )
    begun = time.monotonic()
    with pytest.raises(OutsideError):
        place.advance(place.plan("t", "csv"), seconds=3)
    assert time.monotonic() - begun < 20
    assert own_emulator.seen(path="/compose")["count"] < 50


def test_who_has_waited_for_the_job_leaves_the_joining_to_the_next_request(own_emulator, place):
    slow = replace(place, labels={**SHARDS, "emulator_run_seconds": "8"})
    plan = slow.plan("t", "csv")
    state = slow.advance(plan, seconds=13)
    assert isinstance(state, Running) and state.phase == "assemble"
    assert own_emulator.seen(path="/compose")["count"] == 0
    # A browser's two seconds are enough of a reason to do it.
    assert isinstance(slow.advance(plan, seconds=2), Ready)
    assert slow.file("t", "csv") == CSV
