"""What one download asks of Google, what a thousand ask, and what happens where it is silent."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from ckan import model
from ckan.plugins import toolkit as tk
from ckan.tests import factories, helpers
from sqlalchemy import event, text

from ckanext.bigquery_datastore import clients, config, downloads, places
from ckanext.bigquery_datastore.dump import storage
from ckanext.bigquery_datastore.places import Places
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import is_within, visit

pytestmark = pytest.mark.usefixtures("non_clean_db", "own_site", "with_plugins")

ROWS = [{"name": "one", "size": 1}]


@pytest.fixture
def resource(own_site) -> dict[str, Any]:
    """A resource whose csv is there already, and a process that has heard nothing yet."""
    found = factories.Resource()
    place = Place(config.dataset(), config.export_bucket())
    place.fill(found["id"], ROWS, name="STRING", size="INT64")
    return found


def warm(app, resource) -> None:
    assert visit(app, resource["id"]).status_code == 302
    forget()


def forget() -> None:
    for remembered in (downloads.TABLES, downloads.FILES, downloads.RUNNING):
        remembered.clear()


def asked(own_site, resource) -> dict[str, int]:
    """Requests for what is the resource's, by service. Of an earlier test one may end only now."""
    return {
        "tables.get": own_site.seen(service="bigquery", path=f"/tables/{resource['id']}")["count"],
        "storage": sum(
            own_site.seen(service="storage", **{part: resource["id"]})["count"]
            for part in ("path", "query")
        ),
    }


# --- how often Google is asked


def test_a_thousand_clicks_on_one_file_ask_once_for_the_table_and_once_for_the_file(
    app, own_site, resource, monkeypatch
):
    monkeypatch.setattr(config, "metadata_ttl_seconds", lambda: 3600)
    # Twenty threads on a busy machine can be slower than a storage that is given up on.
    monkeypatch.setattr(downloads, "_FILES_SECONDS", 60)
    warm(app, resource)
    own_site.forget_requests()
    with ThreadPoolExecutor(20) as threads:
        codes = set(threads.map(lambda _: visit(app, resource["id"]).status_code, range(1000)))
    assert codes == {302}
    assert asked(own_site, resource) == {"tables.get": 1, "storage": 1}


def test_after_the_time_to_live_google_is_asked_once_more(app, own_site, resource, monkeypatch):
    monkeypatch.setattr(config, "metadata_ttl_seconds", lambda: 1)
    warm(app, resource)
    own_site.forget_requests()
    visit(app, resource["id"])
    visit(app, resource["id"])
    assert asked(own_site, resource) == {"tables.get": 1, "storage": 1}
    time.sleep(1.1)
    visit(app, resource["id"])
    assert asked(own_site, resource) == {"tables.get": 2, "storage": 2}


def test_a_cold_process_asks_for_table_and_file_side_by_side(app, own_site, resource):
    warm(app, resource)
    own_site.fault(service="bigquery", path=f"/tables/{resource['id']}", delay=1.0, times=0)
    own_site.fault(service="storage", delay=1.0, times=0)
    own_site.forget_requests()
    assert visit(app, resource["id"]).status_code == 302
    table, files = (
        own_site.seen(service=service)["requests"][0] for service in ("bigquery", "storage")
    )
    assert files["began"] < table["began"] + table["seconds"]
    assert table["began"] < files["began"] + files["seconds"]


