"""A site stays alive while Google has a bad day and a crowd waits: CKAN's pages are answered."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from ckan.tests import factories

from ckanext.bigquery_datastore.tests.conftest import Site, Sites
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.torture import crowd as crowds
from ckanext.bigquery_datastore.tests.torture.crowd import Clients, Writer
from ckanext.bigquery_datastore.tests.visiting import is_within

pytestmark = pytest.mark.usefixtures("non_clean_db", "with_plugins")

# What goes wrong: rules are put into force one after the other, again and again, each for so many
# requests, in an order that is the same in every run.
FAULTS: list[dict[str, Any]] = [
    {"service": "storage", "status": 503, "times": 4},
    {"service": "bigquery", "path": "/jobs", "status": 503, "times": 4},
    {"service": "storage", "drop": True, "times": 2},
    {"service": "storage", "status": 429, "times": 4},
    {"service": "bigquery", "drop": True, "times": 2},
    {"service": "bigquery", "path": "/jobs", "drop": True, "when": "after", "times": 1},
    {"service": "storage", "method": "POST", "drop": True, "when": "after", "times": 2},
    {"service": "storage", "delay": 2.0, "times": 4},
    {"service": "bigquery", "delay": 2.0, "times": 4},
    {"service": "job", "reason": "backendError", "share": 0.5, "times": 1},
    {"service": "bigquery", "status": 500, "times": 2},
]
# Visitors read from Cloud Storage themselves, by signed URLs: what meets them there is not the
# site's.
OF_THE_SITE = "^(?!.*X-Goog-).*"


@contextmanager
def bad_day(emulator: OwnEmulator, pause: float) -> Iterator[list[int]]:
    """Faults, one after the other, for as long as it lasts; the numbers of the rules."""
    numbers: list[int] = []
    over = threading.Event()

    def go_wrong() -> None:
        while not over.wait(pause):
            rule = FAULTS[len(numbers) % len(FAULTS)]
            about = {"path": OF_THE_SITE + rule.get("path", "")}
            numbers.append(
                emulator.fault(**{**rule, **(about if rule["service"] != "job" else {})})
            )

    thread = threading.Thread(target=go_wrong)
    thread.start()
    try:
        yield numbers
    finally:
        over.set()
        thread.join()


def pages(url: str, over: threading.Event) -> list[tuple[int, float]]:
    """A page of CKAN's, again and again: its status, and how long it took."""
    found = []
    while not over.is_set():
        began = time.monotonic()
        try:
            status = requests.get(url, timeout=60).status_code
        except requests.RequestException:
            status = 0
        found.append((status, time.monotonic() - began))
        over.wait(0.1)
    return found


@contextmanager
def looked_at(url: str) -> Iterator[list[tuple[int, float]]]:
    over, found = threading.Event(), []
    thread = threading.Thread(target=lambda: found.extend(pages(url, over)))
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@pytest.mark.full
@pytest.mark.parametrize(("server", "processes"), [("gunicorn", 4), ("uvicorn", 1)])
def test_pages_are_answered_and_files_are_whole_while_google_has_a_bad_day(
    _sites: Sites,
    own_site: OwnEmulator,
    server: str,
    processes: int,
    amount: Callable[[float, float], float],
    seconds: Callable[[float, float], float],
    ledger: Any,
) -> None:
    own_site.admin("PUT", "switches", {"table_updates": False})
    site: Site = crowds.site_on(_sites, own_site, server, processes)
    clients, bad_seconds = int(amount(20, 100)), seconds(6, 15)
    dataset = factories.Dataset()
    writer = Writer(site, factories.SysadminWithToken()["token"])
    tables = writer.tables(dataset["id"], int(amount(4, 20)))
    page = f"{site.url}/dataset/{dataset['name']}"
    # The same crowd on a good day: what a busy machine costs is no fault of anybody's.
    with looked_at(page) as good:
        Clients(site, tables).run(clients, bad_seconds / 2)
    threads, alive = crowds.used(site, "Threads"), crowds.processes(site)
    for table in tables:
        writer.write(table)

    own_site.admin("PUT", "defaults", {"run_seconds": {"EXPORT_DATA": "1s"}})
    with looked_at(page) as bad, bad_day(own_site, 0.3) as faults:
        found = Clients(site, tables, patience=amount(8, 20)).run(clients, bad_seconds, seed=1)
    met = sum(own_site.met(number) for number in faults)
    own_site.mend()

    calm, loaded = (statistics.median(took for _, took in looks) for looks in (good, bad))
    answers = found.files + found.refused + len(found.wrong)
    ledger.add(
        f"{clients} clients on {server}, {met} faults",
        answers,
        len(found.wrong),
        f"{found.files} files, {found.refused} told to come back; a page {calm * 1000:.0f} ms, "
        f"then {loaded * 1000:.0f} ms",
    )
    assert [status for status, _ in bad if status != 200] == []
    # One blocked worker of eight threads would be seconds.
    assert loaded < max(5 * calm, 2.0)
    assert met > 0
    assert found.wrong == []
    # Who is told to come back until the end has lost nothing; some come through in any case.
    assert (found.files > 0, crowds.processes(site)) == (True, alive)
    # As many as the servers' pools hold; each that leaks would be one for a request.
    assert is_within(20, lambda: crowds.used(site, "Threads") <= threads + 12 * processes)
