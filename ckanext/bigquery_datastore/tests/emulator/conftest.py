"""A started emulator, the same process for all tests, spoken to by Google's own clients."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage

from ckanext.bigquery_datastore.tests.emulated import emulator_python, free_port

LOCATION = "EU"


class Emulator:
    """The emulator as a process of its own, and how to talk to it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.bigquery_port, self.storage_port = free_port(), free_port()
        self.bigquery_url = f"http://127.0.0.1:{self.bigquery_port}"
        self.storage_url = f"http://127.0.0.1:{self.storage_port}"
        self.key_file = data / "key.json"
        self._process: subprocess.Popen[bytes] | None = None
        self.said = ""

    @property
    def arguments(self) -> list[str]:
        return [
            *(emulator_python(), "-m", "ckanext.bigquery_datastore.emulator"),
            *("--data", str(self.data)),
            *("--bigquery-port", str(self.bigquery_port)),
            *("--storage-port", str(self.storage_port)),
            *("--bucket", "exports"),
            *("--credentials-file", str(self.key_file)),
        ]

    def start(self) -> Emulator:
        # A file: a pipe that nobody reads holds whoever writes to it, once it is full.
        said = self.data.with_name(f"{self.data.name}.log")
        with said.open("wb") as output:
            self._process = subprocess.Popen(
                self.arguments, stdout=output, stderr=subprocess.STDOUT
            )
        while "\nData:" not in (told := said.read_text()) and self._process.poll() is None:
            time.sleep(0.1)
        self.said = told
        assert "are ready" in self.said, self.said
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(20)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def bigquery(self) -> bigquery.Client:
        with _environment("BIGQUERY_EMULATOR_HOST", self.bigquery_url):
            return bigquery.Client(
                project="local", credentials=AnonymousCredentials(), location=LOCATION
            )

    def storage(self) -> storage.Client:
        with _environment("STORAGE_EMULATOR_HOST", self.storage_url):
            return storage.Client(project="local", credentials=AnonymousCredentials())

    def admin(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = httpx.request(method, f"{self.bigquery_url}/emulator/{path}", json=body, timeout=9)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def until(condition: Any, seconds: float = 10) -> Any:
    """What ``condition`` answers as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("The condition did not come true.")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    emulator = Emulator(tmp_path_factory.mktemp("emulator")).start()
    yield emulator
    assert emulator.end() == 0


@pytest.fixture
def emulator(running: Emulator) -> Iterator[Emulator]:
    yield running
    running.admin("POST", "reset")


@pytest.fixture(scope="session")
def bq(running: Emulator) -> bigquery.Client:
    return running.bigquery()


@pytest.fixture(scope="session")
def gcs(running: Emulator) -> storage.Client:
    return running.storage()


@pytest.fixture(scope="session")
def bucket(gcs: storage.Client) -> storage.Bucket:
    return gcs.bucket("exports")


@pytest.fixture
def dataset(bq: bigquery.Client) -> Iterator[str]:
    made = bigquery.Dataset(f"local.d_{uuid.uuid4().hex[:12]}")
    made.location = LOCATION
    bq.create_dataset(made)
    yield made.dataset_id
    bq.delete_dataset(made.dataset_id, delete_contents=True)


@pytest.fixture
def fresh() -> str:
    """A name that no other test uses."""
    return uuid.uuid4().hex


def run(bq: bigquery.Client, sql: str, **options: Any) -> bigquery.QueryJob:
    """A query job, waited for."""
    config = bigquery.QueryJobConfig(**options)
    job = bq.query(sql, job_config=config, location=LOCATION, job_retry=None)
    job.result(job_retry=None)
    return job


def value(bq: bigquery.Client, expression: str, *parameters: Any) -> Any:
    """The one value of ``SELECT expression``."""
    config = bigquery.QueryJobConfig(query_parameters=list(parameters))
    (row,) = bq.query_and_wait(f"SELECT {expression}", job_config=config)
    return row[0]
