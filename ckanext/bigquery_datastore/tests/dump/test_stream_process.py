"""What streaming costs a server process: one thread, little memory, no trouble with forks.

Each test runs a process of its own; the storage is in the tests' process, outside of what
is measured.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from random import Random

import pytest

from ckanext.bigquery_datastore.tests.dump.upstream import Upstream

PRELUDE = """
import hashlib, json, os, sys, threading
from ckanext.bigquery_datastore.dump.stream import Patience, Source, open_stream

url, size = sys.argv[1], int(sys.argv[2])

def opened():
    return open_stream([Source(url, size, 1)], None, Patience(connect=10, read=30))

def digest(stream):
    with stream:
        whole = hashlib.sha256()
        for chunk in stream:
            whole.update(chunk)
        return whole.hexdigest()

def used(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))
"""

MANY = """
digest(opened())
threads, resident = used("Threads:"), used("VmRSS:")
streams = [opened() for _ in range(100)]
# Each visitor has read a little and then nothing: every buffer on the way fills up.
heads = [next(stream) for stream in streams]
held = used("VmRSS:")
digests = set()
for head, stream in zip(heads, streams):
    whole = hashlib.sha256(head)
    with stream:
        for chunk in stream:
            whole.update(chunk)
    digests.add(whole.hexdigest())
print(json.dumps({
    "more_threads": used("Threads:") - threads,
    "more_kilobytes": max(held, used("VmHWM:")) - resident,
    "digests": sorted(digests),
}))
"""

FORKS = """
before = digest(opened())
held = opened()
next(held)
children = []
for _ in range(3):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, digest(opened()).encode())
        os._exit(0)
    children.append((child, reading))
digests = [before]
for child, reading in children:
    digests.append(os.read(reading, 64).decode())
    assert os.waitpid(child, 0)[1] == 0
held.close()
digests.append(digest(opened()))
print(json.dumps(digests))
"""

LEAVES = """
stream = opened()
next(stream)
print(json.dumps(True))
"""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


def run(script: str, url: str, data: bytes) -> object:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, url, str(len(data))],
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_hundred_downloads_at_once_take_no_threads_and_less_than_64_mb(
    upstream: Upstream,
) -> None:
    data = Random(0).randbytes(4 * 1024 * 1024)
    cost = run(MANY, upstream.put("a", data), data)
    assert isinstance(cost, dict)
    assert cost["digests"] == [hashlib.sha256(data).hexdigest()]
    assert cost["more_threads"] == 0
    assert cost["more_kilobytes"] < 64 * 1024
    assert upstream.connections >= 100


def test_processes_that_fork_after_a_download_make_their_own_connections(
    upstream: Upstream,
) -> None:
    data = Random(0).randbytes(4 * 1024 * 1024)
    assert run(FORKS, upstream.put("a", data), data) == [hashlib.sha256(data).hexdigest()] * 5


def test_a_process_ends_although_a_download_is_under_way(upstream: Upstream) -> None:
    data = Random(0).randbytes(4 * 1024 * 1024)
    assert run(LEAVES, upstream.put("a", data), data) is True
