"""What a download costs CKAN: a large export, cached redirects, core's own dump beside them.

    . .stack/env; python benchmarks/bench_engine.py [--megabytes 2000] [--shards 300]

needs the services of `make services` and `curl`; Google is an emulator of its own. Every figure is
taken in a CKAN process of its own, and is a line on standard output. The large file is downloaded
as a visitor would, and compared byte by byte (SHA-256) with what its rows should give. It takes six
times its size on disk. The ini files are those that the stack wrote for the tests; what is made in
their databases stays there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

STACK = Path(__file__).resolve().parents[1] / ".stack"
ROW_BYTES = 98
ROWS = "SELECT n AS _id, LPAD(CAST(n AS STRING), 79, 'x') AS text, n / 4 AS size"


class Peak(threading.Thread):
    """The most memory that this process has had since this was made, in megabytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.least = self.most = resident()
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            self.most = max(self.most, resident())

    def added(self) -> float:
        self._ended.set()
        self.join()
        return self.most - self.least


def resident() -> float:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def say(what: str, figure: str) -> None:
    sys.stdout.write(f"{what}: {figure}\n")
    sys.stdout.flush()


# --- inside of a CKAN process


def application(ini: str) -> Any:
    from ckan.cli import load_config
    from ckan.config.middleware import make_app

    site = make_app(load_config(ini))
    return getattr(site, "_wsgi_app", site)


def a_resource(app: Any) -> str:
    from ckan.tests import factories

    with app.test_request_context():
        return factories.Resource()["id"]


def ready(client: Any, url: str) -> Any:
    """The answer that gives the file, after as many hops as it takes."""
    while True:
        answer = client.get(url, buffered=False)
        if answer.status_code == 200 or "_hop" not in answer.headers.get("Location", ""):
            return answer
        time.sleep(0.5)


def fill(resource_id: str, rows: int) -> None:
    from ckanext.bigquery_datastore import clients, config

    clients.bigquery_rw().query(
        f"CREATE TABLE `{config.dataset()}.{resource_id}` AS {ROWS} "
        f"FROM UNNEST(GENERATE_ARRAY(1, {rows})) AS n"
    ).result()


