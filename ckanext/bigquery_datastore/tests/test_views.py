"""What a visitor gets from /datastore/dump, through CKAN itself."""

from __future__ import annotations

import json
import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ckan.lib import signals
from ckan.tests import factories, helpers

from ckanext.bigquery_datastore import config, downloads
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = pytest.mark.usefixtures(
    "non_clean_db", "datastore", "with_plugins", "nothing_remembered", "heard_in_full"
)

ROWS = [{"name": "one", "size": 1}, {"name": 'a "b", c', "size": None}]
CSV = b'_id,name,size\n1,one,1\n2,"a ""b"", c",\n'
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture()
def place() -> Place:
    return Place(config.dataset(), config.export_bucket())


@pytest.fixture()
def resource(place) -> dict[str, Any]:
    """A public resource whose table has two rows."""
    dataset = factories.Dataset()
    found = factories.Resource(package_id=dataset["id"], name="Zählung 2024", url_type="datastore")
    place.fill(found["id"], ROWS, name="STRING", size="INT64")
    return {**found, "dataset": dataset["name"]}


@pytest.fixture()
def private_resource(place) -> dict[str, Any]:
    organization = factories.Organization()
    dataset = factories.Dataset(private=True, owner_org=organization["id"])
    found = factories.Resource(package_id=dataset["id"])
    place.fill(found["id"], ROWS, name="STRING", size="INT64")
    return {**found, "organization": organization["id"]}


def get(app, resource, query="", **kwargs):
    kwargs.setdefault("follow_redirects", False)
    return app.get(f"/datastore/dump/{resource['id']}{query}", **kwargs)


def slowly(monkeypatch, seconds: str) -> None:
    """Exports take this long from now on."""
    monkeypatch.setattr(config, "job_labels", lambda: {"emulator_run_seconds": seconds})


def downloaded(url: str, **headers: str) -> tuple[bytes, Any]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.read(), answer.headers


# --- the file


def test_a_file_is_one_redirect_to_a_signed_url(app, resource):
    answer = get(app, resource)
    assert answer.status_code == 302
    query = parse_qs(urlsplit(answer.location).query)
    assert query["X-Goog-Algorithm"] == ["GOOG4-RSA-SHA256"]
    assert query["X-Goog-Expires"] == ["3600"]
    data, _ = downloaded(answer.location)
    assert data == CSV


def test_a_file_may_be_resumed(app, resource):
    data, headers = downloaded(get(app, resource).location, Range="bytes=15-17")
    assert data == CSV[15:18]
    assert headers["Content-Range"] == f"bytes 15-17/{len(CSV)}"


def test_a_file_is_named_after_dataset_and_resource(app, resource):
    query = parse_qs(urlsplit(get(app, resource).location).query)
    name = resource["dataset"]
    assert query["response-content-disposition"] == [
        f'attachment; filename="{name}-Zhlung-2024.csv"; '
        f"filename*=UTF-8''{name}-Z%C3%A4hlung-2024.csv"
    ]


@pytest.mark.ckan_config(config.FILENAME_TEMPLATE, "{resource_id}")
def test_a_file_may_be_named_by_its_id(app, resource):
    query = parse_qs(urlsplit(get(app, resource).location).query)
    assert query["response-content-disposition"] == [f'attachment; filename="{resource["id"]}.csv"']


def test_no_answer_may_be_kept_by_a_shared_cache(app, resource, monkeypatch):
    answers = [get(app, resource), get(app, resource, "?limit=1"), get(app, {"id": "nothing"})]
    slowly(monkeypatch, "60")
    answers += [
        get(app, resource, "?format=tsv", headers={"Prefer": "respond-async"}),
        get(app, resource, "?format=tsv", headers=BROWSER),
    ]
    assert [answer.status_code for answer in answers] == [302, 200, 404, 202, 202]
    for answer in answers:
        assert "public" not in answer.headers["Cache-Control"]
    assert all("no-store" in a.headers["Cache-Control"] for a in answers if a.status_code != 404)


def test_a_second_request_makes_no_second_export(app, resource, place):
    first, second = get(app, resource), get(app, resource)
    assert urlsplit(first.location).path == urlsplit(second.location).path
    assert len([j for j in place.export_jobs() if resource["id"] in j.query]) == 1


