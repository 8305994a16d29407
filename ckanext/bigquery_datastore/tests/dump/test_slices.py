"""A large table's export in several jobs: sorted, of one moment, once, whatever is killed."""

from __future__ import annotations

import datetime as dt
import re
import signal
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ckanext.bigquery_datastore.backend.table.model import Partitions
from ckanext.bigquery_datastore.dump import cuts as cuts_module
from ckanext.bigquery_datastore.dump import slices as slices_module
from ckanext.bigquery_datastore.dump.attempt import Attempt
from ckanext.bigquery_datastore.dump.cuts import cuts
from ckanext.bigquery_datastore.dump.export import Failure, Job
from ckanext.bigquery_datastore.dump.slices import slices
from ckanext.bigquery_datastore.dump.state import Ready, Running
from ckanext.bigquery_datastore.dump.work import joined
from ckanext.bigquery_datastore.errors import TooLarge
from ckanext.bigquery_datastore.tests.dump.exporting import Place, a_place, release, spawn
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

COUNT = 1_000
SLICES = 20
CSV = b"_id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(1, COUNT + 1))


@pytest.fixture
def place(own_emulator: OwnEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A table of 1,000 rows in 100 partitions, that counts as one of 20 slices."""
    own_emulator.admin("PUT", "switches", {"history": True})
    name = uuid.uuid4().hex[:12]
    with a_place(f"slices_{name}", f"slices-{name}") as place:
        place.bigquery.query_and_wait(
            f"CREATE TABLE `{place.dataset}.t` (_id INT64, name STRING) "
            "PARTITION BY RANGE_BUCKET(_id, GENERATE_ARRAY(1, 3001, 10)) AS "
            "SELECT n, CONCAT('name ', CAST(n AS STRING)) FROM UNNEST(GENERATE_ARRAY(1, 1000)) n"
        )
        size = place.bigquery.get_table(f"{place.dataset}.t").num_bytes
        monkeypatch.setattr(cuts_module, "SLICE_BYTES", -(-size // SLICES))
        yield place


def test_the_jobs_are_ranges_of_whole_partitions_of_one_moment(place: Place) -> None:
    plan = place.plan("t", "csv")
    moment = dt.datetime(2026, 5, 6, 7, 8, 9, tzinfo=dt.timezone.utc)
    attempt = Attempt(7, moment, cuts=cuts(plan))
    made = slices(plan, attempt)
    assert len(made) == SLICES
    assert len({each.job_id for each in made}) == SLICES
    assert [each.files for each in made] == sorted(each.files for each in made)
    moments = {re.search(r"AS OF TIMESTAMP '(.*?)'", each.sql)[1] for each in made}  # type: ignore[index]
    assert moments == {"2026-05-06T07:08:09+00:00"}
    bounds = [tuple(map(int, re.findall(r"`_id` (?:>=|<) (\d+)", each.sql))) for each in made]
    assert bounds[0] == (51,)
    assert bounds[1:-1] == [(first, first + 50) for first in range(51, 951, 50)]
    assert bounds[-1] == (951,)
    assert "IS NULL" in made[-1].sql
    # By a visitor's wish, or of a part of the rows: one job, as it was.
    for params in ({"sort": "name"}, {"limit": 5}, {"filters": {"name": "x"}}):
        assert cuts(place.plan("t", "csv", **params)) == ()
    assert len(slices(plan, Attempt(7, moment, ordered=False))) == 1


@pytest.mark.parametrize("format_name", ["csv", "parquet"])
def test_the_file_is_the_one_of_a_single_job(place: Place, format_name: str) -> None:
    ready = place.advance(place.plan("t", format_name))
    assert isinstance(ready, Ready)
    assert ready.ordered
    assert ready.rows == COUNT
    assert len(place.export_jobs()) == SLICES
    if format_name == "csv":
        assert place.file("t", "csv") == CSV
    # Nothing is left beside the file and its claim.
    assert len(place.store.list("")) == 2


def test_rows_that_change_meanwhile_are_of_one_moment(place: Place) -> None:
    slow = replace(place, labels={"emulator_run_seconds": "1"})
    plan = place.plan("t", "csv")
    assert isinstance(slow.advance(plan, seconds=0), Running)
    for first in range(1, COUNT, 200):
        place.bigquery.query_and_wait(
            f"UPDATE `{place.dataset}.t` SET name = 'changed' WHERE _id BETWEEN {first} AND "
            f"{first + 199}"
        )
    place.bigquery.query_and_wait(f"DELETE FROM `{place.dataset}.t` WHERE _id > 500")
    ready = slow.advance(plan)
    assert isinstance(ready, Ready)
    content = place.storage.bucket(place.bucket).blob(ready.objects[0].name).download_as_bytes()
    assert content == CSV


def test_no_more_jobs_run_at_a_time_than_allowed(place: Place) -> None:
    slow = replace(place, labels={"emulator_run_seconds": "60"})
    plan = place.plan("t", "csv")
    state = slow.advance(plan, seconds=0)
    assert isinstance(state, Running)
    assert len(place.export_jobs()) == 4
    slow.advance(plan, seconds=0)
    assert len(place.export_jobs()) == 4
    for job in place.export_jobs():
        job.cancel()


@pytest.mark.parametrize("calls", [1, 5, 22, 23])
def test_whoever_is_killed_the_next_one_finishes(place: Place, calls: int) -> None:
    """Calls: the claim, twenty jobs, the header line, the join, the deletes."""
    process = spawn(place, "t", "csv", kill_after=calls, slice_bytes=cuts_module.SLICE_BYTES)
    release(process)
    assert process.wait(timeout=120) == -signal.SIGKILL
    assert place.file("t", "csv") == CSV
    assert len(place.export_jobs()) == SLICES


def test_all_jobs_together_may_not_cost_more_than_allowed(place: Place) -> None:
    size = place.bigquery.get_table(f"{place.dataset}.t").num_bytes
    limited = replace(place, maximum_bytes_billed=size - 1)
    with pytest.raises(TooLarge, match="maximum_bytes_billed"):
        limited.advance(place.plan("t", "csv"))
    assert place.export_jobs() == []


def test_a_sort_that_takes_too_long_is_given_up_once(place: Place) -> None:
    slow = replace(place, labels={"emulator_run_seconds": "60"}, timeout_seconds=1)
    plan = place.plan("t", "csv")
    for _ in range(2):
        with pytest.raises(Exception, match="job_timeout_seconds"):
            slow.advance(plan)
    jobs = place.export_jobs()
    assert len([job for job in jobs if "ORDER BY" not in job.query]) == 1


def test_jobs_are_told_of_as_one() -> None:
    wanted = [slices_module.Slice(f"j{n}", "", "") for n in range(3)]
    done = Job("j0", True, progress=1.0, file_count=2, row_count=5, bytes_billed=7, seconds=3)
    half = Job("j1", False, progress=0.5, seconds=9)
    together = joined("j", wanted, {"j0": done, "j1": half})
    assert (together.id, together.done, together.progress) == ("j", False, 0.5)
    ended = joined("j", wanted, {f"j{n}": replace(done, id=f"j{n}") for n in range(3)})
    assert (ended.done, ended.file_count, ended.row_count, ended.bytes_billed) == (True, 6, 15, 21)
    failed = replace(half, done=True, failure=Failure("stopped", "x"))
    assert joined("j", wanted, {"j0": done, "j1": failed}).failure == Failure("stopped", "x")


def test_a_table_of_few_partitions_has_as_many_jobs_at_most(place: Place) -> None:
    plan = place.plan("t", "csv")
    wide = replace(plan.table, partitions=Partitions("_id", 1, 30_001, 300))
    assert len(cuts(replace(plan, table=wide))) == 3
    whole = replace(plan.table, partitions=None)
    assert cuts(replace(plan, table=whole)) == ()


def test_a_process_of_another_mind_takes_the_cuts_of_the_claim(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = replace(place, labels={"emulator_run_seconds": "1"})
    assert isinstance(slow.advance(place.plan("t", "csv"), seconds=0), Running)
    monkeypatch.setattr(cuts_module, "SLICE_BYTES", cuts_module.SLICE_BYTES * 3)
    assert place.file("t", "csv") == CSV
    assert len(place.export_jobs()) == SLICES
