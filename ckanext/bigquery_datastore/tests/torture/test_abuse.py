"""A visitor who wants to cost money, and one who wants to hold a worker: both hear a sentence."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from ckan.plugins import toolkit as tk
from ckan.tests import factories

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.tests.conftest import Site, Sites
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.torture import crowd as crowds
from ckanext.bigquery_datastore.tests.torture import hostile
from ckanext.bigquery_datastore.tests.torture.budget import tried_in_time
from ckanext.bigquery_datastore.tests.torture.crowd import DAILY_BYTES, HOURLY_EXPORTS, Writer

pytestmark = pytest.mark.usefixtures("non_clean_db", "with_plugins")

MEGABYTES = 2**20
VISITORS = 8
CURL = {"User-Agent": "curl/8.5.0", "Prefer": "respond-async"}


@pytest.fixture
def site(_sites: Sites, own_site: OwnEmulator) -> Site:
    own_site.admin("PUT", "switches", {"table_updates": False})
    return crowds.site_on(_sites, own_site, "gunicorn", 4)


@pytest.fixture
def writer(site: Site) -> Writer:
    return Writer(site, factories.SysadminWithToken()["token"])


@pytest.fixture
def table(writer: Writer) -> str:
    return writer.table(factories.Dataset()["id"]).id


# --- money


def wish(table: str, n: int) -> tuple[str, dict[str, str]]:
    """What nobody has asked for before: a file of chosen rows, or a search."""
    dump = f"/datastore/dump/{table}"
    chosen = json.dumps({"n": n})
    return [
        (dump, {"filters": chosen}),
        (dump, {"filters": chosen, "sort": "version desc"}),
        (dump, {"filters": chosen, "fields": "n", "format": "parquet"}),
        (dump, {"offset": str(n), "format": "ndjson"}),
        (dump, {"limit": str(40_000 + n)}),
        (dump, {"limit": "5", "filters": chosen}),
        ("/api/3/action/datastore_search", {"resource_id": table, "q": f"row {n}"}),
        (dump, {"q": f"said {n}", "distinct": "true"}),
    ][n % 8]


def test_distinct_wishes_of_one_visitor_cost_so_much_and_whole_tables_go_on(
    site: Site,
    own_site: OwnEmulator,
    table: str,
    amount: Callable[[int, int], int],
    seconds: Callable[[float, float], float],
    ledger: Any,
) -> None:
    many, began = amount(64, 10_000), time.time()
    # A whole table each time: what is refused to others is never refused to who wants that.
    whole = [f"/datastore/dump/{table}?format={name}" for name in crowds.FORMATS]

    def ask(n: int) -> tuple[bool, requests.Response]:
        path, params = wish(table, n)
        if is_whole := n % 50 == 49:
            path, params = whole[n // 50 % len(whole)], {}
        return is_whole, requests.get(
            site.url + path, params, headers=CURL, allow_redirects=False, timeout=120
        )

    asked = tried_in_time(ask, range(many), seconds(60, 40), VISITORS)
    answers = [answer for _, answer in asked]
    of_whole = [answer for is_whole, answer in asked if is_whole]

    statuses = Counter(answer.status_code for answer in answers)
    refused = [answer for answer in answers if answer.status_code == 429]
    # On a machine that is busy, a search may take too long: core's refusal.
    odd = [a.text for a in answers if a.status_code not in (200, 202, 302, 429)]
    assert all("took too long" in text for text in odd), odd
    assert len(odd) <= len(asked) // 20, statuses
    for answer in refused:
        is_export = config.HOURLY_EXPORTS in answer.text
        assert is_export or config.DAILY_BYTES_BILLED in answer.text
        assert 0 < int(answer.headers["Retry-After"]) <= (1 if is_export else 24) * 3600 + 1
        assert "Try again" in answer.text and "download the whole table" in answer.text
    assert of_whole and all("%7B" not in a.url and "limit" not in a.url for a in of_whole)
    assert {a.status_code for a in of_whole} <= {200, 202, 302}

    costs = own_site.admin("GET", f"costs?since={began}")
    by_type = costs["by_statement_type"]
    chosen = [file for file in crowds.exports(own_site, began) if "/query-" in f"/{file}"]
    hours = math.floor(time.time() / 3600) - math.floor(began / 3600) + 1
    searches = by_type.get("SELECT", {"jobs": 0})["jobs"]
    ledger.add(
        "distinct wishes of one visitor",
        len(asked),
        seen=f"{len(refused)} refused, {len(chosen)} files and {searches} searches made, "
        f"{costs['billed'] / MEGABYTES:.0f} MiB billed, ${costs['dollars']:.4f}",
    )
    assert 0 < len(chosen) <= HOURLY_EXPORTS * hours
    # Of those that run side by side when the day's budget is used up, each may pass it once.
    most = DAILY_BYTES / (10 * MEGABYTES) + VISITORS
    assert 0 < searches <= most
    assert costs["jobs"] <= len(chosen) + most + len(whole)
    assert len(refused) > len(asked) // 4


@pytest.mark.ckan_config(config.HOURLY_EXPORTS, "0")
@pytest.mark.ckan_config(config.EXPORT_BUCKET_BYTES, "1000")
def test_files_of_chosen_rows_fill_the_bucket_so_far(
    app: Any,
    own_site: OwnEmulator,
    table: str,
    amount: Callable[[int, int], int],
    ledger: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(tk.config, "ckan.site_id", f"site-{time.time_ns()}")

    def asked(n: int | None) -> Any:
        path = f"/datastore/dump/{table}" + ("" if n is None else f"?offset={n % 20}&q=row&_={n}")
        return app.get(path, follow_redirects=False)

    many = amount(12, 60)
    answers = [asked(n) for n in range(many)]
    sizes = [
        size for name, size, _ in own_site.files(config.export_bucket()) if f"{table}/" in name
    ]
    assert {answer.status_code for answer in answers} == {302, 429}
    assert 1000 <= sum(sizes) < 1000 + max(sizes)
    assert config.EXPORT_BUCKET_BYTES in answers[-1].text
    assert asked(None).status_code == 302
    ledger.add(
        "files of chosen rows, for a bucket of 1,000 bytes", many, seen=f"{sum(sizes)} bytes"
    )


# --- workers


def cpu(site: Site) -> float:
    """Seconds that the site's processes have worked."""
    ticks = 0
    for pid in crowds.processes(site):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# What reading a body costs: so many seconds a byte on a slow machine, beside what any request does.
