"""An engine on the local stack without a site around it, for tests and for their processes.

    python -m ckanext.bigquery_datastore.tests.dump.exporting '{"bucket": …, "table": …, …}'

runs one export to its end, in as many ``"threads"`` at once as told, and ends with 0 where all of
them got the file; with ``"kill_after": n`` it kills itself right after its n-th change at Google.
It begins when it is told so by a line on its standard input.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage

from ckanext.bigquery_datastore.backend.search.build import build
from ckanext.bigquery_datastore.backend.table import lookup
from ckanext.bigquery_datastore.dump import cuts, export
from ckanext.bigquery_datastore.dump import plan as plans
from ckanext.bigquery_datastore.dump.engine import Engine
from ckanext.bigquery_datastore.dump.formats import FORMATS
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.state import Ready, Running
from ckanext.bigquery_datastore.dump.storage import Store

PROJECT = "local"


class Always:
    """Asks every time, as ``recent.Recent`` does with a time to live of 0."""

    def get(self, key: str, ask: Callable[[], Any]) -> Any:
        return ask()


@dataclass(frozen=True)
class Place:
    """A dataset and a bucket of a test's own, and an engine on them."""

    dataset: str
    bucket: str
    labels: Mapping[str, str] = field(default_factory=dict)
    maximum_bytes_billed: int | None = None
    timeout_seconds: int = 3600
    project: str = PROJECT

    @functools.cached_property
    def bigquery(self) -> bigquery.Client:
        return bigquery.Client(self.project, credentials=AnonymousCredentials(), location="EU")

    @functools.cached_property
    def storage(self) -> storage.Client:
        return storage.Client(self.project, credentials=AnonymousCredentials())

    @property
    def store(self) -> Store:
        return Store(self.storage, self.bucket)

    def engine(self) -> Engine:
        limits = export.Limits(self.maximum_bytes_billed, self.timeout_seconds, self.labels)
        return Engine(
            self.bigquery, self.store, self.store, limits, dt.timedelta(hours=1), Always()
        )

    def plan(self, table: str, format_name: str, **params: Any) -> DumpPlan:
        found = lookup.from_api(self.bigquery.get_table(f"{self.project}.{self.dataset}.{table}"))
        revision, modified = plans.revision(
            found, dt.datetime.now(dt.timezone.utc), dt.timedelta(minutes=5)
        )
        return DumpPlan(
            resource_id=table,
            table=found,
            select=build(found, params),
            format=FORMATS[format_name],
            revision=revision,
            modified=modified,
            basename=table,
            bom=False,
            is_ordered_by_default="sort" not in params,
            is_whole=not params,
            is_page=False,
            milliseconds=True,
            asked=time.monotonic(),
        )

    def advance(self, plan: DumpPlan, seconds: float = 60) -> Ready | Running:
        return self.engine().advance(plan, time.monotonic() + seconds)

    def file(self, table: str, format_name: str, **params: Any) -> bytes:
        """The bytes that a visitor would get."""
        ready = self.advance(self.plan(table, format_name, **params))
        assert isinstance(ready, Ready), ready
        bucket = self.storage.bucket(self.bucket)
        return b"".join(bucket.blob(part.name).download_as_bytes() for part in ready.objects)

    def fill(self, table: str, rows: list[dict[str, Any]], **types: str) -> None:
        """Make or replace a table; ``_id`` is added."""
        fields = [bigquery.SchemaField(name, type_) for name, type_ in types.items()]
        job_config = bigquery.LoadJobConfig(
            write_disposition="WRITE_TRUNCATE",
            schema=[bigquery.SchemaField("_id", "INT64"), *fields],
        )
        numbered = [{"_id": number, **row} for number, row in enumerate(rows, 1)]
        self.bigquery.load_table_from_json(
            numbered, f"{self.project}.{self.dataset}.{table}", job_config=job_config
        ).result()

    def export_jobs(self) -> list[bigquery.QueryJob]:
        """The exports of this place that BigQuery ran of late, whatever became of them."""
        # No test lasts so long; the jobs of all tests are too many to be listed each time.
        since = dt.datetime.now(dt.timezone.utc) - dt.timedelta(minutes=10)
        return [
            job
            for job in self.bigquery.list_jobs(min_creation_time=since)
            if isinstance(job, bigquery.QueryJob)
            and (job.job_id or "").startswith("ckan_dump_")
            and f"{self.bucket}/" in job.query
        ]


@contextmanager
def a_place(dataset: str, bucket: str) -> Iterator[Place]:
    """A new dataset and bucket, gone afterwards."""
    place = Place(dataset, bucket)
    made = bigquery.Dataset(f"{PROJECT}.{dataset}")
    made.location = "EU"
    place.bigquery.create_dataset(made)
    place.storage.create_bucket(bucket, location="EU")
    try:
        yield place
    finally:
        place.bigquery.delete_dataset(dataset, delete_contents=True, not_found_ok=True)
        found = place.storage.bucket(bucket)
        found.delete_blobs(list(found.list_blobs()))
        found.delete()


def die_after(calls: int) -> None:
    """Kill this process, as hard as can be, right after its n-th change at Google."""
    left = calls

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            result = function(*args, **kwargs)
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for owner, name in (
        (storage.Blob, "upload_from_file"),
        (storage.Blob, "compose"),
        (storage.Bucket, "delete_blob"),
        (bigquery.Client, "query"),
        (bigquery.Client, "extract_table"),
    ):
        setattr(owner, name, counted(getattr(owner, name)))


def main(order: Mapping[str, Any]) -> None:
    place = Place(order["dataset"], order["bucket"], order.get("labels", {}))
    plan = place.plan(order["table"], order["format"])
    if "slice_bytes" in order:
        cuts.SLICE_BYTES = order["slice_bytes"]
    if "kill_after" in order:
        die_after(order["kill_after"])
    sys.stdout.write("waiting\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with ThreadPoolExecutor(order["threads"]) as threads:
        states = list(threads.map(lambda _: place.advance(plan), range(order["threads"])))
    sys.exit(0 if all(isinstance(state, Ready) for state in states) else 1)


def spawn(place: Place, table: str, format_name: str, **order: Any) -> subprocess.Popen[str]:
    """A process of its own that is ready to export, and waits for :func:`release`."""
    order = {
        "dataset": place.dataset,
        "bucket": place.bucket,
        "labels": dict(place.labels),
        "table": table,
        "format": format_name,
        "threads": 1,
        **order,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    return process


def release(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
