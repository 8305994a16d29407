"""Never an old file, never half of a new one, and no link that ends before its time."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
import urllib.request
from typing import Any

import pytest
import requests
from ckan.cli.cli import ckan
from ckan.tests import factories

from ckanext.bigquery_datastore import clients, config, downloads
from ckanext.bigquery_datastore.dump import plan as plans
from ckanext.bigquery_datastore.dump import sweep
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins", "anew")


@pytest.fixture
def anew(monkeypatch) -> None:
    """A process that remembers nothing of what Google said."""
    monkeypatch.setattr(config, "metadata_ttl_seconds", lambda: 0)
    downloads.TABLES.clear()
    downloads.FILES.clear()


@pytest.fixture
def place() -> Place:
    return Place(config.dataset(), config.export_bucket())


@pytest.fixture
def resource_id(place) -> str:
    found = factories.Resource()["id"]
    place.fill(found, [{"name": "one"}], name="STRING")
    return found


def insert(place: Place, table: str, *names: str) -> None:
    rows = ", ".join(f"({number}, '{name}')" for number, name in enumerate(names, 2))
    place.bigquery.query(f"INSERT `{place.dataset}.{table}` (_id, name) VALUES {rows}").result()


def link(app, resource_id: str, query: str = "") -> str:
    answer = app.get(f"/datastore/dump/{resource_id}{query}", follow_redirects=False)
    assert answer.status_code == 302, answer.body
    return answer.location


def fetched(url: str) -> bytes:
    answer = requests.get(url, timeout=30)
    assert answer.status_code == 200
    return answer.content


def jobs(place: Place, resource_id: str) -> list[Any]:
    return [job for job in place.export_jobs() if resource_id in job.query]


# --- links


def test_a_link_that_was_signed_lives_on_when_its_file_is_superseded_and_swept(
    app, cli, place, resource_id, monkeypatch
):
    old = link(app, resource_id)
    insert(place, resource_id, "two")
    new = link(app, resource_id)
    assert cli.invoke(ckan, ["bigquery", "sweep"]).exit_code == 0
    assert fetched(old) == b"_id,name\n1,one\n"
    assert fetched(new) == b"_id,name\n1,one\n2,two\n"
    # Once no link to it can be alive, it goes, and the newest file stays.
    monkeypatch.setattr(sweep, "MARGIN", -dt.timedelta(hours=config.url_expiry_hours()))
    assert cli.invoke(ckan, ["bigquery", "sweep"]).exit_code == 0
    assert requests.get(old, timeout=30).status_code == 404
    assert fetched(new) == b"_id,name\n1,one\n2,two\n"


# --- rows that change


def test_a_file_is_one_moment_of_its_table_and_the_next_one_has_what_came_meanwhile(
    app, place, resource_id, monkeypatch
):
    place.fill(resource_id, [{"name": str(n)} for n in range(5000)], name="STRING")
    before = b"_id,name\n" + b"".join(b"%d,%d\n" % (n + 1, n) for n in range(5000))
    with monkeypatch.context() as slow:
        slow.setattr(
            config,
            "job_labels",
            lambda: {"emulator_run_seconds": "3", "emulator_shards": "5"},
        )
        plan = place.plan(resource_id, "csv")
        started = app.get(
            f"/datastore/dump/{resource_id}",
            headers={"Prefer": "respond-async"},
            follow_redirects=False,
        )
        assert started.status_code == 202
        while not any("/part-" in found.name for found in place.store.list(plan.prefix)):
            time.sleep(0.05)
        place.bigquery.query(
            f"DELETE FROM `{place.dataset}.{resource_id}` WHERE MOD(_id, 2) = 0"
        ).result()
        # Who asked before the change gets the table as it was; who asks after it, as it is.
        ready = downloads.engine(plan).advance(plan, plan.asked + 60)
        assert isinstance(ready, downloads.Ready)
        found = place.storage.bucket(place.bucket).blob(ready.objects[0].name)
        assert found.download_as_bytes() == before
    after = b"_id,name\n" + b"".join(b"%d,%d\n" % (n + 1, n) for n in range(0, 5000, 2))
    assert fetched(link(app, resource_id)) == after
    assert len(jobs(place, resource_id)) == 2


# --- where BigQuery cannot tell when rows were changed


def a_view(place: Place, resource_id: str) -> str:
    view = factories.Resource()["id"]
    place.bigquery.query(
        f"CREATE VIEW `{place.dataset}.{view}` AS SELECT * FROM `{place.dataset}.{resource_id}`"
    ).result()
    return view


def streamed(place: Place, resource_id: str) -> str:
    """The table, with a streaming buffer and a time of change that stands still."""
    show(resource_id, streamingBuffer={"estimatedRows": "1"}, lastModifiedTime="1700000000000")
    return resource_id


def show(resource_id: str, **properties: Any) -> None:
    """Let the emulator tell this of a table."""
    request = urllib.request.Request(
        f"{os.environ['BIGQUERY_EMULATOR_HOST']}/emulator/tables/local/{config.dataset()}/"
        f"{resource_id}",
        json.dumps(properties).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


class Clock:
    """The time that plans are made at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The middle of a bucket of 300 seconds.
        self.now = dt.datetime(2030, 1, 1, 0, 2, 30, tzinfo=dt.timezone.utc)
        revision = plans.revision
        monkeypatch.setattr(
            plans, "revision", lambda table, now, ttl: revision(table, self.now, ttl)
        )

    def advance(self, seconds: int) -> None:
        self.now += dt.timedelta(seconds=seconds)