def test_head_answers_as_get_and_its_link_is_signed_for_head(app, resource):
    answer = visit(app, resource["id"], method="HEAD")
    assert answer.status_code == 302
    request = urllib.request.Request(answer.location, method="HEAD")
    with urllib.request.urlopen(request) as head:
        assert head.headers["Content-Length"] == str(len(CSV))


def test_who_has_the_file_already_gets_304(app, resource, place):
    etag = get(app, resource).headers["ETag"]
    again = get(app, resource, headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")
    assert get(app, resource, "?format=tsv", headers={"If-None-Match": etag}).status_code == 302
    place.fill(resource["id"], ROWS[:1], name="STRING", size="INT64")
    downloads.TABLES.clear()
    assert get(app, resource, headers={"If-None-Match": etag}).status_code == 302


def test_a_download_is_told_to_whoever_counts_them(app, resource):
    told = []

    def listen(sender, **about):
        told.append((sender, about))

    with signals.resource_download.connected_to(listen):
        get(app, resource)
        get(app, resource)
    assert [sender for sender, _ in told] == [resource["id"]] * 2
    assert [about["cached"] for _, about in told] == [False, True]
    assert {about["format"] for _, about in told} == {"csv"}
    assert {about["bytes"] for _, about in told} == {len(CSV)}


# --- a page


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?limit=1", b"_id,name,size\n1,one,1\n"),
        ("?limit=1&offset=1&bom=true", b'\xef\xbb\xbf_id,name,size\n2,"a ""b"", c",\n'),
        ("?limit=5&format=tsv&fields=size,name", b'size\tname\n1\tone\n\t"a ""b"", c"\n'),
        ("?limit=0", b"_id,name,size\n"),
    ],
)
def test_a_few_rows_are_answered_at_once_without_an_export(app, resource, place, query, expected):
    answer = get(app, resource, query)
    assert (answer.status_code, answer.data) == (200, expected)
    assert not [j for j in place.export_jobs() if resource["id"] in j.query]


def test_a_page_has_the_bytes_of_the_export(app, resource):
    whole, _ = downloaded(get(app, resource).location)
    assert get(app, resource, "?limit=2").data == whole


@pytest.mark.parametrize("format_name", ["json", "xml"])
def test_rewritten_formats_are_the_same_by_page_and_by_export(app, resource, format_name):
    page = get(app, resource, f"?format={format_name}&limit=10")
    whole = get(app, resource, f"?format={format_name}")
    assert (page.status_code, whole.status_code) == (200, 200), whole.body
    assert page.data == whole.data
    assert page.content_type == whole.content_type


def test_a_rank_is_called_so_in_every_format(app, resource):
    for format_name, words in (
        ("csv", b"_id,name,size,rank\n1,one,1,0."),
        ("ndjson", b'{"_id":"1","name":"one","size":"1","rank":0.'),
    ):
        data, _ = downloaded(get(app, resource, f"?q=one&format={format_name}").location)
        assert data.startswith(words)


# --- who may


def test_who_may_not_read_gets_404_everywhere_and_nothing_is_looked_at(
    app, private_resource, monkeypatch
):
    monkeypatch.setattr(downloads, "prepare", lambda *args: pytest.fail("looked at the table"))
    stranger = factories.UserWithToken()
    for suffix in ("", "/status", "?limit=1", "?format=parquet"):
        url = f"/datastore/dump/{private_resource['id']}{suffix}"
        assert app.get(url, status=404)
        assert app.get(url, headers={"Authorization": stranger["token"]}, status=404)


def test_a_member_gets_the_file_by_api_token(app, private_resource):
    member = factories.UserWithToken()
    helpers.call_action(
        "organization_member_create",
        id=private_resource["organization"],
        username=member["name"],
        role="member",
    )
    sent = {"Authorization": member["token"], "User-Agent": "curl/8.5.0"}
    answer = get(app, private_resource, headers=sent)
    assert downloaded(answer.location)[0] == CSV


def test_what_is_not_there_is_404(app, resource):
    assert get(app, {"id": "no-such-thing"}).status_code == 404
    empty = factories.Resource()
    assert get(app, empty).status_code == 404


# --- what is wrong


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?format=xls", "format: Value must be one of"),
        ("?limit=many", "limit: Invalid integer"),
        ("?fields=nothing", "fields"),
        ("?sort=nothing", "sort"),
        ('?filters={"nothing":1}', "filters"),
        ("?filters={", "filters: Cannot parse JSON"),
    ],
)
def test_a_bad_parameter_is_named_in_one_line(app, resource, query, words):
    answer = get(app, resource, query)
    assert answer.status_code == 400
    assert words in answer.body
    assert answer.content_type.startswith("text/plain")


