"""Everyday actions of a site on Google, measured: seconds, and the bytes that BigQuery bills.

    make live PROJECT=my-project BUCKET=my-bucket    on Google, with Application Default Credentials
    make live                                        on the emulators of the running stack

CKAN itself runs in this process, on the stack's test database. All that is made has names of its
own: a dataset, one CKAN dataset, folders in the bucket. All of it is removed at the end, also after
a failure and after Ctrl-C. On Google the questions of ``tests/test_google.py`` are asked as well.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime as dt
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import requests
from click.testing import CliRunner
from google.cloud import bigquery, storage
from layout import HOME, LOCATION, PROJECT, Version

LABEL = "ckan_live"
QUESTIONS = "ckanext/bigquery_datastore/tests/test_google.py"
# https://cloud.google.com/bigquery/pricing#on_demand_pricing, US; others cost up to twice as much.
DOLLARS_PER_TIB = 6.25
FIELDS = [
    {"id": "k", "type": "int"},
    {"id": "name", "type": "text"},
    {"id": "value", "type": "float"},
    {"id": "moment", "type": "timestamp"},
]
LOADED_ROWS = 10_000


@dataclass(frozen=True)
class Ground:
    """Where it happens, and under which names."""

    project: str
    bucket: str
    location: str
    run: str
    is_google: bool

    @property
    def dataset(self) -> str:
        return f"ckan_live_{self.run}"


@dataclass(frozen=True)
class Measure:
    """One action: how long a client waited, and what BigQuery did for it."""

    name: str
    seconds: float
    jobs: int
    billed: int

    def line(self) -> str:
        return (
            f"{self.name:<34} {self.seconds:8.2f} {self.jobs:6d} "
            f"{self.billed / 2**20:10.1f} {self.billed / 2**40 * DOLLARS_PER_TIB:12.6f}"
        )


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {"k": k, "name": f"station {k % 100}", "value": k / 7, "moment": "2024-02-29T12:00:00"}
        for k in range(first, first + count)
    ]


class Site:
    """CKAN in this process, on that ground; what it made is remembered."""

    def __init__(self, ground: Ground) -> None:
        from ckan.cli import CKANConfigLoader
        from ckan.config.middleware import make_app

        from ckanext.bigquery_datastore import clients

        version = Version(os.environ.get("STACK_CKAN", "2.12"))
        options = CKANConfigLoader(str(HOME / f"test-{version.short}.ini")).get_config()
        place = f"bigquery://{ground.project}/{ground.dataset}"
        ours = "ckanext.bigquery_datastore"
        options |= {
            "ckan.datastore.write_url": place,
            "ckan.datastore.read_url": place,
            f"{ours}.export_bucket": ground.bucket,
            f"{ours}.location": ground.location,
            f"{ours}.job_labels": f"{LABEL}={ground.run}",
        }
        if ground.is_google:
            for identity in ("credentials", "credentials_ro"):
                options.pop(f"{ours}.{identity}", None)
        # So that each query is a job, which can be asked for what it cost.
        clients._JOBS_ARE_OPTIONAL.clear()
        self.ground = ground
        self.app = make_app(options)._wsgi_app
        logging.disable(logging.INFO)
        self.made: list[tuple[str, str]] = []  # the action that removes it, and its id
        self.resource = ""

    def act(self, action: str, **data: Any) -> Any:
        from ckan.plugins import toolkit as tk

        with self.app.test_request_context():
            user = tk.get_action("get_site_user")({"ignore_auth": True}, {})["name"]
            return tk.get_action(action)({"ignore_auth": True, "user": user}, data)

    def prepare(self) -> None:
        """An organisation and a dataset that is open to everyone, with one resource."""
        name = f"live-{self.ground.run}"
        owner = self.act("organization_create", name=name)["id"]
        self.made.append(("organization_purge", owner))
        package = self.act("package_create", name=name, title=name, owner_org=owner)["id"]
        self.made.append(("dataset_purge", package))
        self.resource = self.act("resource_create", package_id=package, url_type="datastore")["id"]

    def download(self, format_name: str, first_bytes: bytes) -> None:
        """As a visitor: through CKAN's address, to the end of the file."""
        client, at = self.app.test_client(), f"/datastore/dump/{self.resource}?format={format_name}"
        answer = client.get(at)
        # Back to the same address until the file is there, then to Cloud Storage.
        while answer.status_code == 302 and "/datastore/dump/" in answer.headers["location"]:
            told = urlsplit(answer.headers["location"])
            answer = client.get(f"{told.path}?{told.query}")
        if answer.status_code != 302:
            raise SystemExit(f"{at}: {answer.status_code} {answer.get_data(as_text=True)[:500]}")
        content = requests.get(answer.headers["location"], timeout=600).content
        if not content.startswith(first_bytes):
            raise SystemExit(f"{at}: begins with {content[:50]!r}")

    def load(self, file: Path) -> None:
        from ckanext.bigquery_datastore.cli import bigquery

        with self.app.test_request_context():
            found = CliRunner().invoke(bigquery, ["load", self.resource, str(file)])
        if found.exit_code:
            raise SystemExit(f"load: {found.output or found.exception}")


