"""Hostile names of datasets, resources, columns and aliases, and hostile files: kept as given."""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
import rq
from ckan.lib import jobs
from ckan.tests import factories
from ckan.tests.helpers import call_action
from hypothesis import strategies as st
from werkzeug.datastructures import FileStorage

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.loading import steps
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.torture import fuzzing, marked, sent
from ckanext.bigquery_datastore.tests.torture.test_fuzz import faults_of, statements_since
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = [
    pytest.mark.usefixtures("non_clean_db", "with_plugins", "own_site"),
    pytest.mark.ckan_config("ckan.datastore.sqlsearch.enabled", "true"),
    pytest.mark.ckan_config(config.WAIT_SECONDS, "30"),
]

NAMES = st.lists(
    marked.USER.filter(lambda name: '"' not in name and len(name.encode("utf-8", "replace")) < 60),
    min_size=1,
    max_size=3,
    unique=True,
)
FORMATS = ("csv", "tsv", "json", "xml", "ndjson", "csv.gz", "parquet")


@pytest.fixture
def queue() -> Iterator[rq.Queue]:
    found = jobs.get_queue(steps.QUEUE)
    found.empty()
    yield found
    found.empty()


@pytest.fixture
def visitor(app: Any) -> Any:
    """A sysadmin's client, whose every answer is looked at."""

    class Visitor:
        token = factories.SysadminWithToken()["token"]
        hosts = fuzzing.own_hosts()
        asked = 0

        def look(self, answer: Any) -> Any:
            self.asked += 1
            found = fuzzing.faults_of(answer, self.hosts)
            assert not found, found
            return answer

        def call(self, action: str, **params: Any) -> Any:
            path = f"/api/3/action/{action}"
            headers = {"Authorization": self.token}
            return self.look(app.test_client().post(path, json=params, headers=headers))

        def get(self, path: str, **query: str) -> Any:
            return self.look(app.test_client().get(path, query_string=query))

        def visit(self, id: str, **query: str) -> Any:
            return self.look(visit(app, id, query))

    return Visitor()


def test_names_of_columns_and_aliases_are_given_back_as_they_were(
    own_site: OwnEmulator, visitor: Any, ledger: Any, amount: Any, seconds: Any
) -> None:
    began, made, given = time.time(), 0, set()
    most, limit = amount(4, 400), seconds(12, 20)
    end = time.monotonic() + limit
    dataset = factories.Dataset()["id"]

    def tried(names: list[str], title: str, alias: str, value: str) -> None:
        nonlocal made
        if time.monotonic() > end:
            return
        given.update(sent.given_in(*names, title, alias, value))
        created = visitor.call("resource_create", package_id=dataset, name=title, url="x")
        if created.status_code != 200:
            return
        id = created.json["result"]["id"]
        fields = [{"id": name, "type": "text", "info": {"label": value}} for name in names]
        records = [dict.fromkeys(names, value)]
        asked = {"resource_id": id, "force": True, "fields": fields, "records": records}
        if visitor.call("datastore_create", **asked).status_code != 200:
            return
        made += 1
        visitor.call("datastore_create", resource_id=id, force=True, aliases=[alias])
        looked_at(visitor, id, names, value)
        visitor.call("datastore_delete", resource_id=id, force=True)

    strategy = st.tuples(NAMES, marked.USER, marked.USER, marked.USER)
    fuzzing.seeded(lambda drawn: tried(*drawn), strategy, 7, most)
    texts = [sql for sql in statements_since(own_site, began) if marked.BEGIN in sql]
    faults = faults_of(texts, given)
    ledger.add(
        "tables with hostile names, asked for in each way",
        tried=visitor.asked,
        lost=len(faults),
        seen=f"{made} tables, {len(texts)} statements with such names in quotes",
    )
    assert not faults, "\n\n".join(faults[:5])
    assert made


