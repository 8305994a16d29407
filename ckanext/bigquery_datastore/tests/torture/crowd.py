"""A crowd before a site of several processes: tables of known versions, clients as curl is one.

Every row of a table holds the version of its table, so that a file tells of which one it is, and
whether it is of one alone. A client goes where it is sent, also to Cloud Storage, and comes back
when it is told to.
"""

from __future__ import annotations

import asyncio
import csv
import functools
import gzip
import io
import json
import random
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pyarrow.parquet as pq
import requests

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.tests.conftest import Site, Sites
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.torture import forked

Row = tuple[int, int, int, str]

FORMATS = ("csv", "csv.gz", "tsv", "json", "ndjson", "parquet", "xml")
ROWS = 20
# How old what a process has heard of a table may be: so much older may a file be, too.
HEARD_SECONDS = 1
# What a visitor may begin who is not known: so many files of chosen rows, and searches for so much.
HOURLY_EXPORTS, DAILY_BYTES = 20, 100 * 2**20
OPTIONS = {
    config.METADATA_TTL_SECONDS: str(HEARD_SECONDS),
    config.WAIT_SECONDS: "10",
    config.HOURLY_EXPORTS: str(HOURLY_EXPORTS),
    config.DAILY_BYTES_BILLED: str(DAILY_BYTES),
    config.DUMP_SQL_ENABLED: "true",
    "ckan.datastore.sqlsearch.enabled": "true",
}


@functools.cache
def site_on(sites: Sites, emulator: OwnEmulator, server: str, processes: int) -> Site:
    """The session's site of so many processes, whose Google is the tests' own emulator."""
    keys = dict.fromkeys((config.CREDENTIALS, config.CREDENTIALS_RO), str(emulator.key_file))
    # What it has spent is counted by the site's name.
    name = {"ckan.site_id": f"torture-{uuid.uuid4().hex[:12]}"}
    # Both servers read from there how many processes they are to have.
    env = {
        **emulator.environment,
        "WEB_CONCURRENCY": str(processes),
        "GUNICORN_CMD_ARGS": f"--config python:{forked.__name__}",
    }
    return sites({**OPTIONS, **keys, **name}, env=env, server=server)


# --- tables


def rows(version: int) -> list[Row]:
    return [(n, n, version, f"row {n} of {version}, “said”") for n in range(1, ROWS + 1)]


@dataclass
class Table:
    """A table that is written to: which versions it has had, and since when."""

    id: str
    versions: list[tuple[float, int]] = field(default_factory=list)
    begun: int = 0

    def oldest(self, asked: float) -> int:
        """The oldest version that a file may be of which was asked for then."""
        return max(v for at, v in self.versions if at <= asked - HEARD_SECONDS or v == 1)


@dataclass(frozen=True)
class Writer:
    """Who may write, by CKAN's API."""

    site: Site
    token: str

    def act(self, name: str, **data: Any) -> Any:
        url, headers = f"{self.site.url}/api/3/action/{name}", {"Authorization": self.token}
        answer = requests.post(url, json=data, headers=headers, timeout=120)
        assert answer.status_code == 200, (name, answer.status_code, answer.text[:500])
        return answer.json()["result"]

    def table(self, package: str) -> Table:
        fields = [
            {"id": "n", "type": "int"},
            {"id": "version", "type": "int"},
            {"id": "said", "type": "text"},
        ]
        made = self.act(
            "datastore_create",
            resource={"package_id": package},
            fields=fields,
            primary_key=["n"],
            records=_records(1),
        )
        return Table(made["resource_id"], [(time.monotonic(), 1)], 1)

    def tables(self, package: str, count: int) -> list[Table]:
        with ThreadPoolExecutor(4) as threads:
            return list(threads.map(lambda _: self.table(package), range(count)))

    def write(self, table: Table) -> None:
        """The next version, in every row."""
        table.begun += 1
        self.act(
            "datastore_upsert", resource_id=table.id, records=_records(table.begun), force=True
        )
        table.versions.append((time.monotonic(), table.begun))


def _records(version: int) -> list[dict[str, Any]]:
    return [{"n": n, "version": version, "said": said} for _, n, version, said in rows(version)]


# --- files


def read(format_: str, body: bytes) -> list[Row]:
    """The rows of a file.

    :raises Exception: it is none
    """
    found: list[list[Any]]
    if format_ in ("csv", "csv.gz", "tsv"):
        text = (gzip.decompress(body) if format_ == "csv.gz" else body).decode()
        lines = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "t" in format_ else ",")
        assert next(lines) == ["_id", "n", "version", "said"]
        found = list(lines)
    elif format_ == "json":
        found = json.loads(body)["records"]
    elif format_ == "ndjson":
        found = [list(json.loads(line).values()) for line in body.splitlines()]
    elif format_ == "parquet":
        found = [list(row.values()) for row in pq.read_table(io.BytesIO(body)).to_pylist()]
    else:
        found = [
            [row.get("_id"), *(cell.text for cell in row)] for row in ElementTree.fromstring(body)
        ]
    return [(int(a), int(b), int(c), str(d)) for a, b, c, d in found]