SECONDS, SECONDS_A_BYTE, TRIES = 1.5, 2e-7, 3
# No refusal repeats what it was given.
SENTENCE = 20_000
REFUSALS = (400, 404, 405, 409, 413, 414, 429, 431)


class Look:
    """Sends requests one by one, and notes those whose answer, or whose work, is not as it may be.

    Work is counted in seconds of the processors, of all of the site: what one of its processes does
    besides, and once in its life, is no work of the request. So the least of a few tries counts.
    """

    def __init__(self, site: Site) -> None:
        self.site, self.session = site, requests.Session()
        self.tried, self.slowest = 0, 0.0
        self.wrong: list[str] = []

    def at(self, what: str, method: str, path: str, body: Any = None, **options: Any) -> None:
        spent = math.inf
        for _ in range(TRIES):
            before = cpu(self.site)
            answer = self.session.request(
                method,
                self.site.url + path,
                data=body,
                timeout=120,
                allow_redirects=False,
                **options,
            )
            spent, size = min(spent, cpu(self.site) - before), len(answer.request.body or "")
            if spent <= SECONDS + SECONDS_A_BYTE * size:
                break
        self.tried, self.slowest = self.tried + 1, max(self.slowest, spent)
        found = f"{what}: {answer.status_code} after {spent:.2f} s for {size} bytes"
        is_refused = answer.status_code in REFUSALS
        if not (is_refused or answer.status_code in (200, 202, 302)):
            self.wrong.append(f"{found}: {answer.text[:200]}")
        elif is_refused and len(answer.text) > SENTENCE:
            self.wrong.append(f"{found}: a refusal of {len(answer.text)} characters")
        elif spent > SECONDS + SECONDS_A_BYTE * size:
            self.wrong.append(found)


def test_no_value_of_any_size_or_depth_holds_a_worker(
    site: Site,
    writer: Writer,
    table: str,
    amount: Callable[[int, int], int],
    seconds: Callable[[float, float], float],
    ledger: Any,
) -> None:
    alive, look, depth = crowds.processes(site), Look(site), 100_000
    dump, size = f"/datastore/dump/{table}", amount(500_000, 20_000_000)
    as_json = {"Content-Type": "application/json", "Authorization": writer.token}

    def sent(way: hostile.Way) -> None:
        action, name, fault, body = way
        path = f"/api/3/action/{action}"
        look.at(f"{action} {name}: {fault}", "POST", path, body.encode(), headers=as_json)

    bodies = hostile.bodies(table, size, amount(0, 500_000), depth)
    tried_in_time(sent, bodies, seconds(600, 25))
    # What a line of HTTP may hold.
    for name in ("q", "filters", "sort", "limit", "fields", "offset", "format")[: amount(2, 7)]:
        for fault, value in hostile.values(3000, 2000).items():
            params = {name: value.strip('"')[:3500]}
            look.at(f"dump {name}: {fault}", "GET", dump, params=params, headers=CURL)
    for fault in ("a long text", "brackets", "digits", "many keys"):
        value = hostile.values(size, depth)[fault]
        look.at(f"dump by a form: {fault}", "POST", dump, {"filters": value})
        look.at(f"dump by JSON: {fault}", "POST", dump, value.encode(), headers=as_json)

    ledger.add(
        "values of any size and depth",
        look.tried,
        len(look.wrong),
        f"at most {look.slowest * 1000:.0f} ms of work, bodies of {size / 1e6:.1f} MB",
    )
    assert not look.wrong, "\n".join(look.wrong)
    assert crowds.processes(site) == alive