def looked_at(visitor: Any, id: str, names: list[str], value: str) -> None:
    """A table's rows, by each way on which one gets them."""
    name = names[0]
    ways: list[dict[str, Any]] = [
        {},
        {"filters": {name: value}, "sort": f'"{name}" desc', "fields": names},
        {"distinct": True, "fields": [name]},
    ]
    for way in ways:
        found = visitor.call("datastore_search", resource_id=id, **way)
        # A sort in quotes may be refused; what is given is right.
        if found.status_code == 200:
            (record,) = found.json["result"]["records"]
            assert record[name] == value, (way, record)
    sql = f'SELECT "{name}" FROM "{id}"'
    answer = visitor.call("datastore_search_sql", sql=sql)
    if answer.status_code == 200:
        assert [list(row.values()) for row in answer.json["result"]["records"]] == [[value]]
    for format_ in FORMATS:
        assert visitor.visit(id, format=format_, limit="2").status_code in (200, 302)
    rows = list(csv.reader(io.StringIO(visitor.visit(id, limit="2").text, newline="")))
    assert rows == [["_id", *names], ["1", *[value] * len(names)]]
    for about in ("formats", "datapackage.json", "dictionary.csv"):
        assert visitor.get(f"/datastore/about/{id}/{about}").status_code == 200


# --- files


def _as_csv(rows: list[list[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def _as_json(rows: list[list[str]]) -> bytes:
    head, *records = rows
    return json.dumps([dict(zip(head, row, strict=False)) for row in records]).encode()


def _as_sheet(rows: list[list[str]]) -> bytes:
    """What calls itself a spreadsheet: names that lead out of it, entities that grow."""
    out = io.BytesIO()
    entities = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
    text = "".join(f"<row><c t='inlineStr'><is><t>{row[0]}&b;</t></is></c></row>" for row in rows)
    with zipfile.ZipFile(out, "w") as archive:
        sheet = f"{entities}<worksheet><sheetData>{text}</sheetData></worksheet>"
        archive.writestr("xl/worksheets/sheet1.xml", sheet.encode("utf-8", "replace"))
        archive.writestr("../../etc/zz", "x")
        archive.writestr("[Content_Types].xml", "<Types/>")
    return out.getvalue()


KINDS = {"csv": _as_csv, "ndjson": _as_json, "xlsx": _as_sheet}
TABLES = st.lists(
    st.lists(marked.TEXT | marked.USER, min_size=1, max_size=3), min_size=2, max_size=3
)
BROKEN = st.sampled_from(
    [b"", b"\0" * 99, b"\xff\xfe\x00", b"[" * 9_000, b'"' + b"x\n" * 99, b"PK"]
)
FILES = st.sampled_from(list(KINDS)).flatmap(
    lambda kind: st.tuples(st.just(kind), TABLES.map(KINDS[kind]) | BROKEN, marked.USER)
)


def test_hostile_files_are_loaded_or_refused_in_a_sentence(
    visitor: Any, queue: rq.Queue, ledger: Any, amount: Any, seconds: Any
) -> None:
    most, limit = amount(5, 600), seconds(12, 20)
    end, dataset = time.monotonic() + limit, factories.Dataset()["id"]
    states: dict[str, int] = {}

    def tried(kind: str, data: bytes, name: str) -> None:
        if time.monotonic() > end:
            return
        name = name.encode("utf-8", "replace").decode().replace("\0", "")
        upload = FileStorage(io.BytesIO(data), f"{name}.{kind}")
        made = call_action(
            "resource_create", package_id=dataset, upload=upload, url="", format=kind
        )
        while waiting := queue.jobs:
            queue.remove(waiting[0])
            waiting[0].perform()
        found = visitor.call("bigquery_load_status", resource_id=made["id"]).json["result"]
        states[found["state"]] = states.get(found["state"], 0) + 1
        assert found["state"] in ("complete", "error"), found
        if found["state"] == "error":
            assert found["error"] and "Traceback" not in found["error"]
            assert "internal" not in found["error"].lower(), found
        else:
            assert visitor.call("datastore_search", resource_id=made["id"]).status_code == 200
            assert visitor.visit(made["id"], limit="3").status_code == 200
        call_action("resource_delete", id=made["id"])

    fuzzing.seeded(lambda drawn: tried(*drawn), FILES, 11, most)
    ledger.add("hostile files, uploaded and loaded", tried=sum(states.values()), seen=str(states))
    assert states
