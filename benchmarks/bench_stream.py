"""What streaming through CKAN costs: bytes a second beside curl, memory and threads a download.

    python -m benchmarks.bench_stream [--small]

One object lies in an emulator of the benchmark's own. 1 to 500 clients at a time read as much of it
together, once by curl from the storage server itself and once by ``open_stream`` in a process that
has a thread a client, as a WSGI server has; the two in turn. Their bytes a second are compared.
The memory is a client's that reads no more, when all that can be on the way to it has come.
"""

from __future__ import annotations

import datetime as dt
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ckanext.bigquery_datastore.dump.stream import (
    ByteRange,
    Patience,
    Source,
    Stream,
    open_stream,
)

from .alone import run, status
from .report import Curve, Figure, alternately

MB = 1_000_000
CLIENTS = (1, 10, 50, 100, 200, 500)
CURL_AT_MOST = 100  # transfers of one curl at a time


# --- our side: a process of its own for each order, so that none has the memory of another


def opened(url: str, size: int, share: int) -> Stream:
    patience = Patience(60, 60, first_byte=300)
    return open_stream([Source(url, size)], ByteRange(0, share - 1), patience)


def warm_up(url: str, size: int) -> None:
    """What the first stream of a process makes, all others use."""
    with opened(url, size, min(size, MB)) as stream:
        for _ in stream:
            pass


def read(url: str, size: int, clients: int) -> dict[str, float]:
    """Each client's share is read by a thread of its own; seconds, and threads that came."""
    share = size // clients
    begin, wrong = threading.Event(), []
    started = threading.Barrier(clients + 1)

    def worker() -> None:
        begin.wait()
        with opened(url, size, share) as stream:
            got = len(next(stream))
            started.wait(600)
            got += sum(map(len, stream))
        if got != share:
            wrong.append(f"{got} of {share} bytes")

    warm_up(url, size)
    workers = [threading.Thread(target=worker) for _ in range(clients)]
    for thread in workers:
        thread.start()
    threads, cpu, begun = status("Threads"), time.process_time(), time.monotonic()
    begin.set()
    started.wait(600)
    more_threads = status("Threads") - threads
    for thread in workers:
        thread.join()
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    if wrong:
        raise AssertionError(wrong[0])
    return {"seconds": seconds, "cpu": cpu, "threads": more_threads}


def hold(url: str, size: int, clients: int) -> dict[str, float]:
    """Visitors who have read a little and then nothing: every buffer on the way fills up."""
    warm_up(url, size)
    before = status("VmRSS")
    streams = [opened(url, size, size) for _ in range(clients)]
    for stream in streams:
        next(stream)
    held = -1
    while held != (held := status("VmRSS")):
        time.sleep(1)
    for stream in streams:
        stream.close()
    return {"kib": (held - before) / clients}


def apart(doing: str, url: str, size: int, clients: int) -> dict[str, float]:
    order = json.dumps([doing, url, size, clients])
    command = [sys.executable, "-m", "benchmarks.bench_stream", "--order", order]
    return json.loads(subprocess.check_output(command, text=True))


# --- curl's side


def curl(url: str, size: int, clients: int) -> float:
    """Seconds that as many transfers take together."""
    share = size // clients
    crowds = [min(CURL_AT_MOST, clients - first) for first in range(0, clients, CURL_AT_MOST)]
    begun = time.monotonic()
    running = [_curl(url, crowd, share) for crowd in crowds]
    got = sum(int(size) for one in running for size in one.communicate()[0].split())
    seconds = time.monotonic() - begun
    if got != clients * share:
        raise AssertionError(f"curl got {got} of {clients * share} bytes")
    return seconds


def _curl(url: str, clients: int, share: int) -> subprocess.Popen[str]:
    one = ["-sSf", "-r", f"0-{share - 1}", "-o", "/dev/null", "-w", "%{size_download}\n", url]
    command = ["curl", "-sZ", "--parallel-immediate", "--parallel-max", str(clients), *one]
    for _ in range(clients - 1):
        command += ["--next", *one]
    # Its progress goes to stderr, whatever it is told; what it got is compared.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


# --- both


def stored(size: int, folder: Path) -> tuple[Any, str]:
    """An emulator with an object of that size, and the object's URL."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage
    from google.oauth2 import service_account

    from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

    own = OwnEmulator(folder)
    client = storage.Client(
        "local", AnonymousCredentials(), client_options={"api_endpoint": own.storage_url}
    )
    bucket = client.create_bucket("bench-stream")
    blob = bucket.blob("whole")
    blob.upload_from_string(bytes(size))
    signer = service_account.Credentials.from_service_account_file(str(own.key_file))
    url = blob.generate_signed_url(
        dt.timedelta(days=1),
        credentials=signer,
        version="v4",
        api_access_endpoint=own.storage_url,
    )
    return own, url


def compared(url: str, size: int, clients: int, rounds: int) -> tuple[float, float, float, float]:
    """MB a second through CKAN and by curl, seconds of CPU a GB, and threads that came."""
    told: list[dict[str, float]] = []

    def by_us() -> float:
        told.append(apart("read", url, size, clients))
        return told[-1]["seconds"]

    curl(url, size, clients)
    streams, curls = alternately(
        by_us, lambda: curl(url, size, clients), rounds=rounds, measure=lambda action: action()
    )
    cpu = statistics.median(one["cpu"] for one in told) * 1000 * MB / size
    speed, beside = (size / MB / statistics.median(seconds) for seconds in (streams, curls))
    return speed, beside, cpu, max(one["threads"] for one in told)


def measure(small: bool) -> Iterator[Figure | Curve]:
    size, rounds = (16 * MB, 1) if small else (256 * MB, 3)
    ours, theirs, memory = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        own, url = stored(size, Path(folder))
        try:
            for clients in CLIENTS[:3] if small else CLIENTS:
                speed, beside, cpu, threads = compared(url, size, clients, rounds)
                ours.append((clients, speed))
                theirs.append((clients, beside))
                yield Figure(
                    "streamed through CKAN",
                    f"{clients} downloads at a time, {size // MB} MB together",
                    f"{speed:.0f} MB/s, {cpu:.1f} s of CPU a GB",
                    f"curl from the storage server {beside:.0f} MB/s: {speed / beside:.2f} of it",
                    "≥ 0.9",
                    speed >= 0.9 * beside,
                )
                if clients == 1:
                    continue
                kib = apart("hold", url, size, clients)["kib"]
                memory.append((clients, kib))
                yield Figure(
                    "streamed through CKAN",
                    f"memory a download, {clients} at a time",
                    f"{kib:.0f} KiB, {threads:.0f} threads beyond the workers' own",
                    target="≤ 128 KiB, 0 threads",
                    reached=kib <= 128 and threads <= 0,
                )
        finally:
            own.end()
    yield Curve(
        "Streams at a time",
        "clients",
        "MB a second, all together",
        {"through CKAN": ours, "curl, from the storage server": theirs},
        "Flat where the storage server or the processor is the limit. "
        "It falls for both where what each connection costs outweighs the little it carries.",
    )
    yield Curve(
        "Memory of a stream",
        "clients",
        "KiB a download",
        {"through CKAN": memory},
        "It falls and then stays: what a process needs for its first stream is shared by all, and "
        "a stream's buffers have one size whatever the file's.",
    )


if __name__ == "__main__":
    if "--order" in sys.argv:
        doing, *order = json.loads(sys.argv[-1])
        sys.stdout.write(json.dumps({"read": read, "hold": hold}[doing](*order)))
    else:
        run(measure, __doc__)