def actions(site: Site, file: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What people do with a table, in an order that makes sense."""

    def write(action: str, **data: Any) -> Callable[[], Any]:
        return lambda: site.act(action, resource_id=site.resource, **data)

    def search(**data: Any) -> Callable[[], Any]:
        return write("datastore_search", **data)

    yield (
        "datastore_create, 100 records",
        write("datastore_create", fields=FIELDS, primary_key="k", records=rows(0, 100)),
    )
    yield "datastore_upsert, 1 record", write("datastore_upsert", records=rows(7, 1))
    yield "datastore_upsert, 1,000 records", write("datastore_upsert", records=rows(50, 1_000))
    yield f"load, {LOADED_ROWS:,} rows of CSV", lambda: site.load(file)
    yield "datastore_search, first page", search(limit=100)
    yield "datastore_search, a filter", search(filters={"k": [3, 5_000]})
    yield "datastore_search, sorted", search(sort="value desc", limit=100)
    yield "datastore_search, q", search(q="station 42", limit=100)
    yield "dump, csv", lambda: site.download("csv", b"_id,k,name,value,moment")
    yield "dump, csv again", lambda: site.download("csv", b"_id,k,name,value,moment")
    yield "dump, parquet", lambda: site.download("parquet", b"PAR1")
    yield "datastore_delete, some rows", write("datastore_delete", filters={"name": "station 42"})
    yield "datastore_delete, the table", write("datastore_delete")


def measured(client: bigquery.Client, run: str, name: str, action: Callable[[], Any]) -> Measure:
    since = dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=1)
    seen = {job.job_id for job in _jobs(client, run, since)}
    began = time.monotonic()
    action()
    seconds = time.monotonic() - began
    found = [job for job in _jobs(client, run, since) if job.job_id not in seen]
    billed = sum(getattr(job, "total_bytes_billed", None) or 0 for job in found)
    return Measure(name, seconds, len(found), billed)


def _jobs(client: bigquery.Client, run: str, since: dt.datetime) -> list[Any]:
    jobs = client.list_jobs(min_creation_time=since)
    return [job for job in jobs if (job.labels or {}).get(LABEL) == run]


@contextlib.contextmanager
def prepared(ground: Ground) -> Iterator[bigquery.Client]:
    """The ground with its dataset; on the emulators with its bucket. Gone afterwards."""
    from google.auth.credentials import AnonymousCredentials

    anybody = {} if ground.is_google else {"credentials": AnonymousCredentials()}
    client = bigquery.Client(ground.project, location=ground.location, **anybody)
    bucket = storage.Client(ground.project, **anybody).bucket(ground.bucket)
    with contextlib.ExitStack() as stack:
        if not ground.is_google:
            bucket.create(location=ground.location)
            stack.callback(removed, f"gs://{ground.bucket}", lambda: bucket.delete(force=True))
        made = bigquery.Dataset(f"{ground.project}.{ground.dataset}")
        made.location = ground.location
        client.create_dataset(made)
        stack.callback(
            removed,
            f"{ground.project}.{ground.dataset}",
            lambda: client.delete_dataset(made, delete_contents=True, not_found_ok=True),
        )
        yield client


@contextlib.contextmanager
def site_on(ground: Ground) -> Iterator[Site]:
    """CKAN, with a resource to work on; it and its files are gone afterwards."""
    site = Site(ground)
    from ckanext.bigquery_datastore import clients
    from ckanext.bigquery_datastore.load import attempt

    attempt.ROOT = f"loads-live-{ground.run}/"
    with contextlib.ExitStack() as stack:

        def files() -> None:
            bucket = clients.storage_rw().bucket(ground.bucket)
            for folder in (f"dumps/{site.resource}/", attempt.ROOT) if site.resource else ():
                bucket.delete_blobs(list(bucket.list_blobs(prefix=folder)), on_error=print)

        def in_ckan() -> None:
            for action, id in reversed(site.made):
                site.act(action, id=id)

        # The files last: CKAN's purge of a dataset withdraws them as well, but only published ones.
        stack.callback(removed, f"folders of gs://{ground.bucket}", files)
        stack.callback(removed, "CKAN's dataset", in_ckan)
        site.prepare()
        yield site


def removed(what: str, remove: Callable[[], Any]) -> None:
    """Take something away; what cannot be is named, and keeps nothing else from going."""
    try:
        remove()
    except Exception as err:  # noqa: BLE001 - whatever it is, the rest must go
        print(f"{what} is left behind, remove it by hand: {err}", file=sys.stderr)


def questions(ground: Ground) -> int:
    """Ask Google what the tests assume; pytest's exit code."""
    told = {
        "BIGQUERY_LIVE_DATASET": f"{ground.project}.{ground.dataset}",
        "BIGQUERY_LIVE_BUCKET": ground.bucket,
        "BIGQUERY_LIVE_LOCATION": ground.location,
    }
    command = [sys.executable, "-m", "pytest", QUESTIONS, "-m", "live", "-q"]
    return subprocess.run(command, env={**os.environ, **told}, check=False).returncode


def ground_of(arguments: Sequence[str]) -> Ground:
    parser = argparse.ArgumentParser(description=__doc__, usage="make live PROJECT=… BUCKET=…")
    parser.add_argument("--project", default="")
    parser.add_argument("--bucket", default="")
    given = parser.parse_args(arguments)
    run = uuid.uuid4().hex[:8]
    if not given.project:
        return Ground(PROJECT, f"live-{run}", LOCATION, run, is_google=False)
    if not given.bucket:
        parser.error("BUCKET is missing: the name of a bucket of the project")
    for name in ("BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
        os.environ.pop(name, None)
    location = storage.Client(given.project).get_bucket(given.bucket).location
    return Ground(given.project, given.bucket, location, run, is_google=True)


def main(arguments: Sequence[str]) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    began = time.monotonic()
    ground = ground_of(arguments)
    failed = 0
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(prepared(ground))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "rows.csv"
        with file.open("w", newline="") as text:
            writer = csv.DictWriter(text, [field["id"] for field in FIELDS])
            writer.writeheader()
            writer.writerows(rows(0, LOADED_ROWS))
        print(f"{'':<34} {'seconds':>8} {'jobs':>6} {'MiB billed':>10} {'dollars':>12}")
        total = Measure("all of it", 0, 0, 0)
        with site_on(ground) as site:
            for name, action in actions(site, file):
                found = measured(client, ground.run, name, action)
                print(found.line(), flush=True)
                total = Measure(
                    total.name,
                    total.seconds + found.seconds,
                    total.jobs + found.jobs,
                    total.billed + found.billed,
                )
        print(total.line())
        if ground.is_google:
            failed = questions(ground)
    print(f"live: {'FAILED' if failed else 'OK'} in {time.monotonic() - began:.0f} seconds")
    return failed


def _interrupted(number: int, frame: FrameType | None) -> None:
    # Once: what is being removed is removed to the end.
    for known in (signal.SIGINT, signal.SIGTERM):
        signal.signal(known, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("live: interrupted; what it had made is removed.", file=sys.stderr)
        sys.exit(130)
