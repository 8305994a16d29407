"""What a click on a cached download costs CKAN, beside a route that asks who may, and no more.

    . .stack/env; python -m benchmarks.bench_cached [--small]

Both routes are called through all of CKAN's middleware, as a WSGI server does, in turn.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.asking import calls
from benchmarks.report import Curve, Figure, alternately
from benchmarks.sides import Bed, Side, a_resource, bed

QUESTION = "cached download"
AGAINST = "a route with check_access alone"
MOST = 1.3


def prepare(app: Any) -> tuple[str, str]:
    """The addresses of a file that is there, and of the route beside it."""
    from ckan.plugins import toolkit as tk
    from flask import Blueprint, Response

    from ckanext.bigquery_datastore import clients, config

    # Hot is hot: nothing expires while it is measured.
    config.metadata_ttl_seconds = lambda: 3600
    beside = Blueprint("bench", __name__)

    @beside.route("/bench/<id>")
    def may(id: str) -> Response:
        tk.check_access("resource_show", {}, {"id": id})
        return Response(status=204)

    app.register_blueprint(beside)
    id = a_resource(app)
    clients.bigquery_rw().query(
        f"CREATE TABLE `{config.dataset()}.{id}` AS "
        "SELECT n AS _id, CAST(n AS STRING) AS text FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS n"
    ).result()
    while "_hop" in ask(app, path := f"/datastore/dump/{id}")["Location"]:
        time.sleep(0.5)
    return path, f"/bench/{id}"


def ask(app: Any, path: str) -> dict[str, str]:
    """The headers of the answer, all of which is read."""
    from werkzeug.test import EnvironBuilder

    headers = [("User-Agent", "curl/8.5.0")]
    environ = EnvironBuilder(path, headers=headers).get_environ()
    found: list[Any] = []
    body = app(environ, lambda *head: found.extend(head))
    b"".join(body)
    body.close()
    assert found[0][:3] in ("204", "302"), found
    return dict(found[1])


def paces(app: Any, paths: list[str], requests: int, rounds: int) -> list[list[list[float]]]:
    """For each path, seconds and seconds of CPU a request, of each round."""
    cpu: dict[str, list[float]] = {path: [] for path in paths}

    def many(path: str) -> Callable[[], None]:
        def work() -> None:
            begun = time.process_time()
            for _ in range(requests):
                ask(app, path)
            cpu[path].append((time.process_time() - begun) / requests)

        return work

    def measure(work: Callable[[], None]) -> float:
        begun = time.perf_counter()
        work()
        return (time.perf_counter() - begun) / requests

    seconds = alternately(*map(many, paths), rounds=rounds, measure=measure)
    return [[found, cpu[path]] for found, path in zip(seconds, paths, strict=True)]


def counts(app: Any, path: str, cold: bool) -> dict[str, int]:
    """What one request asks CKAN's database and Google."""
    from ckan import model
    from sqlalchemy import event

    from ckanext.bigquery_datastore import downloads

    statements: list[str] = []

    def note(*args: Any) -> None:
        statements.append(" ".join(args[2].split()))

    ask(app, path)
    if cold:
        downloads.TABLES.clear()
        downloads.FILES.clear()
    engine = model.meta.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        with calls() as asked:
            ask(app, path)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return {
        "statements": len(statements),
        "of the resource": sum("FROM resource " in text for text in statements),
        "of the dataset": sum("FROM package " in text for text in statements),
        "calls": len(asked.times),
        "round trips": asked.in_a_row,
    }


def measure(small: bool) -> Iterator[Figure | Curve]:
    with bed() as made:
        yield from _measure(made, small)


def _measure(made: Bed, small: bool) -> Iterator[Figure]:
    with Side(made.ours) as ours:
        paths = list(ours.do(prepare))
        found = ours.do(paces, paths, 20 if small else 100, 10 if small else 20)
        hot, cold = (ours.do(counts, paths[0], is_cold) for is_cold in (False, True))
        beside = ours.do(counts, paths[1], False)
    for name, place in (("time to the redirect", 0), ("CPU", 1)):
        theirs = statistics.median(found[1][place])
        mine = statistics.median(found[0][place])
        # Of each round by itself: what slowed one of its halves slowed the other.
        ratio = statistics.median(
            a / b for a, b in zip(found[0][place], found[1][place], strict=True)
        )
        yield Figure(
            QUESTION,
            name,
            f"{mine * 1000:.2f} ms: {ratio:.2f} ×",
            f"{AGAINST}: {theirs * 1000:.2f} ms",
            f"≤ {MOST} ×",
            ratio <= MOST,
        )
    yield Figure(
        QUESTION,
        "requests a second of one worker",
        f"{1 / statistics.median(found[0][0]):.0f}",
        f"{AGAINST}: {1 / statistics.median(found[1][0]):.0f}",
    )
    once = (hot["of the resource"], hot["of the dataset"])
    yield Figure(
        QUESTION,
        "database queries",
        f"{hot['statements']}, {once[0]} of the resource, {once[1]} of its dataset",
        f"{AGAINST}: {beside['statements']}",
        "each read once",
        once == (1, 1),
    )
    for name, one, most in (("hot", hot, 0), ("cold", cold, 1)):
        yield Figure(
            QUESTION,
            f"calls to Google, {name}",
            f"{one['calls']}, one after the other: {one['round trips']}",
            "",
            f"≤ {most} one after the other",
            one["round trips"] <= most,
        )


if __name__ == "__main__":
    from benchmarks.printing import show

    show(measure("--small" in sys.argv))
