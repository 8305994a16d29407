"""Google has a bad day: each call of each thing that visitors do, met by each fault.

What they get is right, or a refusal that says when to come again; in time, and without a traceback
anywhere. When the day is over, the same request has the right answer.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend import job, query
from ckanext.bigquery_datastore.dump import engine
from ckanext.bigquery_datastore.dump import storage as storage_module
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator, free_port
from ckanext.bigquery_datastore.tests.torture.bad_day import (
    LASTING,
    ONCE,
    REASONS,
    Answer,
    Call,
    Watch,
    calls,
)
from ckanext.bigquery_datastore.tests.torture.budget import tried_in_time
from ckanext.bigquery_datastore.tests.torture.conftest import Ledger
from ckanext.bigquery_datastore.tests.torture.visitors import (
    Action,
    Export,
    Loading,
    Table,
    Wish,
    is_csv,
    is_json,
    is_search,
    upserted,
)

pytestmark = pytest.mark.usefixtures("non_clean_db", "with_plugins")

SIDE_BY_SIDE = 6
SEED = 16
# What one call, a wait, a query may take here; with what a busy machine adds, all of a request.
CALL_SECONDS, WAIT_SECONDS, QUERY_SECONDS = 2.0, 2, 4.0
MOST_SECONDS = 30.0
# How long somebody asks again who is told to.
AGAIN_SECONDS = 60.0


@pytest.fixture(autouse=True)
def impatient(own_site: OwnEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The site as it is, but that it gives up sooner."""
    monkeypatch.setattr(clients, "CALL_SECONDS", CALL_SECONDS)
    monkeypatch.setattr(clients, "METADATA_SECONDS", 2 * CALL_SECONDS)
    monkeypatch.setattr(storage_module, "UPLOAD_SECONDS", CALL_SECONDS)
    monkeypatch.setattr(job, "SETTLE_SECONDS", 2 * CALL_SECONDS)
    monkeypatch.setattr(query, "READ_SECONDS", QUERY_SECONDS)
    for function in (query.read, query.iterate, query.write):
        monkeypatch.setitem(function.__kwdefaults__, "seconds", QUERY_SECONDS)  # type: ignore
    monkeypatch.setattr(engine, "FAILURE_TTL", -1)
    for option, value in (
        (config.WAIT_SECONDS, WAIT_SECONDS),
        (config.WAITING_REQUESTS, 100),
        (config.DELIVERY, "stream"),
    ):
        monkeypatch.setitem(tk.config, option, value)
    own_site.admin("PUT", "switches", {"public_objects": True})


@pytest.fixture
def place(own_site: OwnEmulator) -> Place:
    return Place(config.dataset(), config.export_bucket())


@pytest.fixture
def wishes(app: Any, place: Place, tmp_path: Path) -> list[Wish]:
    token = {"Authorization": factories.SysadminWithToken()["token"]}
    return [
        Export(app, place, "csv", is_csv),
        Export(app, place, "json", is_json),
        Action(app, "datastore_search", "^SELECT$", lambda table: {"sort": "_id"}, is_search),
        Action(
            app,
            "datastore_upsert",
            "^(MERGE|INSERT)$",
            upserted,
            lambda table, result: result["resource_id"] == table.id,
            token,
        ),
        Loading(app, tmp_path),
    ]


@pytest.fixture
def tables(own_site: OwnEmulator) -> SimpleQueue[Table]:
    made: SimpleQueue[Table] = SimpleQueue()
    rows = {f"k {n}": n for n in range(3)}
    for _ in range(SIDE_BY_SIDE):
        id = factories.Resource(url_type="datastore")["id"]
        call_action(
            "datastore_create",
            resource_id=id,
            primary_key="k",
            fields=[{"id": "k", "type": "text"}, {"id": "v", "type": "int"}],
            records=[{"k": k, "v": v} for k, v in rows.items()],
        )
        made.put(Table(id, dict(rows)))
    return made


@dataclass(frozen=True)
class Case:
    """A wish whose calls, or whose job, are met by a fault."""

    wish: Wish
    what: str
    fault: dict[str, Any]
    call: Call | None = None
    is_lasting: bool = True

    @property
    def is_alone(self) -> bool:
        return self.call is None or not self.call.is_told_apart

    def meets(self, id: str) -> dict[str, Any]:
        times = {"times": 0 if self.is_lasting else 1}
        if self.call:
            return {**self.call.rule(id), **times, **self.fault}
        return {"service": "job", "statement_type": self.wish.statement, **times, **self.fault}


