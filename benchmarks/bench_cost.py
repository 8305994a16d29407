"""What a day of clicks costs on BigQuery, in dollars, on a table of 10 GiB with 10,000,000 rows.

    . .stack/env; python -m benchmarks.bench_cost [--rows 20000] [--json FILE]

needs the services of `make services`; Google is an emulator of its own, which bills as BigQuery
documents (`emulator/bigquery/billing.py` says how, and what is assumed). $6.25 a TiB.

The table is made small, by two scales. The emulator counts each byte of it as so many that the
table has 10 GiB (`PUT emulator/meter`); a row has 1 KiB in any case, so that columns weigh what
they would. The bench asks a client that pages through all for pages that are as much smaller than
32,000 rows as the table is smaller than 10,000,000: it takes 313 of them. A page of the grid has
100 rows of either, which is a larger part of this table than of the real one. Of what happens
hundreds of times a few are measured and the rest is multiplied: "measured" tells how many.

What it was with 20,000 rows, before tables had partitions:

                                         dollars   of a scan   jobs  measured
    a daily reload                        0.1328    217.60 %      4  1 of 1
    the first page                        0.0000      0.00 %      0  1 of 1
    page 100                              0.0610    100.00 %      1  1 of 1
    the last page                         0.0610    100.00 %      1  1 of 1
    a filter                              0.0614    100.59 %      2  1 of 1
    a sort                                0.0610    100.00 %      1  1 of 1
    q                                     0.1221    200.00 %      2  1 of 1
    a client that pages through all      19.0430  31200.00 %    312  4 of 313
    1,440 single upserts                 88.9120 145673.44 %   1440  4 of 1440
    a crawler at all links, twice         0.4883    800.08 %      8  1 of 1

Since a search's total comes with its rows: a filter 0.0610, q 0.0610. With 4,000 rows, in as many
partitions as the real table would have (500), since tables have them:

    a daily reload                        0.1328
    the first page, the last page         0.0016   (100 rows are 13 of these partitions; they are
    a filter, a sort, q, each             0.0610    one or two of 500 in the real table)
    a client that pages through all       0.0684
    1,440 single upserts                  1.8282
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import Curve, Figure
from benchmarks.sides import bed

REPOSITORY = Path(__file__).resolve().parents[1]

ROWS, BYTES = 10_000_000, 10 * 2**30
CLIENT_PAGE = 32_000
ROW_BYTES = 1_074
UPSERTS = 1_440

FIELDS = {
    "code": "text",
    "district": "text",
    "measured": "timestamp",
    "station": "text",
    **{f"value_{n}": "float8" for n in range(1, 13)},
    "count": "int4",
    "remarks": "text",
}
WORDS = ("harbour", "river", "bridge", "market", "school", "tower", "garden", "north", "south")


@dataclass(frozen=True)
class Line:
    """One line of the table. ``share`` is of one scan of the table."""

    what: str
    dollars: float
    share: float
    jobs: int
    measured: int
    of: int


def rows(count: int) -> Any:
    """The table's rows as lines of a CSV, of about 1 KiB in BigQuery each; the same every time."""
    chance = random.Random(1)
    yield ",".join(FIELDS)
    for n in range(1, count + 1):
        numbers = ",".join(f"{chance.uniform(0, 1000):.3f}" for _ in range(12))
        remarks = " ".join(chance.choices(WORDS, k=140))
        moment = f"2026-{n % 12 + 1:02d}-{n % 28 + 1:02d}T{n % 24:02d}:00:00"
        yield (
            f"C{n:09d},D{n % 200:03d},{moment},S{n % 5000:05d},{numbers},{n % 1000},"
            f"{remarks[: ROW_BYTES - 189]}"
        )


