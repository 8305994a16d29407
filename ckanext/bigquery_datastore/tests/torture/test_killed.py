"""Killed anywhere: before and after each call to the outside, and at any moment between.

What one process was killed in, the next one brings to its end: the file is whole and there once,
rows are neither lost nor double, nothing is left that no sweep knows, nothing is billed twice.
"""

from __future__ import annotations

import configparser
import datetime as dt
import io
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import sqlalchemy as sa
from ckan.lib import jobs
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action
from werkzeug.datastructures import FileStorage

from ckanext.bigquery_datastore import config, downloads, load
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.dump.formats import FORMATS
from ckanext.bigquery_datastore.loading import steps
from ckanext.bigquery_datastore.tests.conftest import stack_ini
from ckanext.bigquery_datastore.tests.dump.exporting import a_place
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.torture.budget import tried_in_time
from ckanext.bigquery_datastore.tests.torture.calls import AFTER, BEFORE, Outcome, Workers
from ckanext.bigquery_datastore.tests.torture.conftest import Ledger
from ckanext.bigquery_datastore.tests.torture.things import (
    FILE,
    LOADS,
    SLICED,
    WRITES,
    Export,
    Rows,
    Thing,
    store,
)

pytestmark = pytest.mark.usefixtures("non_clean_db", "with_plugins")

# As many at once as keep two cores busy.
SIDE_BY_SIDE = 3
ROWS = 300
SEED = 16


@pytest.fixture(scope="module")
def workers(_own_emulator: OwnEmulator, tmp_path_factory: pytest.TempPathFactory):
    ini = tmp_path_factory.mktemp("workers") / "ckan.ini"
    base = Path(tk.config["__file__"]).resolve()
    keys = [
        f"{option} = {_own_emulator.key_file}"
        for option in (config.CREDENTIALS, config.CREDENTIALS_RO)
    ]
    logging = base.read_text().partition("[loggers]")
    ini.write_text("\n".join(["[app:main]", f"use = config:{base}", *keys, "", *logging[1:]]))
    started = Workers(ini, _own_emulator.environment)
    yield started
    started.end()


# Of the short form, and of a full one.
Seconds = Callable[[float, float], float]


def killed(
    workers: Workers, thing: Thing, kills: Sequence[Mapping[str, Any]], at_once: int, seconds: float
) -> list[bool]:
    """Have it done and killed in these ways, and done by another process, as often as there is
    time: for each whether it was killed, and did not end before."""

    def one(kill: Mapping[str, Any]) -> bool:
        order = thing.begin()
        outcome = workers.do(**order, **kill)
        assert outcome.killed or not outcome.error, (kill, outcome.error)
        again = workers.do(**order)
        try:
            thing.check(order, again)
        except AssertionError as err:
            raise AssertionError(f"{thing.name}, killed {kill}: {err}\n{again.error}") from err
        return outcome.killed

    return tried_in_time(one, kills, seconds, at_once, seed=thing.name)


def moments(calls: int) -> list[dict[str, Any]]:
    """Before and after each call."""
    return [{"at": n, "when": when} for n in range(1, calls + 1) for when in (BEFORE, AFTER)]


def healthy(workers: Workers, thing: Thing, own: OwnEmulator) -> Outcome:
    """It is done, and nobody disturbs it: every request that arrives has been counted."""
    order = thing.begin()
    own.forget_requests()
    outcome = workers.do(**order)
    arrived = own.seen()["count"]
    assert not outcome.error, outcome.error
    assert outcome.calls == arrived if order["wish"] == "export" else outcome.calls >= arrived > 0
    thing.check(order, outcome)
    return outcome


def tried(
    workers: Workers, thing: Thing, own: OwnEmulator, seconds: float, at_once: int, ledger: Ledger
) -> None:
    """Kill it at its calls, at as many as there is time for, and write down what was seen."""
    calls = healthy(workers, thing, own).calls
    kills = moments(calls)
    found = killed(workers, thing, kills, at_once, seconds)
    # How often a job is asked for differs, and what CKAN is told once is not told again.
    assert sum(found) >= 0.5 * len(found)
    seen = f"{len(found)} of the {len(kills)} moments before and after its calls"
    ledger.add(f"killed: {thing.name}", sum(found), seen=seen)


