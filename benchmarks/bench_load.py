"""A CSV into a table: rows a second and memory, beside a COPY into PostgreSQL.

    . .stack/env; python -m benchmarks.bench_load [--small]

The COPY is what ckanext-xloader does first: a table of text columns, nothing more. What it does
after that (types, indexes, the full-text column) is not counted; here types are found, and every
value checked, as part of the load, and the emulator's own work is in it.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.report import Curve, Figure
from benchmarks.sides import MB, Side, Spent, a_resource, bed, spend
from benchmarks.tables import MISSING, flights

QUESTION = "load of a csv"
SLOWER, MORE = 2.0, 1.25


def repeated(source: Path, size: int) -> tuple[Path, int]:
    """A file of about this size with the rows again and again; how many those are."""
    head, _, body = source.read_bytes().partition(b"\n")
    times = max(1, size // len(body))
    path = source.with_name(f"{source.stem}-{times}.csv")
    with path.open("wb") as file:
        file.write(head + b"\n")
        for _ in range(times):
            file.write(body)
    return path, times * body.count(b"\n")


def ours_load(app: Any, path: str) -> Spent:
    from ckanext.bigquery_datastore import clients, downloads, load
    from ckanext.bigquery_datastore.load.wish import Wish

    id = a_resource(app)

    def work() -> None:
        client, store = clients.bigquery_rw(), downloads.store_rw()
        load.load(client, store, id, Path(path), wish=Wish(null=MISSING))

    with app.test_request_context():
        return spend(work)


def core_copy(app: Any, path: str) -> Spent:
    """A COPY of the file into a table of its own, which is dropped."""
    import psycopg2
    from ckan.plugins import toolkit as tk

    name = f"bench_{uuid.uuid4().hex[:8]}"
    with open(path) as file:
        columns = file.readline().strip().replace('"', "").split(",")
    connection = psycopg2.connect(tk.config["ckan.datastore.write_url"])
    cursor = connection.cursor()
    texts = ", ".join(f'"{one}" text' for one in columns)
    cursor.execute(f"CREATE TABLE {name} ({texts})")
    connection.commit()

    def work() -> None:
        with open(path, "rb") as file:
            cursor.copy_expert(f"COPY {name} FROM STDIN WITH (FORMAT CSV, HEADER)", file)
        connection.commit()

    spent = spend(work)
    cursor.execute(f"DROP TABLE {name}")
    connection.commit()
    connection.close()
    return spent


def measure(small: bool) -> Iterator[Figure | Curve]:
    sizes = [part * (50 if small else 2000) * MB // 4 for part in (1, 4)]
    lines: dict[str, list[tuple[float, float]]] = {"here": [], "COPY": []}
    memory: list[int] = []
    with bed() as made, Side(made.ours) as ours, Side(made.core) as core:
        source = flights(made.folder)
        # What the first load of a process imports is none of a file's.
        ours.do(ours_load, str(flights(made.folder, 1_000)))
        for size in sizes:
            path, rows = repeated(source, size)
            theirs = core.do(core_copy, str(path))
            mine = ours.do(ours_load, str(path))
            again = core.do(core_copy, str(path))
            beside = (theirs.seconds + again.seconds) / 2
            memory.append(mine.memory)
            lines["here"].append((rows, mine.seconds))
            lines["COPY"].append((rows, beside))
            what = f"{path.stat().st_size / MB:,.0f} MB, {rows:,} rows"
            path.unlink()
            ratio = mine.seconds / beside
            yield Figure(
                QUESTION,
                what,
                f"{rows / mine.seconds:,.0f} rows a second, {ratio:.1f} × the time",
                f"COPY: {rows / beside:,.0f} rows a second",
                f"≤ {SLOWER:g} × the time",
                ratio <= SLOWER,
            )
    yield Figure(
        QUESTION,
        "memory, a quarter of the file and all of it",
        " and ".join(f"{one / MB:.0f} MB" for one in memory),
        "",
        f"the same, within {100 * (MORE - 1):.0f} % or 8 MB",
        memory[1] <= max(memory[0] * MORE, memory[0] + 8 * MB),
    )
    yield Curve(
        "load-seconds",
        "rows",
        "seconds",
        lines,
        "Both lines are straight: every row is read once, and the file is never held in memory. "
        "The load here is the steeper one, as it reads each value to find the columns' types.",
    )


if __name__ == "__main__":
    from benchmarks.printing import show

    show(measure("--small" in sys.argv))
