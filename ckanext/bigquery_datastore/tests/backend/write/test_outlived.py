"""A change whose process was killed while BigQuery goes on with it: the next writer waits."""

from __future__ import annotations

import uuid

import pytest
from ckan.plugins import toolkit as tk
from ckan.tests import factories, helpers
from google.api_core.exceptions import Conflict

from ckanext.bigquery_datastore import clients, counters
from ckanext.bigquery_datastore.backend.table.lookup import get_table
from ckanext.bigquery_datastore.backend.write import lock, outlived
from ckanext.bigquery_datastore.errors import Busy, NotReachable

pytestmark = pytest.mark.usefixtures("non_clean_db", "own_site", "with_plugins")


@pytest.fixture
def table(own_site) -> str:
    id = factories.Resource()["id"]
    helpers.call_action(
        "datastore_create",
        resource_id=id,
        force=True,
        fields=[{"id": "name", "type": "text"}],
        primary_key=["name"],
        records=[{"name": "a"}],
    )
    return id


def killed(own_site, table: str, *, after_seconds: float | None) -> str:
    """A process that died when it had noted its INSERT, or sent it; the id of the job."""
    name = f"ckan_change_{uuid.uuid4().hex}"
    with pytest.raises(SystemExit), outlived.noted(table, name):
        raise SystemExit
    if after_seconds is not None:
        own_site.admin("PUT", "defaults", {"run_seconds": {"INSERT": str(after_seconds)}})
        found = get_table(clients.bigquery_rw(), table)
        sql = f"INSERT INTO {found.sql_name} (_id, name) VALUES (50, 'b')"
        clients.bigquery_rw().query(sql, job_id=f"{name}_1", job_retry=None)
        own_site.admin("PUT", "defaults", {"run_seconds": {"INSERT": "0"}})
    return f"{name}_1"


def names(table: str) -> list[str]:
    found = helpers.call_action("datastore_search", resource_id=table, sort="name")
    return [record["name"] for record in found["records"]]


def write(table: str, method: str) -> None:
    helpers.call_action(
        "datastore_upsert", resource_id=table, records=[{"name": "b"}], method=method, force=True
    )


def test_an_upsert_beside_it_does_not_double_its_rows(own_site, table):
    killed(own_site, table, after_seconds=2)
    write(table, "upsert")
    assert names(table) == ["a", "b"]


def test_an_insert_beside_it_is_refused_as_one_after_it(own_site, table):
    killed(own_site, table, after_seconds=2)
    with pytest.raises(tk.ValidationError, match="duplicate key"):
        write(table, "insert")
    assert names(table) == ["a", "b"]


def test_what_was_noted_and_not_sent_can_never_arrive(own_site, table):
    job_id = killed(own_site, table, after_seconds=None)
    write(table, "upsert")
    with pytest.raises(Conflict):
        clients.bigquery_rw().query("SELECT 1", job_id=job_id, retry=None, job_retry=None)
    assert names(table) == ["a", "b"]


def test_a_change_that_takes_too_long_is_told_and_later_writers_go_on(own_site, table, monkeypatch):
    monkeypatch.setattr(outlived, "WAIT_SECONDS", 0.5)
    killed(own_site, table, after_seconds=3)
    with pytest.raises(Busy, match="whose process has ended"), lock.writing(table):
        pass
    monkeypatch.undo()
    write(table, "upsert")
    assert names(table) == ["a", "b"]
    assert counters.noted(f"changing:{table}") is None


def test_an_outage_leaves_the_note_for_the_next_writer(own_site, table):
    """BigQuery may have taken what it has not answered."""
    name = f"ckan_change_{uuid.uuid4().hex}"
    with pytest.raises(NotReachable), outlived.noted(table, name):
        raise NotReachable("Google does not answer.")
    assert counters.noted(f"changing:{table}") == name
    write(table, "upsert")
    assert (names(table), counters.noted(f"changing:{table}")) == (["a", "b"], None)


def test_a_refusal_while_it_is_looked_for_is_told_and_changes_nothing(own_site, table):
    killed(own_site, table, after_seconds=None)
    own_site.fault(service="bigquery", path="/jobs", status=403, reason="accessDenied", times=0)
    with pytest.raises(tk.ValidationError, match="Google"):
        write(table, "upsert")
    own_site.mend()
    assert names(table) == ["a"]


def test_a_change_that_has_ended_leaves_no_note(table):
    write(table, "upsert")
    assert counters.noted(f"changing:{table}") is None
    with pytest.raises(tk.ValidationError):
        write(table, "insert")
    assert counters.noted(f"changing:{table}") is None