@functools.lru_cache(maxsize=100_000)
def version_of(format_: str, body: bytes) -> int:
    """Of which version a whole file is; 0: of none, or not whole."""
    try:
        found = read(format_, body)
    except Exception:  # noqa: BLE001 - whatever cannot be read is no file
        return 0
    version = found[0][2] if found else 0
    return version if found == rows(version) else 0


# --- clients


@dataclass
class Crowd:
    """What came of all clients."""

    statuses: Counter[int] = field(default_factory=Counter)
    files: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Clients:
    """So many clients, each of which asks for one file after the other until the time is over.

    ``pause`` is what each of them does something else for between two files, and before the first,
    in seconds, on average.
    """

    site: Site
    tables: list[Table]
    formats: tuple[str, ...] = FORMATS
    # As long as a file may take until whoever wants it would give up.
    patience: float = 120
    pause: float = 0

    def run(self, count: int, seconds: float, seed: int = 0) -> Crowd:
        return asyncio.run(self._run(count, seconds, random.Random(seed)))

    async def _run(self, count: int, seconds: float, chance: random.Random) -> Crowd:
        crowd, until = Crowd(), time.monotonic() + seconds
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            headers={"User-Agent": "curl/8.5.0", "Accept": "*/*"}, limits=limits, timeout=90
        ) as client:

            async def ask() -> None:
                while True:
                    await asyncio.sleep(chance.uniform(0, 2 * self.pause))
                    if time.monotonic() >= until:
                        return
                    table, format_ = chance.choice(self.tables), chance.choice(self.formats)
                    await self._one(client, crowd, table, format_)

            await asyncio.gather(*(ask() for _ in range(count)))
        return crowd

    async def _one(
        self, client: httpx.AsyncClient, crowd: Crowd, table: Table, format_: str
    ) -> None:
        asked = time.monotonic()
        oldest = table.oldest(asked)
        what = f"{format_} of {table.id}"
        try:
            answer = await self._followed(client, crowd, table, format_, asked)
        except httpx.HTTPError as err:
            crowd.wrong.append(f"{what}: {type(err).__name__}: {err}")
            return
        if answer.status_code == 503 and "Retry-After" in answer.headers:
            crowd.refused += 1
            return
        if answer.status_code != 200:
            crowd.wrong.append(f"{what}: {answer.status_code} {answer.text[:300]}")
            return
        version = version_of(format_, answer.content)
        if not oldest <= version <= table.begun:
            told = f"version {version}, not from {oldest} to {table.begun}"
            crowd.wrong.append(f"{what}: {told}: {answer.content[:300]!r}")
            return
        crowd.files += 1
        crowd.seconds.append(time.monotonic() - asked)

    async def _followed(
        self, client: httpx.AsyncClient, crowd: Crowd, table: Table, format_: str, asked: float
    ) -> httpx.Response:
        """The last answer: as ``curl --location --retry`` has it, until the patience is over."""
        first = url = f"{self.site.url}/datastore/dump/{table.id}?format={format_}"
        while True:
            answer = await client.get(url)
            crowd.statuses[answer.status_code] += 1
            if answer.status_code == 302:
                url = answer.headers["Location"]
            elif answer.status_code == 503 and time.monotonic() < asked + self.patience:
                await asyncio.sleep(float(answer.headers["Retry-After"]))
                url = first
            else:
                return answer


# --- a site's processes


def processes(site: Site) -> list[int]:
    """The server's first process, and those that it has started."""
    found, pids = [], [site.process.pid]
    while pids:
        found.append(pid := pids.pop())
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    return sorted(found)


def used(site: Site, name: str) -> int:
    """A figure of /proc/…/status, such as VmRSS (in KiB) or Threads, of all of them."""
    return sum(
        int(Path(f"/proc/{pid}/status").read_text().partition(f"{name}:")[2].split()[0])
        for pid in processes(site)
    )


def exports(emulator: OwnEmulator, since: float) -> Counter[str]:
    """The export jobs of BigQuery, by the files that they were for: resource, format, revision."""
    jobs = emulator.admin("GET", f"jobs?since={since}&limit=100000")["jobs"]
    found: Counter[str] = Counter()
    for job in jobs:
        _, is_export, rest = str(job["configuration"]).partition("/dumps/")
        if is_export:
            found["/".join(rest.split("/")[:4])] += 1
    return found
