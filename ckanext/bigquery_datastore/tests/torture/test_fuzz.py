"""Hostile requests to every route and action: no 500, no way into SQL, headers, others' objects."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from ckan.lib import jobs
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.loading import steps
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.torture import asking, fuzzing, marked, sent
from ckanext.bigquery_datastore.tests.torture.marked import BEGIN, END, Targets

pytestmark = [
    pytest.mark.usefixtures("non_clean_db", "with_plugins", "own_site"),
    pytest.mark.ckan_config("ckan.datastore.sqlsearch.enabled", "true"),
    pytest.mark.ckan_config(config.DUMP_SQL_ENABLED, "true"),
    pytest.mark.ckan_config(config.WAIT_SECONDS, "1"),
]

OPTIONS = {
    "ckan.datastore.sqlsearch.enabled": "true",
    config.DUMP_SQL_ENABLED: "true",
    config.WAIT_SECONDS: "1",
}

TYPES = ("text", "int", "numeric", "float8", "bool", "date", "timestamptz", "json", "_text")
ODD = (f"{BEGIN}`; DROP TABLE x{END}", f"{BEGIN}\\{END}", f"{BEGIN}<b>'{END}", "a,b", "ß 🙂")


@pytest.fixture
def targets(own_site: OwnEmulator) -> Iterator[Targets]:
    """A site with a table of all types and odd names, a private one, an empty resource."""
    owner = factories.Organization()
    dataset = factories.Dataset(owner_org=owner["id"])
    private = factories.Dataset(owner_org=owner["id"], private=True)
    shown, scratch, empty = (
        factories.Resource(package_id=dataset["id"], name=f"{BEGIN}/../{marked.SCRIPT}{END}")["id"]
        for _ in range(3)
    )
    hidden = factories.Resource(package_id=private["id"])["id"]
    fields = [{"id": f"a {name}", "type": name} for name in TYPES]
    fields += [{"id": name, "type": "text"} for name in ODD]
    for id in (shown, scratch, hidden):
        call_action("datastore_create", resource_id=id, force=True, fields=fields, records=[{}] * 4)
    alias = f"alias-{shown[:8]}"
    call_action("datastore_create", resource_id=shown, force=True, aliases=[alias])
    tokens = (
        factories.SysadminWithToken()["token"],
        factories.APIToken(user=factories.User()["name"])["token"],
    )
    own_site.forget_requests()
    yield Targets(
        dataset["name"],
        (shown, shown, shown, alias, hidden, empty),
        (*(field["id"] for field in fields), "_id"),
        ("a text", *ODD),
        (scratch, scratch, scratch, empty),
        tokens,
    )
    jobs.get_queue(steps.QUEUE).empty()


def test_every_route_action_and_parameter_is_asked_for(app: Any, targets: Targets) -> None:
    assert asking.uncovered(app.flask_app, targets) == set()


def test_hostile_requests_are_answered_and_stay_where_they_belong(
    app: Any, own_site: OwnEmulator, targets: Targets, ledger: Any, seconds: Any
) -> None:
    began, before = time.time(), set(objects())
    if time_left := seconds(0, 60):
        outcome = side_by_side(targets, 50_000, time_left)
    else:
        outcome = fuzzing.run(app, targets, start=1, most=300, seconds=25)
    statements = statements_since(own_site, began)
    marked = [sql for sql in statements if BEGIN in sql or END in sql]
    faults = [*outcome.faults, *faults_of(marked, outcome.given), *strangers(targets, before)]
    ledger.add(
        "hostile requests to every route and action",
        tried=outcome.asked,
        lost=len(faults),
        seen=f"{told(outcome.statuses)}; {len(statements):,} statements, {len(marked):,} with "
        "words of the visitor's in quotes",
    )
    assert not faults, "\n\n".join(faults[:12])
    # They came as far as BigQuery; how many there are in a time is the machine's matter.
    assert outcome.asked > 5 and marked


def side_by_side(targets: Targets, most: int, seconds: float) -> fuzzing.Outcome:
    """Two processes, as the site's own workers are."""
    options = {**OPTIONS, config.CREDENTIALS: config.credentials()}
    options[config.CREDENTIALS_RO] = options[config.CREDENTIALS]
    command = [sys.executable, "-m", fuzzing.__name__, str(tk.config["__file__"])]
    given = {"targets": asdict(targets), "options": options, "most": most, "seconds": seconds}
    processes = [
        subprocess.Popen(
            [*command, json.dumps({**given, "start": 1_000 * number})],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for number in (1, 2)
    ]
    outcome = fuzzing.Outcome()
    for process in processes:
        said, _ = process.communicate(timeout=seconds + 120)
        found = json.loads(said.splitlines()[-1])
        outcome.join(fuzzing.Outcome(**{**found, "given": set(found["given"])}))
    return outcome


def statements_since(own_site: OwnEmulator, began: float) -> set[str]:
    """The different texts that BigQuery was given."""
    found = own_site.admin("GET", f"jobs?since={began}&limit=1000000")["jobs"]
    asked = [job["configuration"].get("query", {}).get("query", "") for job in found]
    return {sql for sql in asked if sql}


def faults_of(statements: list[str], given: set[str]) -> list[str]:
    seen: dict[str, str] = {}
    for sql in statements:
        shape = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|attempt|\d{6,}", "", sql)
        if shape not in seen:
            fault = sent.fault(sql, given)
            seen[shape] = f"{fault}\n    {sql[:2000]}" if fault else ""
    return [fault for fault in seen.values() if fault]


def objects() -> list[str]:
    place = Place(config.dataset(), config.export_bucket())
    return [blob.name for blob in place.storage.list_blobs(place.bucket)]


def strangers(targets: Targets, before: set[str]) -> list[str]:
    """New objects of the bucket that are not below the prefix of a resource or a query."""
    own = {id for id in (*targets.tables, *targets.scratch) if re.fullmatch(r"[0-9a-f-]{36}", id)}
    found = [name for name in objects() if name not in before]
    return [
        f"a file that belongs to nobody: {name}"
        for name in found
        if not re.fullmatch(rf"dumps/({'|'.join(own)}|sql-[0-9a-f]+)/[\w./-]+", name)
        or ".." in name
        or BEGIN in name
    ]


def told(statuses: dict[str, int]) -> str:
    return ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
