"""What streaming through CKAN costs: speed, memory, and the time to let go of a connection.

    python benchmarks/bench_stream.py [--megabytes 512] [--downloads 100]

The storage is a process of its own on loopback, so its work is not counted. Each figure is a
line on standard output.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from ckanext.bigquery_datastore.dump.stream import Patience, Source, Stream, open_stream
from ckanext.bigquery_datastore.dump.transform import to_json, to_xml
from ckanext.bigquery_datastore.tests.dump.upstream import Answer, Upstream

PATIENCE = Patience(connect=10, read=60)
MB = 1_000_000

FIELDS = [
    {"id": "_id", "type": "int"},
    {"id": "place", "type": "text"},
    {"id": "text", "type": "text"},
    {"id": "count", "type": "int4"},
    {"id": "share", "type": "float8"},
    {"id": "amount", "type": "numeric"},
    {"id": "at", "type": "timestamp"},
    {"id": "valid", "type": "bool"},
]


def storage(parent: Connection, size: int) -> None:
    """Serve two objects until told to end, and say when the last connection was closed."""
    with Upstream() as upstream:
        data = bytes(size)
        parent.send(
            (upstream.put("whole", data), upstream.put("silent", data, Answer(stall_after=99)))
        )
        while parent.recv() == "closed?":
            upstream.wait_until(lambda now: now.open_connections == 0)
            parent.send(time.monotonic())


def drain(stream: Stream) -> int:
    with stream:
        return sum(map(len, stream))


def status(name: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


def rows(count: int) -> Iterator[bytes]:
    dice = random.Random(1)
    for i in range(count):
        row = {
            "_id": str(i),
            "place": f"Ville de Genève {i % 1000}",
            "text": 'some text with "quotes" & more of it',
            "count": str(dice.randrange(10**6)),
            "share": repr(dice.random()),
            "amount": f"{dice.random() * 100:.2f}",
            "at": f"2015-01-01T10:00:{i % 60:02d}",
            "valid": "t",
        }
        yield json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def measure_one(url: str, size: int) -> None:
    drain(open_stream([Source(url, size, 1)], None, PATIENCE))
    wall, cpu = time.monotonic(), time.process_time()
    drain(open_stream([Source(url, size, 1)], None, PATIENCE))
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    say(
        "one download", f"{size / MB / wall:.0f} MB/s, {cpu * 1000 * MB / size:.1f} s of CPU per GB"
    )


def measure_many(url: str, size: int, count: int) -> None:
    share = size // count
    begin = threading.Event()
    opened = threading.Barrier(count + 1)

    def worker() -> None:
        begin.wait()
        stream = open_stream([Source(url, size, 1)], None, PATIENCE)
        got = len(next(stream))
        opened.wait()
        with stream:
            while got < share:
                got += len(next(stream))

    workers = [threading.Thread(target=worker) for _ in range(count)]
    for thread in workers:
        thread.start()
    resident, threads = status("VmRSS:"), status("Threads:")
    peak = Peak()
    begin.set()
    opened.wait()
    more_threads = status("Threads:") - threads - 1
    wall = time.monotonic()
    for thread in workers:
        thread.join()
    wall = time.monotonic() - wall
    say(
        f"{count} downloads at once",
        f"{(peak.end() - resident) / 1024:.0f} MB more memory, {more_threads} more threads, "
        f"{share * count / MB / wall:.0f} MB/s together",
    )


class Peak(threading.Thread):
    """The most memory that this process has had since this was made, in kilobytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._most = 0
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            self._most = max(self._most, status("VmRSS:"))

    def end(self) -> int:
        self._ended.set()
        self.join()
        return self._most


def measure_leaving(url: str, size: int, storage_side: Connection) -> None:
    seconds = []
    for _ in range(30):
        stream = open_stream([Source(url, size, 1)], None, PATIENCE)
        next(stream)
        left = time.monotonic()
        stream.close()
        storage_side.send("closed?")
        seconds.append(storage_side.recv() - left)
    say(
        "a visitor leaves",
        f"the storage's connection is closed after {statistics.median(seconds) * 1000:.1f} ms "
        f"(at most {max(seconds) * 1000:.1f} ms)",
    )


def measure_rewriting(name: str, rewrite: Callable[..., Iterator[bytes]]) -> None:
    data = b"".join(rows(200_000))
    chunks = [data[at : at + 65536] for at in range(0, len(data), 65536)]
    cpu = time.process_time()
    written = sum(map(len, rewrite(FIELDS, chunks)))
    cpu = time.process_time() - cpu
    say(
        f"rewriting as {name}",
        f"{len(data) / MB / cpu:.0f} MB/s read, {written / MB / cpu:.0f} MB/s written, "
        f"{200_000 / cpu:.0f} rows a second on one core",
    )


def say(what: str, figure: str) -> None:
    sys.stdout.write(f"{what}: {figure}\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=int, default=512)
    options.add_argument("--downloads", type=int, default=100)
    given = options.parse_args()
    size = given.megabytes * MB
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=storage, args=(there, size))
    process.start()
    whole, silent = here.recv()
    measure_one(whole, size)
    measure_leaving(silent, size, here)
    measure_many(whole, size, given.downloads)
    measure_rewriting("json", to_json)
    measure_rewriting("xml", to_xml)
    here.send("end")
    process.join()


if __name__ == "__main__":
    main()
