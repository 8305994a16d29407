"""What a crowd costs a CKAN site: clients that wait for exports, and readers that are slow.

    . .stack/env && python benchmarks/bench_alive.py [--waiting 1000] [--readers 200]

Starts the demo site anew on gunicorn (2 workers of 8 threads) and on uvicorn (2 workers), each with
a crowd of its own: clients that wait for 20 exports, then readers that take 2 kB a second. CKAN's
dataset page is asked for all the while. The clients are a process of their own; whoever is told to
come back later goes away, as a plain curl does. Prints a table. Needs the running stack.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

EXPORTS = 20
ARRIVAL_SECONDS = 25
EXPORT_SECONDS = 120
PAGES = 100
SHORT, LONG = [f"row {n}" for n in range(50)], ["x" * 2000] * 3000

SERVERS = {
    "gunicorn": [
        *("gunicorn", "--chdir", "dev", "--bind", "127.0.0.1:{port}", "--workers", "2"),
        *("--threads", "8", "--no-control-socket", "wsgi:application"),
    ],
    "uvicorn": [
        *("uvicorn", "ckanext.bigquery_datastore.asgi:application", "--port", "{port}"),
        *(
            "--workers",
            "2",
            "--no-access-log",
            "--loop",
            "asyncio",
            "--timeout-graceful-shutdown",
            "5",
        ),
    ],
}


# --- the clients: a process of its own, told by a pipe what to do


@dataclass
class Crowd:
    """What came of its clients so far."""

    waiting: int = 0
    streaming: int = 0
    let_in: int = 0
    whole: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    turned_away: list[float] = field(default_factory=list)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)


async def ask(url: str, headers: str) -> tuple[int, dict[str, str], Any, Any]:
    """One request on a connection of its own; the answer's head, and the rest to be read."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await loop.sock_connect(sock, (parts.hostname, parts.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
    path = f"{parts.path}?{parts.query}"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{headers}\r\n".encode())
    status = int((await reader.readline()).split()[1])
    found = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(": ")
        found[name.lower()] = value
    return status, found, reader, writer


async def wait_for_file(crowd: Crowd, url: str, expected: str) -> None:
    was_let_in = False
    for _ in range(20):
        crowd.waiting += 1
        began = time.monotonic()
        status, headers, reader, writer = await ask(url, "User-Agent: curl/8.5.0\r\n")
        seconds = time.monotonic() - began
        crowd.waiting -= 1
        was_let_in = was_let_in or status == 302
        if status == 302:
            url = headers["location"]
            writer.close()
            continue
        body = await reader.readexactly(int(headers["content-length"])) if status == 200 else b""
        writer.close()
        if status == 503 and not was_let_in:
            crowd.turned_away.append(seconds)
            return
        crowd.let_in += 1
        if hashlib.sha256(body).hexdigest() == expected:
            crowd.whole += 1
        else:
            crowd.wrong[f"HTTP {status} after it was let in"] += 1
        return


async def read_slowly(crowd: Crowd, url: str, token: str, expected: str) -> None:
    began = time.monotonic()
    # Of a client that may repeat its token elsewhere: the site streams to it.
    headers = f"Authorization: {token}\r\nUser-Agent: Python-urllib/3.12\r\n"
    status, found, reader, writer = await ask(url, headers)
    if status == 503:
        crowd.turned_away.append(time.monotonic() - began)
        writer.close()
        return
    crowd.let_in += 1
    crowd.streaming += 1
    left, sum_ = int(found.get("content-length", 0)), hashlib.sha256()
    while left and (chunk := await reader.read(min(left, 2048))):
        left -= len(chunk)
        sum_.update(chunk)
        if not crowd.hurry.is_set():
            await asyncio.wait([asyncio.ensure_future(crowd.hurry.wait())], timeout=1)
    crowd.streaming -= 1
    writer.close()
    if status == 200 and sum_.hexdigest() == expected:
        crowd.whole += 1
    else:
        crowd.wrong[f"HTTP {status}, {left} bytes left"] += 1


