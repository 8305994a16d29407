"""Many at once: four processes, a crowd of clients, tables that are written to meanwhile."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from ckan.tests import factories

from ckanext.bigquery_datastore.tests.conftest import Site, Sites
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.torture import crowd as crowds
from ckanext.bigquery_datastore.tests.torture.crowd import Clients, Table, Writer

pytestmark = pytest.mark.usefixtures("non_clean_db", "with_plugins")


@dataclass
class Meanwhile:
    """What a second thread does while the crowd is there."""

    written: int = 0
    memory: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@contextmanager
def written_to(writer: Writer, tables: list[Table], pause: float) -> Iterator[Meanwhile]:
    """Each table in turn has its next version, one every so many seconds; memory is looked at."""
    told, over = Meanwhile(), threading.Event()

    def write() -> None:
        while not over.wait(pause):
            try:
                writer.write(tables[told.written % len(tables)])
            except Exception as err:  # noqa: BLE001 - to be told by the test
                told.failed.append(repr(err))
                return
            told.written += 1

    def look() -> None:
        while not over.wait(1):
            told.memory.append(crowds.used(writer.site, "VmRSS"))

    threads = [threading.Thread(target=doing) for doing in (write, look)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def site(_sites: Sites, own_site: OwnEmulator) -> Site:
    own_site.admin("PUT", "switches", {"table_updates": False})
    return crowds.site_on(_sites, own_site, "gunicorn", 4)


def test_each_of_a_crowd_gets_a_whole_file_of_now_and_each_file_is_made_once(
    site: Site,
    own_site: OwnEmulator,
    amount: Callable[[float, float], float],
    seconds: Callable[[float, float], float],
    ledger: Any,
) -> None:
    clients, count = int(amount(40, 500)), int(amount(6, 50))
    pause = amount(1, 5)
    began = time.time()
    writer = Writer(site, factories.SysadminWithToken()["token"])
    tables = writer.tables(factories.Dataset()["id"], count)
    alive = crowds.processes(site)
    with written_to(writer, tables, pause) as meanwhile:
        # An emulator on the crowd's own two cores makes two or three new files a second.
        found = Clients(site, tables, pause=amount(0, 45)).run(clients, seconds(8, 70))

    ledger.add(
        f"{clients} clients, {count} tables, 4 processes",
        found.files + found.refused + len(found.wrong),
        len(found.wrong),
        f"{found.files} files, {meanwhile.written} writes, {sum(found.statuses.values())} answers",
    )
    assert found.wrong == []
    assert meanwhile.failed == []
    assert set(found.statuses) <= {200, 302, 503}
    # Nobody whose patience is as long as a download's was sent away for good.
    assert (found.refused, found.files >= clients) == (0, True)
    assert meanwhile.written > 0

    jobs = crowds.exports(own_site, began)
    twice = {file: times for file, times in jobs.items() if times > 1}
    ledger.add("one export for a table, format and revision", len(jobs), len(twice))
    assert (twice, len(jobs) > count) == ({}, True)

    assert crowds.processes(site) == alive
    third = len(meanwhile.memory) // 3
    before, after = (
        statistics.median(meanwhile.memory[-2 * third : -third]),
        statistics.median(meanwhile.memory[-third:]),
    )
    seen = f"{before / 1024:.0f} MiB, then {after / 1024:.0f} MiB"
    ledger.add("memory of four processes", len(meanwhile.memory), seen=seen)
    # In seconds, memory is what is still being imported.
    assert after < before * amount(1.5, 1.1)