def measure_large(app: Any, megabytes: int, shards: int) -> None:
    from ckanext.bigquery_datastore import config

    config.job_labels = lambda: {"emulator_shards": str(shards)}
    small, large = a_resource(app), a_resource(app)
    fill(small, 10)
    fill(large, megabytes * 1_000_000 // ROW_BYTES)
    client = app.test_client()
    # What the first export of a process loads, it keeps: not counted for the second.
    ready(client, f"/datastore/dump/{small}?format=tsv")
    peak, begun = Peak(), time.monotonic()
    answer = ready(client, f"/datastore/dump/{large}")
    seconds, added = time.monotonic() - begun, peak.added()
    assert answer.status_code == 302, answer.text
    job = export_job(answer.headers["Location"])
    say(
        f"an export in {job['fileCount']} shards",
        f"{added:.1f} MB more memory in CKAN ({peak.least:.1f} MB before, {peak.most:.1f} MB at "
        f"most, {resident():.1f} MB after), {seconds:.1f} s (the emulator's own work included)",
    )
    begun = time.monotonic()
    size, digest = downloaded(answer.headers["Location"])
    seconds = time.monotonic() - begun
    assert (size, digest) == expected(int(job["rowCount"])), "The file is not that of its rows."
    say(
        "its file",
        f"{size:,} bytes, {int(job['rowCount']):,} rows, the right SHA-256 ({digest[:16]}…), "
        f"downloaded in {seconds:.1f} s",
    )


def export_job(url: str) -> dict[str, str]:
    """What BigQuery tells of the export that a signed URL's file was made by."""
    from ckanext.bigquery_datastore import clients, config, downloads

    name = urlsplit(url).path.partition(f"/{config.export_bucket()}/")[2]
    found = downloads.store_rw().find(name)
    assert found is not None
    job = clients.bigquery_rw().get_job(found.metadata["job"])
    return job._properties["statistics"]["query"]["exportDataStatistics"]


def downloaded(url: str) -> tuple[int, str]:
    """Size and SHA-256 of what curl gets."""
    digest, size = hashlib.sha256(), 0
    with subprocess.Popen(["curl", "-sSf", url], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        while piece := curl.stdout.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    assert curl.returncode == 0
    return size, digest.hexdigest()


def expected(rows: int) -> tuple[int, str]:
    """Size and SHA-256 of the csv of ROWS."""
    digest, size = hashlib.sha256(b"_id,text,size\n"), len(b"_id,text,size\n")
    for first in range(1, rows + 1, 10_000):
        lines = "".join(
            f"{n},{str(n).rjust(79, 'x')},{n // 4 if n % 4 == 0 else n / 4}\n"
            for n in range(first, min(first + 10_000, rows + 1))
        ).encode()
        digest.update(lines)
        size += len(lines)
    return size, digest.hexdigest()


def measure_streams(app: Any, count: int) -> None:
    from ckanext.bigquery_datastore import config

    resource_id = a_resource(app)
    fill(resource_id, 100_000)
    ready(app.test_client(), f"/datastore/dump/{resource_id}")
    config.delivery = lambda: "stream"
    ready(app.test_client(), f"/datastore/dump/{resource_id}").get_data()

    def download(_: int) -> int:
        answer = app.test_client().get(f"/datastore/dump/{resource_id}", buffered=False)
        return sum(map(len, answer.response))

    peak, begun = Peak(), time.monotonic()
    with ThreadPoolExecutor(count) as threads:
        sizes = set(threads.map(download, range(count)))
    seconds, added = time.monotonic() - begun, peak.added()
    assert len(sizes) == 1
    total = sizes.pop() * count
    say(
        f"{count} streams at once through CKAN",
        f"{added:.1f} MB more memory, {total / 1e6 / seconds:.0f} MB/s together",
    )


def timed(times: int, work: Callable[[], object]) -> float:
    """The median of the milliseconds."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        found.append((time.perf_counter() - begun) * 1000)
    return statistics.median(found)


def measure_cached(app: Any, rows: int) -> None:
    from ckanext.bigquery_datastore import downloads

    resource_id = a_resource(app)
    fill(resource_id, rows)
    client, url = app.test_client(), f"/datastore/dump/{resource_id}"
    ready(client, url)

    def cold() -> None:
        downloads.TABLES.clear()
        downloads.FILES.clear()
        client.get(url)

    say("a cached file, hot", f"{timed(200, lambda: client.get(url)):.1f} ms to the redirect")
    say("a cached file, nothing remembered", f"{timed(50, cold):.1f} ms to the redirect")


def measure_core(app: Any, rows: int) -> None:
    from ckan.tests import helpers

    resource_id = a_resource(app)
    with app.test_request_context():
        for first in range(0, rows, 10_000):
            helpers.call_action(
                "datastore_create" if first == 0 else "datastore_upsert",
                resource_id=resource_id,
                force=True,
                **({"fields": FIELDS} if first == 0 else {"method": "insert"}),
                records=[
                    {"text": str(n).rjust(79, "x"), "size": n / 4}
                    for n in range(first + 1, first + 10_001)
                ],
            )
    client, url = app.test_client(), f"/datastore/dump/{resource_id}"

    def first_byte() -> None:
        answer = client.get(url, buffered=False)
        next(iter(answer.response))
        answer.close()

    say("core on PostgreSQL", f"{timed(20, first_byte):.1f} ms to the first byte of {rows:,} rows")
    whole = timed(1, lambda: client.get(url).get_data())
    say("core on PostgreSQL", f"{whole:.0f} ms of a worker for all {rows:,} rows")


FIELDS = [{"id": "text", "type": "text"}, {"id": "size", "type": "float8"}]


# --- the processes


def measure(order: dict[str, Any]) -> None:
    app = application(order["ini"])
    {
        "large": lambda: measure_large(app, order["megabytes"], order["shards"]),
        "streams": lambda: measure_streams(app, 100),
        "cached": lambda: measure_cached(app, 100_000),
        "core": lambda: measure_core(app, 100_000),
    }[order["what"]]()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=int, default=2000)
    options.add_argument("--shards", type=int, default=300)
    options.add_argument("--only", choices=["large", "streams", "cached", "core"])
    options.add_argument("--order", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.order:
        measure(json.loads(given.order))
        return
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery, storage

    from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

    with tempfile.TemporaryDirectory() as folder:
        own = OwnEmulator(Path(folder))
        os.environ.update(own.environment)
        name = f"bench_{uuid.uuid4().hex[:8]}"
        made = bigquery.Dataset(f"local.{name}")
        made.location = "EU"
        bigquery.Client("local", AnonymousCredentials()).create_dataset(made)
        storage.Client("local", AnonymousCredentials()).create_bucket(name.replace("_", "-"))
        lane = f"-{os.environ['STACK_LANE']}" if os.environ.get("STACK_LANE") else ""
        core = STACK / f"test-2.12{lane}-postgresql.ini"
        ours = Path(folder) / "ckan.ini"
        base = STACK / f"test-2.12{lane}.ini"
        ours.write_text(
            f"[app:main]\nuse = config:{base}\n"
            f"ckan.datastore.write_url = bigquery://local/{name}\n"
            f"ckan.datastore.read_url = bigquery://local/{name}\n"
            f"ckanext.bigquery_datastore.export_bucket = {name.replace('_', '-')}\n"
            f"ckanext.bigquery_datastore.credentials = {own.key_file}\n"
            f"ckanext.bigquery_datastore.credentials_ro = {own.key_file}\n"
            + "".join(base.read_text().partition("[loggers]")[1:])
        )
        for what in [given.only] if given.only else ["cached", "core", "streams", "large"]:
            order = {
                "what": what,
                "ini": str(core if what == "core" else ours),
                "megabytes": given.megabytes,
                "shards": given.shards,
            }
            subprocess.run([sys.executable, __file__, "--order", json.dumps(order)], check=True)
        own.end()


if __name__ == "__main__":
    main()