def test_an_unknown_parameter_is_ignored_as_core_does(app, resource):
    assert downloaded(get(app, resource, "?colour=red").location)[0] == CSV


@pytest.mark.ckan_config(config.MAXIMUM_BYTES_BILLED, "1")
def test_over_the_budget_is_413_and_names_the_option(app, resource):
    answer = get(app, resource)
    assert answer.status_code == 413
    assert "maximum_bytes_billed" in answer.body


@pytest.mark.ckan_config(config.EXPORT_BUCKET, "no-such-bucket")
def test_a_missing_bucket_is_said(app, resource):
    answer = get(app, resource)
    assert answer.status_code == 502
    assert "no-such-bucket" in answer.body
    assert int(answer.headers["Retry-After"]) > 0


# --- not yet


def test_a_script_is_sent_back_to_the_same_url_and_gets_the_file(app, resource, monkeypatch):
    slowly(monkeypatch, "3")
    monkeypatch.setattr(config, "wait_seconds", lambda **_: 1)
    hops, answer = 0, get(app, resource, "?bom=true")
    while answer.status_code == 302 and "_hop" in answer.location:
        assert answer.headers["Retry-After"]
        parts = urlsplit(answer.location)
        assert (parts.path, parse_qs(parts.query)["bom"]) == (
            f"/datastore/dump/{resource['id']}",
            ["true"],
        )
        hops, answer = hops + 1, app.get(f"{parts.path}?{parts.query}", follow_redirects=False)
    assert hops >= 2
    assert downloaded(answer.location)[0] == b"\xef\xbb\xbf" + CSV


def test_after_the_last_hop_a_script_is_told_to_come_back(app, resource, monkeypatch):
    slowly(monkeypatch, "60")
    monkeypatch.setattr(config, "wait_seconds", lambda **_: 0)
    answer = get(app, resource, "?_hop=8")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


def test_a_script_that_does_not_want_to_wait_gets_the_address_of_the_status(
    app, resource, monkeypatch
):
    slowly(monkeypatch, "3")
    answer = get(app, resource, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    status = urlsplit(answer.location)
    states = []
    while not states or states[-1]["state"] == "running":
        states.append(json.loads(app.get(f"{status.path}?{status.query}").body))
    assert states[0]["phase"] == "export"
    assert states[-1]["state"] == "ready"
    assert (states[-1]["rows"], states[-1]["bytes"]) == (2, len(CSV))


def test_a_browser_sees_a_page_that_tells_a_screen_reader_too(app, resource, monkeypatch):
    slowly(monkeypatch, "60")
    answer = get(app, resource, headers=BROWSER)
    assert answer.status_code == 202
    assert 'role="status"' in answer.body
    assert f"/datastore/dump/{resource['id']}/status" in answer.body
    assert "<script>" not in answer.body


def test_a_failure_is_a_page_for_a_browser(app, resource, monkeypatch):
    monkeypatch.setattr(config, "maximum_bytes_billed", lambda: 1)
    answer = get(app, resource, headers=BROWSER)
    assert answer.status_code == 413
    assert "<h1" in answer.body and "maximum_bytes_billed" in answer.body


# --- whose route


@pytest.mark.ckan_config("ckan.plugins", "datastore bigquery_datastore")
def test_listed_after_datastore_the_route_is_ours_all_the_same(app, resource):
    assert get(app, resource).status_code == 302


def test_a_column_may_be_called_as_our_statements_call_the_table(app):
    id = factories.Resource()["id"]
    records = [{"t": "one", "n": 1}, {"t": "two", "n": 2}]
    helpers.call_action("datastore_create", resource_id=id, force=True, records=records)
    csv = b"_id,t,n\n1,one,1\n2,two,2\n"
    assert downloaded(visit(app, id).location)[0] == csv
    assert visit(app, id, {"limit": "1", "sort": "t desc"}).data == b"_id,t,n\n2,two,2\n"
    for more in ({"q": "two"}, {"distinct": True, "fields": ["t"], "sort": "t desc", "limit": 1}):
        found = helpers.call_action("datastore_search", resource_id=id, **more)
        assert [record["t"] for record in found["records"]] == ["two"]