@contextmanager
def statements() -> Iterator[list[str]]:
    """What CKAN's database is asked meanwhile."""
    found: list[str] = []

    def note(*args: Any) -> None:
        found.append(" ".join(args[2].split()))

    event.listen(model.meta.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(model.meta.engine, "before_cursor_execute", note)


def test_a_hot_click_reads_the_resource_and_its_dataset_once_and_asks_google_nothing(
    app, own_site, resource, monkeypatch
):
    monkeypatch.setattr(config, "metadata_ttl_seconds", lambda: 3600)
    warm(app, resource)
    visit(app, resource["id"])
    own_site.forget_requests()
    with statements() as found:
        assert visit(app, resource["id"]).status_code == 302
    for table in ("resource", "package"):
        assert sum(f"FROM {table} " in text for text in found) == 1, found
    assert asked(own_site, resource) == {"tables.get": 0, "storage": 0}


def test_a_hot_click_gets_what_has_changed_in_ckan_since(app, own_site, resource, monkeypatch):
    monkeypatch.setattr(config, "metadata_ttl_seconds", lambda: 3600)
    warm(app, resource)
    urls = [visit(app, resource["id"]).headers["Location"]]
    helpers.call_action("package_patch", id=resource["package_id"], name="another-name")
    urls.append(visit(app, resource["id"]).headers["Location"])
    urls.append(visit(app, resource["id"], "bom=true").headers["Location"])
    monkeypatch.setattr(config, "order", lambda: "none")
    urls.append(visit(app, resource["id"]).headers["Location"])
    assert ["another-name" in url for url in urls] == [False, True, True, True]
    files = [urlsplit(url).path for url in urls]
    assert files[0] == files[1]
    assert len(set(files)) == 3


def test_a_hot_click_after_the_dataset_was_hidden_is_404(app, own_site, resource, monkeypatch):
    monkeypatch.setattr(config, "metadata_ttl_seconds", lambda: 3600)
    warm(app, resource)
    assert visit(app, resource["id"]).status_code == 302
    # Behind CKAN's back: nothing purges the file or what is remembered of it.
    with model.meta.engine.begin() as connection:
        connection.execute(
            text("UPDATE package SET state = 'deleted' WHERE id = :id"),
            {"id": resource["package_id"]},
        )
    assert visit(app, resource["id"]).status_code == 404


def test_a_click_that_asked_google_looks_again_who_may(app, own_site, resource, monkeypatch):
    warm(app, resource)
    with statements() as found:
        assert visit(app, resource["id"]).status_code == 302
    assert sum("FROM package " in text for text in found) == 2, found


def test_a_crowd_without_a_place_to_wait_asks_google_no_more_than_its_first(
    app, own_site, resource, monkeypatch
):
    labels = {**config.job_labels(), "emulator_run_seconds": "60"}
    monkeypatch.setattr(config, "job_labels", lambda: labels)
    monkeypatch.setitem(tk.config, config.WAITING_REQUESTS, "0")
    monkeypatch.setitem(tk.config, config.METADATA_TTL_SECONDS, "60")
    forget()
    place = Place(config.dataset(), config.export_bucket())
    assert is_told_to_come_back(visit(app, resource["id"]))
    assert is_within(30, lambda: any(resource["id"] in job.query for job in place.export_jobs()))
    own_site.forget_requests()
    assert all(is_told_to_come_back(visit(app, resource["id"])) for _ in range(5))
    assert asked(own_site, resource) == {"tables.get": 0, "storage": 0}


def is_told_to_come_back(answer: Any) -> bool:
    return (answer.status_code, "curl --retry" in answer.text) == (503, True)


def test_a_crowd_without_a_place_does_not_wait_for_a_claim_either(
    app, own_site, resource, monkeypatch
):
    monkeypatch.setitem(tk.config, config.WAITING_REQUESTS, "0")
    monkeypatch.setattr(storage, "UPLOAD_SECONDS", 1)
    claim = own_site.fault(path="/upload/", delay=5, times=1)
    assert is_told_to_come_back(visit(app, resource["id"]))
    assert is_within(60, lambda: visit(app, resource["id"]).status_code == 302)
    # The late one is nobody else's.
    assert is_within(30, lambda: claim in [one["rule"] for one in own_site.seen()["requests"]])


def test_who_was_let_in_finds_a_place_again_and_nobody_new_gets_it(
    app, own_site, resource, monkeypatch
):
    labels = {**config.job_labels(), "emulator_run_seconds": "60"}
    monkeypatch.setattr(config, "job_labels", lambda: labels)
    monkeypatch.setattr(places, "_COMES_BACK_SECONDS", 30.0)
    monkeypatch.setattr(places, "WAITING", Places(lambda: 1))
    monkeypatch.setitem(tk.config, config.WAIT_SECONDS, "1")
    let_in = visit(app, resource["id"])
    assert (let_in.status_code, "_hop=1" in let_in.location) == (302, True)
    assert is_told_to_come_back(visit(app, resource["id"]))
    back = visit(app, resource["id"], "_hop=1")
    assert (back.status_code, "_hop=2" in back.location) == (302, True)


def test_a_crowd_without_a_place_is_told_what_is_wrong_all_the_same(app, resource, monkeypatch):
    monkeypatch.setitem(tk.config, config.WAITING_REQUESTS, "0")
    monkeypatch.setattr(config, "maximum_bytes_billed", lambda: 1)
    assert is_told_to_come_back(visit(app, resource["id"]))
    assert is_within(30, lambda: "maximum_bytes_billed" in visit(app, resource["id"]).text)


def test_a_few_rows_do_not_ask_for_files_at_all(app, own_site, resource):
    own_site.forget_requests()
    assert visit(app, resource["id"], "limit=1").status_code == 200
    assert asked(own_site, resource) == {"tables.get": 1, "storage": 0}


def test_what_this_process_writes_is_in_its_next_download(app, own_site):
    found = factories.Resource()
    helpers.call_action(
        "datastore_create",
        resource_id=found["id"],
        force=True,
        fields=[{"id": "name", "type": "text"}],
        records=[{"name": "one"}],
    )
    first = visit(app, found["id"], "limit=9").data
    helpers.call_action(
        "datastore_upsert",
        resource_id=found["id"],
        force=True,
        method="insert",
        records=[{"name": "two"}],
    )
    etag = visit(app, found["id"]).headers["ETag"]
    helpers.call_action(
        "datastore_upsert",
        resource_id=found["id"],
        force=True,
        method="insert",
        records=[{"name": "three"}],
    )
    answer = visit(app, found["id"], If_None_Match=etag)
    assert first == b"_id,name\n1,one\n"
    assert answer.status_code == 302
    assert visit(app, found["id"], "limit=9").data == b"_id,name\n1,one\n2,two\n3,three\n"


# --- where Google is silent


@pytest.fixture
def silence() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent_bigquery(own_site, silence, monkeypatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", silence)
    monkeypatch.setattr(clients, "CALL_SECONDS", 2.0)
    clients.forget()
    forget()


@pytest.mark.parametrize(
    "asked_for", [{}, {"suffix": "/status"}, {"query": "limit=1"}, {"query": "format=json"}]
)
def test_a_silent_bigquery_is_503_in_seconds(app, resource, silent_bigquery, asked_for):
    begun = time.monotonic()
    answer = visit(app, resource["id"], **asked_for)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert time.monotonic() - begun < 3 * clients.CALL_SECONDS


def test_a_silent_bigquery_is_503_also_for_the_name_of_an_alias(app, silent_bigquery):
    answer = visit(app, "some_alias")
    assert (answer.status_code, "try again in a minute" in answer.text) == (503, True)


def test_a_silent_bigquery_is_an_error_of_an_action_in_seconds(resource, silent_bigquery):
    begun = time.monotonic()
    for action, params in {
        "datastore_search": {},
        "datastore_upsert": {"force": True, "records": [{"name": "x"}], "method": "insert"},
    }.items():
        with pytest.raises(tk.ValidationError, match="Google does not answer"):
            helpers.call_action(action, resource_id=resource["id"], **params)
    assert time.monotonic() - begun < 2 * 3 * clients.CALL_SECONDS


def test_a_crowd_at_a_silent_bigquery_waits_as_long_as_one_visitor(app, resource, silent_bigquery):
    begun = time.monotonic()
    with ThreadPoolExecutor(20) as threads:
        codes = set(threads.map(lambda _: visit(app, resource["id"]).status_code, range(20)))
    assert codes == {503}
    assert time.monotonic() - begun < 5 * clients.CALL_SECONDS


def test_a_silent_storage_is_503_in_seconds(app, own_site, resource, silence, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", silence)
    monkeypatch.setattr(clients, "CALL_SECONDS", 2.0)
    clients.forget()
    begun = time.monotonic()
    assert visit(app, resource["id"]).status_code == 503
    assert time.monotonic() - begun < 3 * clients.CALL_SECONDS
