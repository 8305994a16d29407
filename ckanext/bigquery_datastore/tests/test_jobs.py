"""Exports before anybody asks: by a worker after a change, and by hand from the command line."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import rq
from ckan.cli.cli import ckan
from ckan.lib import jobs as ckan_jobs
from ckan.plugins import toolkit as tk
from ckan.tests import factories, helpers
from redis import Redis

from ckanext.bigquery_datastore import config, downloads, jobs
from ckanext.bigquery_datastore.errors import NotReachable
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins", "empty_queue")

wants = pytest.mark.ckan_config(config.PREWARM_FORMATS, "csv parquet")
BOM, CSV = b"\xef\xbb\xbf", b"_id,name\n1,one\n"


@pytest.fixture
def empty_queue() -> Iterator[rq.Queue]:
    queue = ckan_jobs.get_queue(jobs.QUEUE)
    queue.empty()
    downloads.TABLES.clear()
    downloads.FILES.clear()
    yield queue
    queue.empty()


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """How long each job of this process would have let the table rest."""
    found: list[float] = []
    seconds_of = jobs._unrest
    monkeypatch.setattr(jobs, "_unrest", lambda id: found.append(seconds_of(id)) or 0)
    return found


@pytest.fixture
def place() -> Place:
    return Place(config.dataset(), config.export_bucket())


def a_table(**more: Any) -> str:
    found = factories.Resource()["id"]
    helpers.call_action(
        "datastore_create",
        resource_id=found,
        force=True,
        fields=[{"id": "name", "type": "text"}],
        records=[{"name": "one"}],
        primary_key="name",
        **more,
    )
    return found


def upsert(resource_id: str, *names: str, **more: Any) -> None:
    helpers.call_action(
        "datastore_upsert",
        resource_id=resource_id,
        force=True,
        records=[{"name": name} for name in names],
        **more,
    )


def exports(place: Place, resource_id: str) -> list[str]:
    """The formats that BigQuery has exported, in the order of their names."""
    return sorted(
        re.search(r"format='(\w+)'", job.query).group(1)  # type: ignore[union-attr]
        for job in place.export_jobs()
        if resource_id in job.query
    )


def visit(app, resource_id: str, query: str = "") -> Any:
    return app.flask_app.test_client().get(f"/datastore/dump/{resource_id}{query}")


def rest(resource_id: str) -> None:
    """Let the table look as if it had not been changed for a long time."""
    path = f"local/{config.dataset()}/{resource_id}"
    request = urllib.request.Request(
        f"{os.environ['BIGQUERY_EMULATOR_HOST']}/emulator/tables/{path}",
        json.dumps({"lastModifiedTime": "1700000000000"}).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


def the_job(queue: rq.Queue) -> rq.job.Job:
    """The one that waits, taken as a worker takes it."""
    (job,) = queue.jobs
    queue.remove(job)
    return job


def ckan_command(ini: Path, *arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("ckan")), "-c", str(ini), *arguments]


@pytest.fixture
def ini(tmp_path) -> Path:
    """The tests' site as a process of its own would have it, with formats to prepare."""
    base = Path(tk.config["__file__"]).resolve()
    file = tmp_path / "ckan.ini"
    logging_ = "".join(base.read_text().partition("[loggers]")[1:])
    file.write_text(
        f"[app:main]\nuse = config:{base}\n{config.PREWARM_FORMATS} = csv parquet\n\n{logging_}"
    )
    return file


# --- a worker


