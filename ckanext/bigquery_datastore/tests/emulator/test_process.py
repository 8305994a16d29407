"""The process: one command, kept data, a clean end."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from google.api_core.exceptions import Conflict
from google.cloud import bigquery

from ckanext.bigquery_datastore.tests.emulated import emulator_python

from .conftest import LOCATION, Emulator, run, until


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator of the test's own, not started; ended whatever happens."""
    emulator = Emulator(tmp_path)
    yield emulator
    if emulator._process is not None and emulator._process.poll() is None:
        emulator.end(signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=2)
    except httpx.TransportError:
        return False
    return True


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_it_says_how_to_point_a_site_at_it(running: Emulator) -> None:
    assert f"export BIGQUERY_EMULATOR_HOST={running.bigquery_url}" in running.said
    assert f"export STORAGE_EMULATOR_HOST={running.storage_url}" in running.said
    assert "ckan.datastore.write_url = bigquery://local/datastore" in running.said
    assert running.admin("GET", "health") == {"bigquery": "ok", "storage": "ok"}


def test_nothing_of_ckan_is_imported() -> None:
    code = (
        "import sys, ckanext.bigquery_datastore.emulator.process; "
        "sys.exit(any(name == 'ckan' or name.startswith('ckan.') for name in sys.modules))"
    )
    assert subprocess.run([emulator_python(), "-c", code], check=False).returncode == 0


def test_the_key_file_is_ours_alone(running: Emulator) -> None:
    assert stat.S_IMODE(running.key_file.stat().st_mode) == 0o600
    key = json.loads(running.key_file.read_text())
    assert key["client_email"] == "emulator@local.iam.gserviceaccount.com"
    assert key["token_uri"] == f"{running.bigquery_url}/emulator/token"


def test_everything_survives_a_restart(own: Emulator) -> None:
    bq = own.start().bigquery()
    dataset = bigquery.Dataset("local.kept")
    dataset.location = LOCATION
    bq.create_dataset(dataset)
    fields = [bigquery.SchemaField("a", "INT64", description="words")]
    table = bq.create_table(bigquery.Table("local.kept.t", fields))
    run(bq, "INSERT INTO kept.t (a) VALUES (1), (2)")
    before = bq.get_table(table)
    done = bq.query("SELECT 1", job_id="done", location=LOCATION, job_retry=None)
    running_config = bigquery.QueryJobConfig(labels={"emulator_run_seconds": "60"})
    bq.query("SELECT 1", job_id="cut", location=LOCATION, job_config=running_config, job_retry=None)
    own.storage().bucket("exports").blob("x/y").upload_from_string("kept")
    key = own.key_file.read_text()
    assert own.end() == 0

    bq = own.start().bigquery()
    after = bq.get_table(table)
    assert (after.num_rows, after.modified, after.etag) == (2, before.modified, before.etag)
    assert after.schema[0].description == "words"
    assert sorted(row.a for row in bq.list_rows(after)) == [1, 2]
    assert bq.get_job(done.job_id, location=LOCATION).state == "DONE"
    for job_id in ("done", "cut"):
        with pytest.raises(Conflict):
            bq.query("SELECT 1", job_id=job_id, location=LOCATION, job_retry=None)
    cut = bq.get_job("cut", location=LOCATION)
    assert (cut.state, cut.error_result["reason"]) == ("DONE", "backendError")
    assert own.storage().bucket("exports").blob("x/y").download_as_bytes() == b"kept"
    assert own.key_file.read_text() == key
    run(bq, "INSERT INTO kept.t (a) VALUES (3)")
    assert bq.get_table(table).modified > after.modified


def test_committed_data_survives_a_kill_and_the_storage_server_does_not(own: Emulator) -> None:
    bq = own.start().bigquery()
    bq.create_dataset("kept")
    run(bq, "CREATE TABLE kept.t AS SELECT 7 AS a")
    (child,) = children(own.pid)
    own.end(signal.SIGKILL)
    until(lambda: not alive(child))
    bq = own.start().bigquery()
    assert [row.a for row in bq.list_rows(bq.get_table("local.kept.t"))] == [7]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_both_services_at_once(own: Emulator, number: int) -> None:
    bq = own.start().bigquery()
    config = bigquery.QueryJobConfig(labels={"emulator_run_seconds": "60"})
    bq.query("SELECT 1", job_config=config)
    (child,) = children(own.pid)
    assert own.end(number) == 0
    assert not alive(child)
    assert not answers(own.bigquery_url)
    assert not answers(own.storage_url)


def test_a_port_in_use_is_one_sentence(own: Emulator) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", own.storage_port))
        taken.listen()
        ended = subprocess.run(own.arguments, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.count("\n") == 1
    assert f"Port {own.storage_port} on 127.0.0.1, meant for Cloud Storage, is in use" in (
        ended.stderr
    )


def test_a_reset_empties_the_data_folder(own: Emulator) -> None:
    own.start().bigquery().create_dataset("gone")
    own.end()
    fresh = Emulator(own.data)
    fresh.bigquery_port, fresh.storage_port = own.bigquery_port, own.storage_port
    arguments = [*fresh.arguments, "--reset"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "are ready" in process.stdout.readline()
    assert list(own.bigquery().list_datasets()) == []
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


def test_without_a_folder_nothing_is_left_behind(own: Emulator, tmp_path: Path) -> None:
    arguments = [part for part in own.arguments if part not in ("--data", str(own.data))]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert "are ready" in process.stdout.readline()
    assert list(tmp_path.glob("bigquery-emulator-*")) != []
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()
    assert list(tmp_path.glob("bigquery-emulator-*")) == []