@pytest.mark.parametrize("volatile", [a_view, streamed])
def test_a_file_of_rows_that_change_unseen_is_shared_for_a_while_and_then_made_anew(
    app, place, resource_id, volatile, monkeypatch
):
    clock, name = Clock(monkeypatch), volatile(place, resource_id)
    first = link(app, name)
    insert(place, resource_id, "two")
    clock.advance(100)
    assert fetched(link(app, name)) == fetched(first) == b"_id,name\n1,one\n"
    assert len(jobs(place, name)) == 1
    clock.advance(100)
    assert fetched(link(app, name)) == b"_id,name\n1,one\n2,two\n"
    assert len(jobs(place, name)) == 2


@pytest.mark.ckan_config(config.VOLATILE_TTL_SECONDS, "60")
def test_how_long_is_the_sites_choice(app, place, resource_id, monkeypatch):
    clock, name = Clock(monkeypatch), a_view(place, resource_id)
    link(app, name)
    clock.advance(29)
    link(app, name)
    assert len(jobs(place, name)) == 1
    clock.advance(2)
    link(app, name)
    assert len(jobs(place, name)) == 2


# --- order


def test_a_table_without_an_id_is_a_file_in_any_order(app, place):
    bare = factories.Resource()["id"]
    place.bigquery.query(
        f"CREATE TABLE `{place.dataset}.{bare}` AS SELECT 'b' AS name UNION ALL SELECT 'a'"
    ).result()
    lines = fetched(link(app, bare)).splitlines()
    assert (lines[0], sorted(lines[1:])) == (b"name", [b"a", b"b"])
    assert fetched(link(app, bare, "?sort=name")) == b"name\na\nb\n"
    assert fetched(link(app, bare, "?sort=name desc")) == b"name\nb\na\n"


@pytest.mark.ckan_config(config.ORDER, "none")
@pytest.mark.parametrize("format_name", ["ndjson", "parquet"])
def test_a_site_that_wants_no_order_exports_whole_tables_for_free(
    app, place, resource_id, format_name
):
    data = fetched(link(app, resource_id, f"?format={format_name}"))
    assert b"one" in data
    if format_name == "ndjson":
        assert data == b'{"_id":"1","name":"one"}\n'
    # By extract: no query was run.
    assert jobs(place, resource_id) == []
    link(app, resource_id, f"?format={format_name}&sort=name")
    link(app, resource_id, f"?format={format_name}&fields=name")
    sorted_, part = sorted((job.query for job in jobs(place, resource_id)), key=len, reverse=True)
    assert "ORDER BY" in sorted_ and "ORDER BY" not in part


# --- what a job carries


@pytest.mark.ckan_config(config.JOB_LABELS, "team=open-data cost_centre=42")
@pytest.mark.ckan_config(config.JOB_TIMEOUT_SECONDS, "1234")
@pytest.mark.ckan_config(config.MAXIMUM_BYTES_BILLED, "1000000000")
def test_a_job_carries_the_labels_and_the_limits_of_the_site(app, place, resource_id, monkeypatch):
    # A short query is no job that could be asked for.
    reader, sent = clients.bigquery_ro(), []
    read = reader.query_and_wait

    def spy(sql: str, **given: Any) -> Any:
        sent.append(given["job_config"].labels)
        return read(sql, **given)

    monkeypatch.setattr(reader, "query_and_wait", spy)
    link(app, resource_id)
    app.get(f"/datastore/dump/{resource_id}?limit=1", status=200)
    (job,) = jobs(place, resource_id)
    told = job.to_api_repr()["configuration"]
    labels = {"team": "open-data", "cost_centre": "42"}
    assert told["labels"] == {**labels, "ckan_resource": resource_id, "ckan_format": "csv"}
    assert told["jobTimeoutMs"] == "1234000"
    assert told["query"]["maximumBytesBilled"] == "1000000000"
    assert sent == [labels]