@wants
def test_after_a_change_a_worker_exports_and_the_first_visitor_does_not_wait(app, place, ini):
    resource_id = a_table()
    assert exports(place, resource_id) == []
    rest(resource_id)
    done = subprocess.run(
        ckan_command(ini, "jobs", "worker", "--burst", jobs.QUEUE),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert exports(place, resource_id) == ["CSV", "PARQUET"], done.stderr
    downloads.TABLES.clear()
    for query, data in {
        "": b"_id,name\n1,one\n",
        "?bom=true": BOM + b"_id,name\n1,one\n",
    }.items():
        assert requests.get(visit(app, resource_id, query).location, timeout=20).content == data
    assert visit(app, resource_id, "?format=parquet").status_code == 302
    assert exports(place, resource_id) == ["CSV", "PARQUET"]


@wants
def test_without_a_worker_the_visitor_has_the_file_all_the_same(app, empty_queue, place):
    resource_id = a_table()
    answer = visit(app, resource_id)
    assert requests.get(answer.location, timeout=20).content == CSV
    assert len(empty_queue.job_ids) == 1


@wants
def test_a_burst_of_changes_is_one_waiting_job_and_one_export_of_the_last_rows(
    app, empty_queue, place, slept
):
    resource_id, other = a_table(), a_table()
    for number in range(5):
        upsert(resource_id, f"name {number}")
    assert sorted(job.args for job in empty_queue.jobs) == sorted([[resource_id], [other]])
    assert {job.timeout for job in empty_queue.jobs} == {30 + 2 * (21600 + 600)}
    taken = next(job for job in empty_queue.jobs if job.args == [resource_id])
    empty_queue.remove(taken)
    taken.perform()
    assert exports(place, resource_id) == ["CSV", "PARQUET"]
    data = requests.get(visit(app, resource_id).location, timeout=20).content
    assert data.count(b"\n") == 7 and data.endswith(b"name 4\n")


@wants
def test_a_job_leaves_a_table_that_has_changed_again_to_the_job_behind_it(
    empty_queue, place, slept
):
    resource_id = a_table()
    first = the_job(empty_queue)
    upsert(resource_id, "two")
    first.perform()
    assert exports(place, resource_id) == []
    the_job(empty_queue).perform()
    assert exports(place, resource_id) == ["CSV", "PARQUET"]
    assert len(slept) == 2 and all(0 < seconds <= jobs.QUIET_SECONDS for seconds in slept)


@wants
def test_a_table_that_has_rested_is_exported_at_once(empty_queue, place, slept):
    resource_id = a_table()
    rest(resource_id)
    the_job(empty_queue).perform()
    assert slept == [0]
    assert exports(place, resource_id) == ["CSV", "PARQUET"]


@wants
def test_what_is_prepared_twice_is_exported_once(empty_queue, place, slept):
    resource_id = a_table()
    job = the_job(empty_queue)
    for _ in range(2):
        job.perform()
    assert exports(place, resource_id) == ["CSV", "PARQUET"]


CHANGES = {
    "rows are inserted": lambda id: upsert(id, "two", method="insert"),
    "rows are written over": lambda id: upsert(id, "one"),
    "rows come with the table": lambda id: helpers.call_action(
        "datastore_create", resource_id=id, force=True, records=[{"name": "two"}]
    ),
    "rows are deleted": lambda id: helpers.call_action(
        "datastore_delete", resource_id=id, force=True, filters={"name": "one"}
    ),
    "records are deleted": lambda id: helpers.call_action(
        "datastore_records_delete", resource_id=id, force=True, filters={"name": "one"}
    ),
}
NO_CHANGES = {
    "a trial": lambda id: upsert(id, "two", dry_run=True),
    "no records": lambda id: upsert(id),
    "a label": lambda id: helpers.call_action(
        "datastore_create",
        resource_id=id,
        force=True,
        fields=[{"id": "name", "type": "text", "info": {"label": "Name"}}],
    ),
    "a search": lambda id: helpers.call_action("datastore_search", resource_id=id),
    "the end of the table": lambda id: helpers.call_action(
        "datastore_delete", resource_id=id, force=True
    ),
}


@wants
@pytest.mark.parametrize("change", list(CHANGES))
def test_a_job_waits_after(empty_queue, change):
    resource_id = a_table()
    empty_queue.empty()
    CHANGES[change](resource_id)
    assert [job.args for job in empty_queue.jobs] == [[resource_id]]


@wants
@pytest.mark.parametrize("change", list(NO_CHANGES))
def test_no_job_waits_after(empty_queue, change):
    resource_id = a_table()
    empty_queue.empty()
    NO_CHANGES[change](resource_id)
    assert empty_queue.job_ids == []


@wants
def test_a_job_waits_after_a_file_was_loaded(cli, empty_queue, tmp_path):
    resource_id = factories.Resource()["id"]
    (tmp_path / "a.csv").write_text("name\none\n")
    loaded = cli.invoke(ckan, ["bigquery", "load", resource_id, str(tmp_path / "a.csv")])
    assert loaded.output.endswith(f"1 rows in {resource_id}\n"), loaded.output
    assert [job.args for job in empty_queue.jobs] == [[resource_id]]


def test_a_site_that_names_no_format_has_no_job(empty_queue):
    upsert(a_table(), "two")
    assert empty_queue.job_ids == []


@wants
def test_a_table_that_is_gone_by_then_is_no_error(empty_queue, place, slept, caplog):
    resource_id = a_table()
    helpers.call_action("datastore_delete", resource_id=resource_id, force=True)
    the_job(empty_queue).perform()
    assert slept == [0]
    assert exports(place, resource_id) == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@wants
def test_a_google_that_is_down_is_a_line_in_the_log(empty_queue, slept, monkeypatch, caplog):
    resource_id = a_table()

    def down(*args: object, **named: object) -> None:
        raise NotReachable("Google does not answer.")

    monkeypatch.setattr(downloads.Engine, "advance", down)
    the_job(empty_queue).perform()
    assert f"{resource_id} is exported when somebody asks, not before: Google" in caplog.text


@wants
def test_a_redis_that_is_down_does_not_keep_rows_from_being_written(monkeypatch, caplog):
    name = ckan_jobs.add_queue_name_prefix(jobs.QUEUE)
    nobody = rq.Queue(name, connection=Redis(port=9, socket_connect_timeout=1))
    resource_id = factories.Resource()["id"]
    monkeypatch.setitem(ckan_jobs._queues, name, nobody)
    helpers.call_action(
        "datastore_create", resource_id=resource_id, force=True, records=[{"name": "one"}]
    )
    monkeypatch.undo()
    assert f"{resource_id} is exported when somebody asks, not before" in caplog.text
    assert helpers.call_action("datastore_search", resource_id=resource_id)["total"] == 1


# --- by hand


def told(result: Any) -> dict[str, str]:
    """The size of each object that was printed; CKAN's log may stand between the lines."""
    lines = re.findall(r"^(gs://\S+) (\d+) bytes$", result.output, re.MULTILINE)
    return dict(lines)


def test_an_export_by_hand_tells_the_objects_and_their_sizes(app, cli, place):
    resource_id = a_table()
    arguments = ["bigquery", "export", resource_id, "--format", "csv", "--format", "json"]
    result = cli.invoke(ckan, arguments)
    assert result.exit_code == 0, result.output
    found = told(result)
    bucket = f"gs://{place.bucket}/"
    stored = {
        f"{bucket}{item.name}": str(item.size)
        for item in place.store.list(f"dumps/{resource_id}/")
        if "/data." in item.name
    }
    assert found == stored and len(found) == 3
    assert visit(app, resource_id).status_code == 302
    assert exports(place, resource_id) == ["CSV", "JSON"]
    assert told(cli.invoke(ckan, arguments)) == found
    assert exports(place, resource_id) == ["CSV", "JSON"]


def test_an_export_by_hand_shows_its_progress_on_a_terminal_and_not_in_a_pipe(ini):
    resource_id = a_table()
    slow = f"[app:main]\n{config.JOB_LABELS} = emulator_run_seconds=7\n"
    ini.write_text(ini.read_text().replace("[app:main]\n", slow))
    command = ckan_command(ini, "bigquery", "export", resource_id, "--format", "ndjson")
    here, there = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=there, text=True) as process:
        os.close(there)
        seen = b""
        try:
            while piece := os.read(here, 4096):
                seen += piece
        except OSError:  # how the other end's closing is told
            pass
        assert process.stdout is not None
        said = process.stdout.read()
    os.close(here)
    assert process.returncode == 0, seen
    bars = re.findall(rb"ndjson +\[.*?\] +(\d+)%", seen)
    assert bars and bars[-1] == b"100" and any(0 < int(bar) < 100 for bar in bars)
    assert re.fullmatch(rf"gs://\S+/{resource_id}/ndjson/\S+/data\.ndjson \d+ bytes\n", said)
    piped = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert piped.stdout == said
    assert "%" not in piped.stderr


def test_what_cannot_be_exported_by_hand_is_said_in_a_sentence(cli):
    nothing = cli.invoke(ckan, ["bigquery", "export", "no-such-resource"])
    assert (nothing.exit_code, "There is no resource" in nothing.output) == (1, True)
    empty = factories.Resource()["id"]
    tableless = cli.invoke(ckan, ["bigquery", "export", empty])
    assert (tableless.exit_code, "has no table" in tableless.output) == (1, True)
    unknown = cli.invoke(ckan, ["bigquery", "export", empty, "--format", "xls"])
    assert (unknown.exit_code, "'xls' is not one of" in unknown.output) == (2, True)
