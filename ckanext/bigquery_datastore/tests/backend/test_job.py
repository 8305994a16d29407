"""A change of data is made once, whatever is heard of its job; see the emulator's ``faults``."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config, errors
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.table.lookup import get_table
from ckanext.bigquery_datastore.backend.write import records
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

pytestmark = pytest.mark.usefixtures("faults")

JOBS = r"/jobs(\?|$)"
CALLS = {
    "insert": {"method": "POST", "path": JOBS},
    "ask": {"method": "GET", "path": r"/(jobs|queries)/"},
}
ANSWERS: dict[str, dict[str, Any]] = {
    "throttled": {"status": 403, "reason": "rateLimitExceeded"},
    "429": {"status": 429},
    "500": {"status": 500},
    "503": {"status": 503},
    "cut before": {"drop": True},
    "cut after": {"drop": True, "when": "after"},
    "lost after": {"status": 503, "when": "after"},
    "silence": {"delay": 1.5},
    "refused after": {"status": 403, "when": "after"},
}


def admin(method: str, path: str, body: Any = None) -> Any:
    url = f"{os.environ['BIGQUERY_EMULATOR_HOST']}/emulator/{path}"
    answer = requests.request(method, url, json=body, timeout=9)
    answer.raise_for_status()
    return answer.json() if answer.content else None


@pytest.fixture
def faults(own_site: OwnEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A short patience, so that each fault can outlast it.
    monkeypatch.setattr(clients, "CALL_SECONDS", 0.6)
    yield
    admin("POST", "reset")


@pytest.fixture
def table() -> str:
    name = f"{config.project()}.{config.dataset()}.t{uuid.uuid4().hex[:8]}"
    clients.bigquery_rw().create_table(
        bigquery.Table(name, schema=[bigquery.SchemaField("a", "INT64")])
    )
    return name


def run_for(seconds: float) -> None:
    admin("PUT", "defaults", {"run_seconds": {"INSERT": seconds}})


def fault(call: dict[str, Any], answer: dict[str, Any], times: int = 1) -> None:
    admin("POST", "faults", {"service": "bigquery", **call, **answer, "times": times})


def insert(table: str, seconds: float = 20) -> int:
    return query.write(
        clients.bigquery_rw(), f"INSERT INTO `{table}` (a) VALUES (1)", seconds=seconds
    )


def count(table: str) -> int:
    return len(list(clients.bigquery_rw().list_rows(table)))


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("times", [1, 4])
def test_a_row_is_written_once_whatever_is_heard(
    table: str, call: str, answer: str, times: int
) -> None:
    run_for(0.7)
    fault(CALLS[call], ANSWERS[answer], times)
    assert insert(table) == 1
    assert count(table) == 1


@pytest.mark.parametrize(
    ("call", "answer"),
    # An upload that is refused has only been opened: there is no job yet.
    [
        (call, answer)
        for call in ("upload", "ask")
        for answer in ANSWERS
        if (call, answer) != ("upload", "refused after")
    ],
)
def test_records_that_need_a_load_job_are_written_once(
    monkeypatch: pytest.MonkeyPatch, table: str, call: str, answer: str
) -> None:
    monkeypatch.setattr(records, "PARAMETER_BYTES", 10)
    known = get_table(clients.bigquery_rw(), table.rpartition(".")[2])
    assert known is not None
    batch = records.new_rows(known, [{"a": number} for number in range(5)])
    where = {**CALLS, "upload": {"method": "POST", "path": "/upload/"}}[call]
    fault(where, ANSWERS[answer], 2)
    with records.brought(clients.bigquery_rw(), batch) as source:
        # A job that had ended at once was never asked about: nothing of it is left for the query.
        admin("DELETE", "faults")
        rows = query.read(clients.bigquery_rw(), f"SELECT COUNT(*) AS n FROM {source.sql}")
    assert [row["n"] for row in rows] == [5]


def test_records_that_are_written_stay_so_where_their_table_aside_cannot_be_deleted(
    monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr(records, "PARAMETER_BYTES", 10)
    known = get_table(clients.bigquery_rw(), table.rpartition(".")[2])
    assert known is not None
    fault({"method": "DELETE", "path": records.STAGING_PREFIX}, {"status": 403}, 9)
    with records.brought(clients.bigquery_rw(), records.new_rows(known, [{"a": 1}])) as source:
        sql = f"INSERT INTO `{table}` (a) SELECT 1 FROM {source.sql}"
        assert query.write(clients.bigquery_rw(), sql) == 1
    assert count(table) == 1


@pytest.mark.parametrize("answer", ["throttled", "503", "silence", "cut before", "cut after"])
def test_a_change_that_took_too_long_is_not_there_afterwards(table: str, answer: str) -> None:
    run_for(60)
    fault({"method": "POST", "path": "/cancel"}, ANSWERS[answer], 2)
    with pytest.raises(query.TookTooLong):
        insert(table, 2)
    assert [found["status"]["state"] for found in admin("GET", "jobs")["jobs"][:1]] == ["DONE"]
    assert count(table) == 0


def test_a_change_that_was_made_before_it_could_be_cancelled_counts_as_made(table: str) -> None:
    run_for(2.5)
    fault({"method": "POST", "path": "/cancel"}, {"delay": 2}, 1)
    fault(CALLS["ask"], {"status": 503}, 2)
    outcome = None
    try:
        outcome = insert(table, 2)
    except query.TookTooLong:
        outcome = 0
    assert count(table) == outcome


def test_a_job_that_failed_for_a_passing_reason_is_run_again(table: str) -> None:
    admin(
        "POST", "faults", {"service": "job", "statement_type": "INSERT", "reason": "backendError"}
    )
    assert insert(table) == 1
    assert count(table) == 1


def test_a_refusal_is_told_at_once(table: str) -> None:
    fault(CALLS["insert"], {"status": 403, "reason": "accessDenied"}, 0)
    with pytest.raises(errors.PermissionMissing):
        insert(table)


def test_throttling_is_not_taken_for_a_missing_permission(table: str) -> None:
    fault(CALLS["insert"], ANSWERS["throttled"], 0)
    with pytest.raises(errors.NotReachable):
        insert(table, 2)
    assert count(table) == 0