async def live(pipe: Connection) -> None:
    """Do as told: a word, or a function, its arguments for each client, seconds between two."""
    crowd, tasks = Crowd(), set()
    loop = asyncio.get_running_loop()

    async def arrive(doing: str, clients: list[list[str]], pause: float) -> None:
        for arguments in clients:
            tasks.add(asyncio.create_task(globals()[doing](crowd, *arguments)))
            await asyncio.sleep(pause)

    while (order := await loop.run_in_executor(None, pipe.recv)) != "end":
        if order == "hurry":
            crowd.hurry.set()
        elif order == "join":
            for task in asyncio.as_completed(tasks):
                try:
                    await task
                except (OSError, ValueError, asyncio.IncompleteReadError) as err:
                    crowd.wrong[type(err).__name__] += 1
            tasks.clear()
        elif order != "tell":
            await arrive(*order)
        pipe.send({name: value for name, value in vars(crowd).items() if name != "hurry"})
        crowd.turned_away = []


def clients(pipe: Connection) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(live(pipe))


# --- the site


class Site:
    def __init__(self, name: str, folder: Path, export_seconds: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.name, self.url = name, f"http://127.0.0.1:{port}"
        ini = folder / f"{name}.ini"
        base = Path(os.environ["CKAN_INI"]).resolve()
        options = {
            "use": f"config:{base}",
            "ckan.site_url": self.url,
            "ckanext.bigquery_datastore.job_labels": f"emulator_run_seconds={export_seconds}",
            "ckanext.bigquery_datastore.metadata_ttl_seconds": "30",
        }
        lines = "\n".join(f"{key} = {value}" for key, value in options.items())
        logging = base.read_text().partition("[loggers]")
        text = "".join(logging[1:]).replace("level = INFO", "level = WARNING")
        ini.write_text(f"[app:main]\n{lines}\n\n{text}")
        program, *arguments = (part.format(port=port) for part in SERVERS[name])
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name(program)), *arguments],
            env={**os.environ, "CKAN_INI": str(ini)},
            stdout=(folder / f"{name}.log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        until(lambda: self.page("/api/3/action/status_show") > 0, 120)

    def page(self, path: str) -> float:
        """Seconds that a page takes; 0 where there is none."""
        began = time.monotonic()
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                answer.read()
        except OSError:
            return 0
        return time.monotonic() - began

    def pages(self, path: str) -> list[float]:
        """A page, again and again; in milliseconds."""
        found = []
        for _ in range(PAGES):
            found.append(1000 * (self.page(path) or 60))
            time.sleep(0.05)
        return found

    def used(self, name: str) -> int:
        """A figure of /proc/…/status for all of the server's processes."""
        found, pids = 0, [self.process.pid]
        while pids:
            pid = pids.pop()
            status = Path(f"/proc/{pid}/status").read_text()
            found += int(status.partition(f"{name}:")[2].split()[0])
            for task in Path(f"/proc/{pid}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
        return found

    def action(self, name: str, /, **data: object) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api/3/action/{name}",
            json.dumps(data).encode(),
            {
                "Content-Type": "application/json",
                "Authorization": os.environ["CKAN_SYSADMIN_TOKEN"],
            },
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["result"]

    def status(self, table: str) -> str:
        return f"{self.url}/datastore/dump/{table}/status"

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def until(happens: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.2)


def fill(table: str, texts: list[str]) -> None:
    client = bigquery.Client("local", credentials=AnonymousCredentials(), location="EU")
    schema = [bigquery.SchemaField("_id", "INT64"), bigquery.SchemaField("text", "STRING")]
    client.load_table_from_json(
        [{"_id": number, "text": text} for number, text in enumerate(texts, 1)],
        f"local.datastore.{table}",
        job_config=bigquery.LoadJobConfig(schema=schema, write_disposition="WRITE_TRUNCATE"),
    ).result()


def csv(texts: list[str], offset: int = 0) -> str:
    rows = "".join(f"{n},{text}\n" for n, text in enumerate(texts, 1) if n > offset)
    return hashlib.sha256(f"_id,text\n{rows}".encode()).hexdigest()


def p95(found: list[float]) -> float:
    return statistics.quantiles(found, n=20)[-1] if len(found) > 1 else 0


def measure(name: str, folder: Path, waiting: int, readers: int) -> dict[str, str]:
    """All figures of one server: its site is made ready by one that exports at once."""
    with closing(Site(name, folder, 0)) as site:
        owner = site.action("organization_list")[0]
        dataset = site.action(
            "package_create", name=f"crowd-{uuid.uuid4().hex[:8]}", owner_org=owner
        )
        tables = [site.action("resource_create", package_id=dataset["id"])["id"] for _ in range(2)]
        fill(tables[0], SHORT)
        fill(tables[1], LONG)
        until(lambda: b"ready" in urllib.request.urlopen(site.status(tables[1])).read(), 60)
    with closing(Site(name, folder, EXPORT_SECONDS)) as site:
        return crowded(site, f"/dataset/{dataset['name']}", tables, waiting, readers)


def warm_up(site: Site, page: str, file: str) -> None:
    """Have every thread of the site made, and every way used."""
    token = os.environ["CKAN_MEMBER_TOKEN"]

    def stream(_: int) -> None:
        headers = {"Authorization": token, "User-Agent": "Python-urllib/3.12"}
        with suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(file, headers=headers), timeout=60).read()

    with ThreadPoolExecutor(40) as threads:
        for _ in range(3):
            list(threads.map(lambda _: site.page(page), range(80)))
            list(threads.map(stream, range(80)))


def crowded(site: Site, page: str, tables: list[str], waiting: int, readers: int) -> dict[str, str]:
    dump = f"{site.url}/datastore/dump"
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=clients, args=(there,), daemon=True
    )
    process.start()

    def crowd(order: Any) -> dict[str, Any]:
        here.send(order)
        return here.recv()

    def settled(what: str) -> int:
        """How many there are once no more come."""
        before, now = -1, 0
        while now != before:
            time.sleep(3)
            told = crowd("tell")
            away.extend(told["turned_away"])
            before, now = now, told[what]
        return now

    away: list[float] = []
    warm_up(site, page, f"{dump}/{tables[1]}")
    quiet, threads, memory = site.pages(page), site.used("Threads"), site.used("VmRSS")

    jobs = [
        [f"{dump}/{tables[0]}?offset={n % EXPORTS}", csv(SHORT, n % EXPORTS)]
        for n in range(waiting)
    ]
    told = crowd(["wait_for_file", jobs, ARRIVAL_SECONDS / waiting])
    away += told["turned_away"]
    held = settled("waiting")
    wait_threads, wait_memory = site.used("Threads"), site.used("VmRSS")
    wait_pages = site.pages(page)
    # Not what those pages, and those who have come back meanwhile, have taken.
    memory_before_readers = site.used("VmRSS")
    token = os.environ["CKAN_MEMBER_TOKEN"]
    slow = [[f"{dump}/{tables[1]}?", token, csv(LONG)]] * readers
    told = crowd(["read_slowly", slow, 10 / readers])
    away += told["turned_away"]
    streams = settled("streaming")
    read_threads, read_memory = site.used("Threads"), site.used("VmRSS")
    read_pages = site.pages(page)
    crowd("hurry")
    told = crowd("join")
    away += told["turned_away"]
    here.send("end")
    process.join()
    loaded = wait_pages + read_pages
    return {
        "dataset page, quiet": f"p50 {statistics.median(quiet):.0f} ms, p95 {p95(quiet):.0f} ms",
        "beside those who wait": f"p50 {statistics.median(wait_pages):.0f} ms, "
        f"p95 {p95(wait_pages):.0f} ms",
        "beside slow readers, too": f"p50 {statistics.median(read_pages):.0f} ms, "
        f"p95 {p95(read_pages):.0f} ms",
        "p95, loaded / quiet": f"{p95(loaded) / p95(quiet):.2f}",
        "p50, loaded / quiet": f"{statistics.median(loaded) / statistics.median(quiet):.2f}",
        "waiting at a time": str(held),
        "streamed to at a time": str(streams),
        "threads": f"{threads} quiet, {wait_threads} waiting, {read_threads} streaming",
        "memory a waiting client": f"{(wait_memory - memory) / max(held, 1):.0f} KiB",
        "memory a stream": f"{(read_memory - memory_before_readers) / max(streams, 1):.0f} KiB",
        "let in, whole and right": f"{told['whole']} of {told['let_in']}",
        "told to come back": f"{len(away)}, after p50 {1000 * statistics.median(away):.0f} ms, "
        f"p95 {1000 * p95(away):.0f} ms"
        if away
        else "0",
        "what went wrong": json.dumps(told["wrong"]),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--waiting", type=int, default=1000)
    options.add_argument("--readers", type=int, default=200)
    options.add_argument("--servers", nargs="+", default=list(SERVERS))
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tables = {
            name: measure(name, Path(folder), given.waiting, given.readers)
            for name in given.servers
        }
    sys.stdout.write(f"| | {' | '.join(tables)} |\n|---|{'---|' * len(tables)}\n")
    for row in next(iter(tables.values())):
        sys.stdout.write(f"| {row} | {' | '.join(table[row] for table in tables.values())} |\n")


if __name__ == "__main__":
    main()
