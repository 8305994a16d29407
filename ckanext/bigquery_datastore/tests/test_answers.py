"""The table of answers, where it is easily got wrong: polls, hops, names, hostile parameters."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google_crc32c
import pytest
import requests
from ckan.lib import signals
from ckan.tests import factories, helpers

from ckanext.bigquery_datastore import clients, config, downloads
from ckanext.bigquery_datastore.errors import (
    BigQueryDatastoreError,
    ExportFailed,
    FooterError,
    NotReachable,
    OutsideError,
    PermissionMissing,
    TransformError,
)
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import visit
from ckanext.bigquery_datastore.web import answers

pytestmark = pytest.mark.usefixtures(
    "non_clean_db", "datastore", "with_plugins", "nothing_remembered", "heard_in_full"
)

CSV = b"_id,name\n1,one\n2,two\n"
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def resource() -> dict[str, Any]:
    return a_table()


_shared: dict[str, Any] = {}


@pytest.fixture
def any_resource() -> dict[str, Any]:
    """One for all tests that do not care what was asked of it before."""
    if not _shared:
        _shared.update(a_table())
    return _shared


def a_table() -> dict[str, Any]:
    found = factories.Resource(name="Plain name")
    alias = f"alias_{found['id'][:8]}"
    helpers.call_action(
        "datastore_create",
        resource_id=found["id"],
        force=True,
        aliases=[alias],
        fields=[{"id": "name", "type": "text"}],
        records=[{"name": "one"}, {"name": "two"}],
    )
    return {**found, "alias": alias}


@pytest.fixture
def slow(monkeypatch) -> None:
    slow_down(monkeypatch)


def slow_down(monkeypatch) -> None:
    """From now on, what BigQuery does takes a minute, and nobody waits for an export."""
    monkeypatch.setattr(config, "job_labels", lambda: {"emulator_run_seconds": "60"})
    monkeypatch.setattr(answers, "patience", lambda: 0)


def jobs(resource) -> list[Any]:
    place = Place(config.dataset(), config.export_bucket())
    return [job for job in place.export_jobs() if resource["id"] in job.query]


# --- while an export runs


def test_who_has_the_file_gets_304_also_while_it_is_exported_again(app, resource, monkeypatch):
    etag = visit(app, resource["id"], "format=json&limit=9").headers["ETag"]
    slow_down(monkeypatch)
    assert visit(app, resource["id"], "format=tsv").status_code == 302
    again = visit(app, resource["id"], "format=json&limit=9", If_None_Match=etag)
    assert (again.status_code, again.headers["ETag"]) == (304, etag)


def test_who_has_the_file_by_its_date_gets_304_until_the_table_changes(app, resource, monkeypatch):
    monkeypatch.setattr(config, "metadata_ttl_seconds", lambda: 0)
    since = visit(app, resource["id"]).headers["Last-Modified"]
    again = visit(app, resource["id"], If_Modified_Since=since)
    assert (again.status_code, again.data) == (304, b"")
    long_ago = "Sat, 01 Jan 2000 00:00:00 GMT"
    assert visit(app, resource["id"], If_Modified_Since=long_ago).status_code == 302
    # A tag that does not match is stronger than a date that does.
    both = {"If_None_Match": '"another"', "If_Modified_Since": since}
    assert visit(app, resource["id"], **both).status_code == 302


def test_head_and_get_and_polls_start_the_work_once(app, resource, slow):
    for method in ("HEAD", "GET", "HEAD"):
        assert visit(app, resource["id"], method=method).status_code == 302
    for _ in range(3):
        found = json.loads(visit(app, resource["id"], suffix="/status").data)
        assert found["state"] == "running"
    assert len(jobs(resource)) == 1


def test_head_of_a_waiting_page_has_no_body(app, resource, slow):
    answer = visit(app, resource["id"], method="HEAD", **BROWSER)
    assert (answer.status_code, answer.data) == (202, b"")


@pytest.mark.parametrize("hop", ["8", "9", "999"])
def test_after_the_last_hop_it_is_503_with_a_time_to_come_back(app, resource, slow, hop):
    answer = visit(app, resource["id"], f"_hop={hop}")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize("hop", ["-1", "x", "1e3", "99999999999999999999", "٣", ""])
def test_a_hop_that_is_no_number_of_ours_is_the_first(app, resource, slow, hop):
    answer = visit(app, resource["id"], {"_hop": hop, "bom": "true"})
    query = parse_qs(urlsplit(answer.location).query)
    assert (answer.status_code, query) == (302, {"bom": ["true"], "_hop": ["1"]})


def test_hops_end_within_what_urllib_follows(app, resource, slow):
    hops, query = 0, ""
    while (answer := visit(app, resource["id"], query)).status_code == 302:
        hops, query = hops + 1, urlsplit(answer.location).query
    assert answer.status_code == 503
    # Nine follow-ups and the one to Cloud Storage are the ten that urllib allows.
    assert hops == answers.MAX_HOPS <= 9


@pytest.mark.parametrize("prefer", ["respond-async", "wait=10, respond-async", "Respond-Async"])
def test_who_prefers_not_to_wait_is_given_the_status(app, resource, slow, prefer):
    answer = visit(app, resource["id"], "bom=true", Prefer=prefer)
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    location = urlsplit(answer.headers["Location"])
    assert location.path == f"/datastore/dump/{resource['id']}/status"
    assert parse_qs(location.query) == {"bom": ["true"]}


def test_a_ready_file_is_given_to_who_would_not_have_waited(app, resource):
    visit(app, resource["id"])
    assert visit(app, resource["id"], Prefer="respond-async").status_code == 302


def test_the_status_of_a_file_tells_of_it(app, resource):
    visit(app, resource["id"])
    found = json.loads(visit(app, resource["id"], suffix="/status").data)
    assert {**found, "url": ""} == {
        "state": "ready",
        "url": "",
        "bytes": len(CSV),
        "crc32c": base64.b64encode(google_crc32c.Checksum(CSV).digest()).decode(),
        "rows": 2,
        "ordered": True,
    }


def test_a_few_rows_that_take_too_long_are_503_with_a_way_out(app, resource, slow, monkeypatch):
    monkeypatch.setattr(config, "wait_seconds", lambda **_: 1)
    answer = visit(app, resource["id"], "limit=1")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
    assert "Without limit they are exported" in answer.text


# --- names


def test_an_alias_is_the_same_download(app, resource):
    by_alias = visit(app, resource["alias"])
    assert requests.get(by_alias.location, timeout=20).content == CSV
    assert urlsplit(by_alias.location).path == urlsplit(visit(app, resource["id"]).location).path


def test_an_alias_stays_in_the_address_while_waiting(app, resource, slow):
    assert urlsplit(visit(app, resource["alias"]).location).path.endswith(resource["alias"])


def test_gzip_is_an_old_name_of_compressed_csv(app, resource):
    answer = visit(app, resource["id"], "format=gzip")
    data = requests.get(answer.location, timeout=20)
    assert gzip.decompress(data.content) == CSV
    assert "Content-Encoding" not in data.headers
    assert urlsplit(answer.location).path.endswith("/data.csv.gz")


# --- hostile parameters


@pytest.mark.parametrize("name", ["q", "sort", "fields", "_hop", "nothing", "language"])
def test_a_waiting_page_repeats_no_parameter_as_html(app, resource, slow, name):
    answer = visit(app, resource["id"], {name: HOSTILE, "filters": "{}"}, **BROWSER)
    assert answer.status_code in (202, 400)
    assert HOSTILE not in answer.text
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize("name", ["format", "limit", "filters", "sort", "fields", "offset"])
def test_a_page_of_an_error_repeats_no_parameter_as_html(app, any_resource, name):
    answer = visit(app, any_resource["id"], {name: HOSTILE}, **BROWSER)
    assert answer.status_code == 400
    assert name in answer.text
    assert "<script>alert" not in answer.text


def test_an_error_in_plain_text_is_no_html(app, any_resource):
    answer = visit(app, any_resource["id"], {"format": HOSTILE})
    assert answer.content_type == "text/plain; charset=utf-8"


def test_no_header_can_be_made_by_a_parameter_or_a_name(app, resource, slow):
    answer = visit(app, resource["id"], {"q": "a\r\nSet-Cookie: x=1"})
    assert "\n" not in answer.location
    assert "x=1" not in str(answer.headers.getlist("Set-Cookie"))


# --- errors


@pytest.mark.parametrize(
    "error", [OutsideError, PermissionMissing, NotReachable, ExportFailed, FooterError]
)
@pytest.mark.parametrize("suffix", ["", "/status"])
@pytest.mark.parametrize("accept", [BROWSER, {}], ids=["browser", "program"])
def test_every_5xx_says_when_to_come_back(app, any_resource, monkeypatch, error, suffix, accept):
    def fail(*args: object) -> None:
        raise error("a sentence")

    monkeypatch.setattr(downloads.Engine, "advance", fail)
    answer = visit(app, any_resource["id"], suffix=suffix, **accept)
    assert answer.status_code == error.status >= 500
    assert int(answer.headers["Retry-After"]) > 0
    assert "a sentence" in answer.text
    assert "no-store" in answer.headers["Cache-Control"]


def test_the_errors_are_all_in_one_tree():
    assert issubclass(TransformError, BigQueryDatastoreError)
    assert not issubclass(TransformError, OutsideError)


def test_no_answer_tells_of_a_key(app, any_resource, monkeypatch):
    monkeypatch.setattr(clients, "CALL_SECONDS", 1)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    clients.forget()
    try:
        answer = visit(app, any_resource["id"])
    finally:
        clients.forget()
    assert answer.status_code == 503
    assert "127.0.0.1" not in answer.text and "Bearer" not in answer.text


@pytest.mark.parametrize(
    ("query", "option"),
    [
        ("", config.MAXIMUM_BYTES_BILLED),
        ("limit=1", config.SEARCH_MAXIMUM_BYTES_BILLED),
        ("format=json", config.MAXIMUM_BYTES_BILLED),
    ],
)
def test_more_than_the_site_allows_is_413_and_names_the_limit(
    app, any_resource, monkeypatch, query, option
):
    monkeypatch.setattr(config, "maximum_bytes_billed", lambda: 1)
    answer = visit(app, any_resource["id"], f"{query}&fields=name")
    assert answer.status_code == 413, answer.text
    assert option in answer.text


# --- counted


@pytest.mark.parametrize(
    ("query", "cached", "size"), [("", False, len(CSV)), ("limit=1", False, len(CSV) - 6)]
)
def test_a_download_is_told_with_its_format_size_and_time(app, resource, query, cached, size):
    told: list[tuple[str, dict[str, Any]]] = []

    def listen(sender: str, **about: Any) -> None:
        told.append((sender, about))

    with signals.resource_download.connected_to(listen):
        visit(app, resource["alias"], query)
        visit(app, resource["id"], query, method="HEAD")
        visit(app, resource["id"], "format=nonsense")
    assert [sender for sender, _ in told] == [resource["id"]]
    about = told[0][1]
    assert (about["format"], about["cached"], about["bytes"]) == ("csv", cached, size)
    assert 0 < about["seconds"] < 60


def test_who_waits_and_who_has_it_already_are_not_counted(app, resource, monkeypatch):
    told = []

    def listen(sender: str, **about: Any) -> None:
        told.append(sender)

    etag = visit(app, resource["id"], "limit=1").headers["ETag"]
    slow_down(monkeypatch)
    with signals.resource_download.connected_to(listen):
        visit(app, resource["id"])
        visit(app, resource["id"], **BROWSER)
        visit(app, resource["id"], "limit=1", If_None_Match=etag)
    assert told == []