class Bench:
    """A site with the table, and the emulator that it is in."""

    def __init__(self, app: Any, emulator: str, count: int) -> None:
        self.app = app
        self.emulator = emulator
        self.count = count
        self.client = app.test_client()
        self.lines: list[Line] = []
        self.id = ""

    def ask(self, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.emulator}/emulator/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method="GET" if body is None else "PUT",
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def costs(self, work: Callable[[], object]) -> dict[str, Any]:
        begun = self.ask("costs")["now"]
        work()
        return self.ask(f"costs?since={begun}")

    def line(self, what: str, *works: Callable[[], object], of: int = 0) -> None:
        """Measure: the first of several works by itself, the others for all ``of`` that follow."""
        found = [self.costs(work) for work in works]
        billed = [one["billed"] for one in found]
        jobs = [one["jobs"] for one in found]
        total, number = float(sum(billed)), float(sum(jobs))
        if of > len(works):
            total = billed[0] + statistics.mean(billed[1:]) * (of - 1)
            number = jobs[0] + statistics.mean(jobs[1:]) * (of - 1)
        dollars = total * 6.25 / 2**40
        self.lines.append(
            Line(what, dollars, total / BYTES, round(number), len(works), of or len(works))
        )
        sys.stderr.write(f"{what}: ${dollars:.4f}\n")

    def call(self, action: str, **params: Any) -> Any:
        from ckan.tests import helpers

        with self.app.test_request_context():
            # The emulator is not to be hurried: a search of 16 columns takes it a minute.
            context = {"query_timeout": 600_000}
            return helpers.call_action(action, context, resource_id=self.id, **params)

    def search(self, **params: Any) -> Callable[[], Any]:
        return lambda: self.call("datastore_search", **params)

    # --- what is measured

    def make(self, folder: Path) -> Path:
        """The table as a site would make it; each byte counts as many from then on."""
        from ckan.tests import factories

        with self.app.test_request_context():
            self.id = factories.Resource()["id"]
        self.call(
            "datastore_create",
            force=True,
            fields=[{"id": name, "type": kind} for name, kind in FIELDS.items()],
            primary_key=["code"],
            indexes=["district"],
        )
        file = folder / "rows.csv"
        with file.open("w") as out:
            out.writelines(f"{row}\n" for row in rows(self.count))
        self.load(file)
        with self.app.test_request_context():
            from ckanext.bigquery_datastore import clients
            from ckanext.bigquery_datastore.backend.table.lookup import get_table

            table = get_table(clients.bigquery_rw(), self.id)
        assert table is not None and table.num_rows == self.count
        self.ask("meter", {"factor": BYTES / table.num_bytes})
        return file

    def load(self, file: Path) -> None:
        from ckanext.bigquery_datastore import clients, downloads, load

        with self.app.test_request_context():
            load.load(
                clients.bigquery_rw(),
                downloads.store_rw(),
                self.id,
                file,
            )

    def upsert(self, number: int) -> Callable[[], Any]:
        record = {"code": f"C{number:09d}", "value_1": number / 7}
        return lambda: self.call("datastore_upsert", force=True, records=[record], method="upsert")

    def crawl(self) -> None:
        """Every link of the resource's page, twice, each to its end."""
        from ckan.plugins import toolkit as tk

        with self.app.test_request_context():
            formats = tk.h.bigquery_datastore_formats()
        for _ in range(2):
            for form in formats:
                url = f"/datastore/dump/{self.id}?format={form.name}"
                self.wait_for(f"{url}&bom=true" if form.bom else url)

    def wait_for(self, url: str) -> None:
        while True:
            answer = self.client.get(url, buffered=False)
            assert answer.status_code in (200, 302, 503), (url, answer.status_code, answer.text)
            if answer.status_code == 503 or "_hop" in answer.headers.get("Location", ""):
                time.sleep(0.5)
                continue
            if answer.status_code == 200:
                for _ in answer.response:
                    pass
            answer.close()
            return

    def day(self, file: Path) -> None:
        page = max(1, CLIENT_PAGE * self.count // ROWS)
        pages = -(-self.count // page)
        half, last = page * (pages // 2), page * (pages - 1)
        self.line("a daily reload", lambda: self.load(file))
        self.line("the first page", self.search(limit=100))
        self.line("page 100", self.search(limit=100, offset=9_900))
        self.line("the last page", self.search(limit=100, offset=self.count - 100))
        self.line("a filter", self.search(limit=100, filters={"district": "D007"}))
        self.line("a sort", self.search(limit=100, sort="value_1 desc"))
        self.line("q", self.search(limit=100, q="harbour bridge"))
        self.line(
            "a client that pages through all",
            *(self.search(limit=page, offset=offset) for offset in (0, page, half, last)),
            of=pages,
        )
        self.line(
            "1,440 single upserts",
            *(self.upsert(number) for number in (5, self.count // 2, self.count - 3)),
            self.upsert(self.count + 1),
            of=UPSERTS,
        )
        self.line("a crawler at all links, twice", self.crawl)


def take(order: dict[str, Any]) -> None:
    from ckan.cli import load_config
    from ckan.config.middleware import make_app

    from ckanext.bigquery_datastore.backend.table import layout

    # As many partitions as the table of 10,000,000 rows has, and rows of no less a share in each.
    layout.NARROWEST = layout.NARROWEST * order["rows"] // ROWS
    site = make_app(load_config(order["ini"]))
    bench = Bench(getattr(site, "_wsgi_app", site), order["emulator"], order["rows"])
    with tempfile.TemporaryDirectory() as folder:
        bench.day(bench.make(Path(folder)))
    Path(order["out"]).write_text(json.dumps([asdict(line) for line in bench.lines], indent=1))


def table(lines: list[dict[str, Any]]) -> str:
    head = f"{'':34}{'dollars':>10}{'of a scan':>12}{'jobs':>7}  measured\n"
    return head + "".join(
        f"{line['what']:34}{line['dollars']:10.4f}{100 * line['share']:10.2f} %{line['jobs']:7}  "
        f"{line['measured']} of {line['of']}\n"
        for line in lines
    )


def measure(small: bool) -> Iterator[Figure | Curve]:
    # Of 4,000 rows each partition has eight, as many as 500 of them need.
    for line in lines_of(1_000 if small else 4_000):
        yield Figure(
            "a day of clicks on 10 GiB, in dollars",
            line["what"],
            f"{line['dollars']:.4f}",
            f"{100 * line['share']:.2f} % of a scan, {line['jobs']} jobs",
        )


def lines_of(rows: int) -> list[dict[str, Any]]:
    """Every line, measured in a process of its own."""
    with bed() as made:
        out = made.folder / "lines.json"
        order = {
            "ini": str(made.ours),
            "emulator": made.emulator.bigquery_url,
            "rows": rows,
            "out": str(out),
        }
        command = [sys.executable, "-m", "benchmarks.bench_cost", "--order", json.dumps(order)]
        subprocess.run(command, check=True, cwd=REPOSITORY)
        return json.loads(out.read_text())


def main() -> None:
    options = argparse.ArgumentParser(description="What a day of clicks costs on BigQuery.")
    options.add_argument("--rows", type=int, default=20_000, help="of the small table")
    options.add_argument("--small", action="store_true", help="1,000 rows")
    options.add_argument("--json", type=Path, help="write the figures there, too")
    options.add_argument("--order", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.order:
        take(json.loads(given.order))
        return
    lines = lines_of(1_000 if given.small else given.rows)
    sys.stdout.write(table(lines))
    if given.json:
        given.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
