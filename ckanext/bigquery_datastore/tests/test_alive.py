"""Nobody holds a worker: a crowd that waits, and readers that are slow, on the servers of portals.

Each test is run by gunicorn with threads and by uvicorn. Their sites let few wait, so that a crowd
is soon made; what a thousand cost is measured by ``benchmarks/bench_alive.py``.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from ckan.tests import factories

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.handover import HEADER
from ckanext.bigquery_datastore.tests.conftest import Site, Sites
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import is_within

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

BROWSER = {"Accept": "text/html"}
WAITING, STREAMING = 2, 2
OPTIONS = {
    config.WAITING_REQUESTS: str(WAITING),
    config.STREAMING_REQUESTS: str(STREAMING),
    config.WAIT_SECONDS: "5",
    config.METADATA_TTL_SECONDS: "60",
    config.DELIVERY: "stream",
    config.JOB_LABELS: "emulator_run_seconds=7",
}

# More than the buffers between a reader that does not read and its server can hold.
LINE = "x" * 2000
ROWS = 8000
CSV = b"_id,text\n" + b"".join(b"%d,%s\n" % (n, LINE.encode()) for n in range(1, ROWS + 1))


@pytest.fixture(scope="module", params=["gunicorn", "uvicorn"])
def site(request: pytest.FixtureRequest, _sites: Sites, datastore: None) -> Site:
    return _sites(OPTIONS, server=request.param)


@pytest.fixture
def table() -> dict[str, Any]:
    return a_table()


def a_table(rows: int = 1) -> dict[str, Any]:
    found = factories.Resource(url_type="datastore", datastore_active=True)
    place().fill(found["id"], [{"text": LINE}] * rows, text="STRING")
    return found


def place() -> Place:
    return Place(config.dataset(), config.export_bucket())


def jobs(table: dict[str, Any]) -> int:
    return len([job for job in place().export_jobs() if table["id"] in job.query])


def address(site: Site, table: dict[str, Any], suffix: str = "") -> str:
    return f"{site.url}/datastore/dump/{table['id']}{suffix}"


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, allow_redirects=False, timeout=60)


def status(site: Site, table: dict[str, Any]) -> dict[str, Any]:
    return get(address(site, table, "/status")).json()


@contextmanager
def requested(site: Site, table: dict[str, Any], read: int = 0) -> Iterator[socket.socket]:
    """A client that has asked for a file, and reads no more of it than so many bytes."""
    url = urlsplit(address(site, table))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect((url.hostname, url.port))
        client.sendall(f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
        if read:
            assert client.recv(read).startswith(b"HTTP/1.1 200")
        yield client


@contextmanager
def crowd(site: Site, table: dict[str, Any]) -> Iterator[None]:
    """As many as may wait for one file do so: one more is answered."""
    with ExitStack() as clients:
        sockets = [clients.enter_context(requested(site, table)) for _ in range(WAITING + 1)]
        (surplus, *others), _, _ = select.select(sockets, [], [], 30)
        assert (surplus.recv(12), others) == (b"HTTP/1.1 503", [])
        yield


def test_a_script_gets_the_file_of_a_long_export_without_any_option(site, table):
    done = subprocess.run(
        ["curl", "-sSfL", address(site, table)], stdout=subprocess.PIPE, check=True, timeout=120
    )
    assert done.stdout == CSV[: len(done.stdout)] == b"_id,text\n1,%s\n" % LINE.encode()
    assert jobs(table) == 1


def test_who_comes_beyond_is_answered_at_once_and_the_export_goes_on(site, table):
    other = a_table()
    with crowd(site, table):
        began = time.monotonic()
        script = get(address(site, other))
        page = get(address(site, other), **BROWSER)
        asynchronous = get(address(site, other), Prefer="respond-async")
        seconds = time.monotonic() - began
        assert status(site, other)["state"] == "running"
        # CKAN's other pages have their threads.
        assert get(f"{site.url}/dataset/").status_code == 200
    assert (script.status_code, page.status_code, asynchronous.status_code) == (503, 202, 202)
    assert int(script.headers["Retry-After"]) > 0
    assert "curl --retry" in script.text
    assert "data-module-status-url" in page.text
    # The three together; how quick they are on a quiet machine is measured by the benchmark.
    assert seconds < int(OPTIONS[config.WAIT_SECONDS])
    assert is_within(30, lambda: status(site, other)["state"] == "ready")
    assert jobs(other) == 1


def test_curl_that_tries_again_gets_the_file_through_a_crowd(site, table):
    other = a_table()
    with crowd(site, table):
        command = ["curl", "-sSfL", "--retry", "20", address(site, other)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120)
    assert done.stdout == b"_id,text\n1,%s\n" % LINE.encode()


def test_who_waits_for_the_same_file_shares_its_end(site, table):
    with ThreadPoolExecutor(WAITING) as threads:

        def follow(_: int) -> bytes:
            return requests.get(address(site, table), timeout=60).content

        found = set(threads.map(follow, range(WAITING)))
    assert found == {b"_id,text\n1,%s\n" % LINE.encode()}
    assert jobs(table) == 1


@pytest.fixture(scope="module")
def large(datastore: None, site: Site) -> dict[str, Any]:
    """A file that is there."""
    found = a_table(ROWS)
    assert is_within(60, lambda: status(site, found)["state"] == "ready")
    return found


def test_slow_readers_leave_room_and_who_comes_beyond_is_told(site, large):
    url = address(site, large)
    with requested(site, large, 4000):
        with requested(site, large, 4000):
            script, page = get(url), get(url, **BROWSER)
            assert (script.status_code, page.status_code) == (503, 202)
            assert int(script.headers["Retry-After"]) > 0
            assert get(f"{site.url}/dataset/").status_code == 200
            # A file that is there is not asked for in a circle.
            assert 'data-module-pause-seconds="5"' in page.text
            head = requests.head(url, timeout=30)
            assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(CSV)))
        # One has left: whoever comes next has the place.
        assert is_within(10, lambda: get(url, Range="bytes=0-9").status_code == 206)
        whole = get(url)
    assert (whole.status_code, digest(whole.content)) == (200, digest(CSV))
    assert whole.headers["Content-Length"] == str(len(CSV))
    part = get(url, Range="bytes=5000-6999")
    assert (part.status_code, part.content) == (206, CSV[5000:7000])


def test_rows_are_rewritten_on_their_way(site, large):
    found = get(address(site, large, "?format=json&sort=_id"))
    while found.status_code in (302, 503):
        found = get(found.headers.get("Location", address(site, large, "?format=json&sort=_id")))
    assert found.status_code == 200
    assert [row[0] for row in found.json()["records"]] == list(range(1, ROWS + 1))


def test_a_file_that_has_gone_is_told_in_words(site):
    found = a_table()
    assert is_within(60, lambda: status(site, found)["state"] == "ready")
    for blob in place().storage.list_blobs(place().bucket, prefix=f"dumps/{found['id']}/"):
        blob.delete()
    # The process remembers the file.
    answer = get(address(site, found))
    assert answer.status_code == 502
    assert "could not be made" in answer.text


def test_no_client_hands_over_and_no_answer_tells_of_it(site, table, large):
    for url in (f"{site.url}/dataset/", address(site, table), address(site, large)):
        answer = get(url, **{HEADER: "x", "X-Accel-Redirect": "/x"})
        assert HEADER not in answer.headers


def test_the_check_says_how_many_can_wait(site):
    assert requests.get(f"{site.url}/datastore/dump_places", timeout=30).status_code == 404
    command = [str(Path(sys.executable).with_name("ckan")), "-c", str(site.ini), "bigquery"]
    # Whether all else is in order is another test's matter.
    done = subprocess.run([*command, "check"], stdout=subprocess.PIPE, text=True)
    assert ("8 threads a process" in done.stdout) != ("downloads hold no thread" in done.stdout)
    assert f"waiting: 0 now, {WAITING} at most" in done.stdout
    assert f"streaming: 0 now, {STREAMING} at most" in done.stdout


def test_what_a_killed_process_has_begun_is_taken_on(site, table, live_site):
    """The last one: nothing is left of the site."""
    assert get(address(site, table), Prefer="respond-async").status_code == 202
    with requested(site, table):
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(site.process.pid)], stdout=subprocess.PIPE, text=True
        )
        for pid in [site.process.pid, *map(int, children.stdout.split())]:
            os.kill(pid, signal.SIGKILL)
    found = requests.get(address(live_site, table), timeout=60)
    assert found.content == b"_id,text\n1,%s\n" % LINE.encode()
    assert jobs(table) == 1


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