class Day:
    """The emulator, and what it has been tried with."""

    def __init__(self, own: OwnEmulator, place: Place, tables: SimpleQueue[Table]) -> None:
        self.own, self.place, self.tables = own, place, tables
        self.complaints: list[str] = []
        self.unmet: list[str] = []
        self.tried, self.refused = 0, 0

    def learn(self, wish: Wish) -> list[Call]:
        """What calls it makes when all is well."""
        table = self.tables.get()
        wish.settle(table)
        self.own.forget_requests()
        answer = self.ask_until_right(wish, table)
        seen = self.own.seen()["requests"]
        assert answer.is_right, (wish.name, answer)
        self.tables.put(table)
        return calls(seen, table.id, are_named=wish.name != "load")

    def try_(self, case: Case) -> None:
        self.tried += 1
        table = self.tables.get()
        case.wish.settle(table)
        rule = self.own.fault(**case.meets(table.id))
        answer = case.wish.ask(table)
        met = self.own.met(rule)
        self.own.admin("DELETE", f"faults/{rule}")
        if not met:
            self.unmet.append(f"{case.wish.name}, {case.what}")
        self.refused += not answer.is_right
        complaint = answer.complaint(MOST_SECONDS, is_googles=case.call is not None)
        if not complaint:
            again = self.ask_until_right(case.wish, table)
            if not again.is_right:
                complaint = f"afterwards, it is {again.status}: {again.body[:300]}"
            elif not self.has_its_rows(table):
                complaint = "afterwards, rows are lost or double"
        if complaint:
            told = answer.body.strip()[:300]
            self.complaints.append(f"{case.wish.name}, {case.what}: {complaint} ({told})")
        self.tables.put(table)

    def ask_until_right(self, wish: Wish, table: Table) -> Answer:
        """As somebody does who is told to come again, once the fault is mended."""
        watch = Watch()
        answer = wish.ask(table)
        while not answer.is_right and answer.status == 503 and watch.seconds < AGAIN_SECONDS:
            answer = wish.ask(table)
        return answer

    def has_its_rows(self, table: Table) -> bool:
        sql = f"SELECT _id, k, v FROM `{self.place.dataset}.{table.id}`"
        return table.are_its_rows([tuple(row) for row in self.place.bigquery.query_and_wait(sql)])


@pytest.fixture
def day(own_site: OwnEmulator, place: Place, tables: SimpleQueue[Table]) -> Day:
    return Day(own_site, place, tables)


def test_every_call_may_meet_every_fault(
    day: Day,
    wishes: list[Wish],
    ledger: Ledger,
    seconds: Callable[[float, float], float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    cases = []
    for wish in wishes:
        for call in day.learn(wish):
            for faults, is_lasting in ((LASTING, True), (ONCE, False)):
                for name, fault in faults.items():
                    what = f"{call.method} {call.path}: {name}"
                    cases.append(Case(wish, what, fault, call, is_lasting))
        cases += [Case(wish, f"the job: {name}", {"reason": name}) for name in REASONS]
    apart = [case for case in cases if not case.is_alone]
    alone = [case for case in cases if case.is_alone]
    tried_in_time(day.try_, apart, seconds(8, 45), SIDE_BY_SIDE)
    tried_in_time(day.try_, alone, seconds(4, 15))
    tracebacks = [
        f"{record.name}: {record.getMessage()}" for record in caplog.records if record.exc_info
    ]
    ledger.add(
        f"calls × faults of Google's, of {len(cases):,}",
        day.tried,
        len(day.complaints),
        f"{day.refused:,} refusals, the others as if nothing was",
    )
    assert not day.complaints, "\n".join(day.complaints)
    assert not tracebacks, "\n".join(tracebacks)
    # How often a job is asked for, and what is swept, differs.
    assert len(day.unmet) < 0.3 * day.tried, "\n".join(day.unmet)
    assert day.tried > 4


def test_an_outage_is_told_by_the_api_as_one_and_when_to_come_again(
    own_site: OwnEmulator, wishes: list[Wish], tables: SimpleQueue[Table]
) -> None:
    """Not as a conflict, which CKAN's API makes of each refusal that it does not know."""
    table = tables.get()
    own_site.fault(service="bigquery", status=503, times=0)
    for wish in wishes[2:4]:
        answer = wish.ask(table)
        assert (answer.status, answer.retry_after) == (503, "10"), (wish.name, answer)
        assert json.loads(answer.body)["error"]["__type"] == "Validation Error"


def test_a_token_server_that_is_down_is_an_outage_and_no_traceback(
    own_site: OwnEmulator,
    wishes: list[Wish],
    tables: SimpleQueue[Table],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = json.loads(own_site.key_file.read_text())
    file = tmp_path / "key.json"
    file.write_text(json.dumps({**key, "token_uri": f"http://127.0.0.1:{free_port()}/token"}))
    for option in (config.CREDENTIALS, config.CREDENTIALS_RO):
        monkeypatch.setitem(tk.config, option, str(file))
    monkeypatch.setattr(clients, "_access", clients._credentials)
    clients.forget()
    table = tables.get()
    for wish in wishes:
        wish.settle(table)
        answer = wish.ask(table)
        assert answer.status == 503, (wish.name, answer)
        assert not answer.complaint(MOST_SECONDS, is_googles=True)
    assert not [record for record in caplog.records if record.exc_info]


def test_a_job_that_hangs_holds_nobody_longer_than_a_wait(
    own_site: OwnEmulator, wishes: list[Wish], tables: SimpleQueue[Table]
) -> None:
    hanging = dict.fromkeys(("EXPORT_DATA", "EXTRACT"), "10m")
    own_site.admin("PUT", "defaults", {"run_seconds": hanging})
    table = tables.get()
    for wish in wishes[:2]:
        wish.settle(table)
        answer = wish.ask(table)
        assert (answer.status, answer.is_right) == (503, False)
        assert not answer.complaint(MOST_SECONDS, is_googles=True), (wish.name, answer)