# --- exports


@pytest.fixture
def exports(own_emulator: OwnEmulator) -> Iterator[Callable[[str], Export]]:
    name = f"killed_{uuid.uuid4().hex[:12]}"
    own_emulator.admin("PUT", "switches", {"history": True})
    with a_place(name, name.replace("_", "-")) as place:
        place.bigquery.query_and_wait(
            f"CREATE TABLE `{name}.t` (_id INT64, name STRING, size FLOAT64, place GEOGRAPHY) "
            "PARTITION BY RANGE_BUCKET(_id, GENERATE_ARRAY(1, 3001, 10)) AS "
            "SELECT n, CONCAT('name ', CAST(n AS STRING)), n / 4, ST_GEOGPOINT(n / 4, 1) "
            f"FROM UNNEST(GENERATE_ARRAY(1, {ROWS})) n"
        )
        size = place.bigquery.get_table(f"{name}.t").num_bytes
        yield lambda format: Export(own_emulator, place, format, -(-size // 4))


def test_an_export_killed_at_any_call_is_finished_by_the_next_one(
    own_emulator: OwnEmulator,
    exports: Callable[[str], Export],
    workers: Workers,
    ledger: Ledger,
    amount: Callable[..., Any],
    seconds: Seconds,
) -> None:
    """Most formats make the same calls: each is killed at some others."""
    long = {"csv": 15, "parquet": 10, SLICED: 25}
    for format in amount([SLICED], [*FORMATS, SLICED]):
        most = seconds(2, long.get(format, 2))
        tried(workers, exports(format), own_emulator, most, SIDE_BY_SIDE, ledger)


# --- changes of rows


@pytest.fixture
def resources(own_site: OwnEmulator) -> SimpleQueue[str]:
    """As many resources as things are done at once; each is somebody's for a while."""
    made: SimpleQueue[str] = SimpleQueue()
    for _ in range(SIDE_BY_SIDE):
        made.put(factories.Resource(url_type="datastore")["id"])
    return made


@pytest.fixture
def only_known(own_site: OwnEmulator) -> Iterator[None]:
    """Of new tables, resources have theirs, and the others go by themselves."""
    before = {item.table_id for item in store().list_tables(config.dataset())}
    yield
    for item in store().list_tables(config.dataset()):
        if item.table_id not in before and not door.is_live(item.table_id):
            assert store().get_table(item.reference).expires, item.table_id


def test_a_write_killed_at_any_call_is_finished_by_the_next_one(
    own_site: OwnEmulator,
    only_known: None,
    resources: SimpleQueue[str],
    workers: Workers,
    ledger: Ledger,
    amount: Callable[..., Any],
    seconds: Seconds,
) -> None:
    for name in amount([*WRITES][1:2], WRITES):
        rows = Rows(workers, resources, name, **WRITES[name])
        tried(workers, rows, own_site, seconds(2, 8), SIDE_BY_SIDE, ledger)


@pytest.mark.full
def test_a_write_whose_job_outlives_its_process_is_not_done_twice(
    own_site: OwnEmulator,
    resources: SimpleQueue[str],
    workers: Workers,
    ledger: Ledger,
    seconds: Seconds,
) -> None:
    """The next one comes while the statement is still at work."""
    own_site.admin("PUT", "defaults", {"run_seconds": {"INSERT": "2", "MERGE": "2"}})
    for name in ("an insert", "an upsert that changes and adds"):
        rows = Rows(workers, resources, f"{name}, whose job outlives it", **WRITES[name])
        tried(workers, rows, own_site, seconds(2, 12), SIDE_BY_SIDE, ledger)


# --- loads of files


def nothing_left_of_loads() -> None:
    """But what a sweep takes away."""
    with pytest.MonkeyPatch.context() as later:
        later.setattr(load, "LOAD_LIFETIME", dt.timedelta(0))
        load.sweep(store(), downloads.store_rw())
    assert downloads.store_rw().list(load.ROOT) == []


def test_a_load_killed_at_any_call_is_finished_by_the_next_worker(
    own_site: OwnEmulator,
    workers: Workers,
    ledger: Ledger,
    amount: Callable[..., Any],
    seconds: Seconds,
    with_request_context: None,
    only_known: None,
) -> None:
    """The submission is done before: what is killed is the worker that loads."""
    uploaded: SimpleQueue[str] = SimpleQueue()
    for _ in range(SIDE_BY_SIDE):
        resource = call_action(
            "resource_create",
            package_id=factories.Dataset()["id"],
            upload=FileStorage(io.BytesIO(FILE.encode()), "rows.csv"),
            format="CSV",
            url="",
        )
        uploaded.put(resource["id"])
    jobs.get_queue(steps.QUEUE).empty()
    for mode in amount(["append"], LOADS):
        submitted = [("bigquery_load_submit", {"mode": mode})]
        loading = Rows(
            workers,
            uploaded,
            f"load, {mode}",
            {"wish": "load"},
            prepared=submitted,
            **LOADS[mode],
        )
        tried(workers, loading, own_site, seconds(2, 25), SIDE_BY_SIDE, ledger)
    nothing_left_of_loads()


# --- a table from PostgreSQL


def test_a_migration_killed_at_any_call_is_finished_by_the_next_run(
    own_site: OwnEmulator,
    only_known: None,
    workers: Workers,
    ledger: Ledger,
    seconds: Seconds,
) -> None:
    options = configparser.RawConfigParser()
    options.read(stack_ini("-postgresql"))
    url = options["app:main"]["ckan.datastore.write_url"]
    id = factories.Resource()["id"]
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f'CREATE TABLE "{id}" (_id serial PRIMARY KEY, _full_text tsvector, k text, v int8)'
        )
        connection.exec_driver_sql(
            f"INSERT INTO \"{id}\" (k, v) SELECT 'row ' || n, n FROM generate_series(1, 500) AS n"
        )
    alone: SimpleQueue[str] = SimpleQueue()
    alone.put(id)
    moving = Rows(
        workers,
        alone,
        "a table's way from PostgreSQL",
        {"wish": "migrate", "url": url},
        before=None,
        after={f"row {n}": n for n in range(1, 501)},
    )
    try:
        tried(workers, moving, own_site, seconds(2, 15), 1, ledger)
        nothing_left_of_loads()
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f'DROP TABLE "{id}"')
        engine.dispose()


# --- at any moment


def test_a_kill_from_outside_at_any_moment_loses_nothing(
    own_site: OwnEmulator,
    exports: Callable[[str], Export],
    resources: SimpleQueue[str],
    workers: Workers,
    ledger: Ledger,
    amount: Callable[..., Any],
    seconds: Seconds,
) -> None:
    """For as long as there is time, and until somebody was killed, as some are done before."""
    chance = random.Random(SEED)
    things: list[Thing] = [exports(name) for name in amount(["json"], FORMATS)]
    things += [
        Rows(workers, resources, name, **WRITES[name]) for name in amount(["an insert"], WRITES)
    ]
    took = [healthy(workers, thing, own_site).seconds for thing in things]
    end = time.monotonic() + seconds(1, 30)
    count, latest = 0, end + 60
    while time.monotonic() < (end if count else latest) and count < 1000:
        for thing, most in zip(things, took, strict=True):
            kills = [{"seconds": chance.uniform(0, most)} for _ in range(amount(1, SIDE_BY_SIDE))]
            count += sum(killed(workers, thing, kills, SIDE_BY_SIDE, 60))
    assert count
    ledger.add("killed from outside at any moment: exports and writes", count)
