"""What a statement and a day may cost: who is refused, with which words, and who goes on."""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from typing import Any

import pytest
from ckan.plugins import toolkit as tk
from ckan.tests import factories, helpers

from ckanext.bigquery_datastore import config, counters, spending
from ckanext.bigquery_datastore.errors import OverBudget
from ckanext.bigquery_datastore.tests.emulated import free_port
from ckanext.bigquery_datastore.tests.visiting import is_within

pytestmark = pytest.mark.usefixtures(
    "non_clean_db", "datastore", "with_plugins", "nothing_remembered"
)

SEARCH = "/api/3/action/datastore_search"
MEGABYTES = 2**20


@pytest.fixture(autouse=True)
def another_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that has spent nothing yet."""
    monkeypatch.setitem(tk.config, "ckan.site_id", f"site-{uuid.uuid4().hex}")
    monkeypatch.setattr(counters, "_silent_until", 0.0)


@pytest.fixture
def resource() -> str:
    id = factories.Resource()["id"]
    helpers.call_action(
        "datastore_create",
        resource_id=id,
        force=True,
        fields=[{"id": "name", "type": "text"}, {"id": "n", "type": "int"}],
        primary_key=["name"],
        records=[{"name": "one", "n": 1}, {"name": "two", "n": 2}],
    )
    return id


def search(resource: str, n: int = 1) -> Any:
    return helpers.call_action("datastore_search", resource_id=resource, filters={"n": n})


def asked(app: Any, resource: str, n: int, **options: Any) -> Any:
    params = {"resource_id": resource, "filters": {"n": n}, "include_total": False}
    return app.post(SEARCH, json=params, **options)


# --- one statement


@pytest.mark.ckan_config(config.SEARCH_MAXIMUM_BYTES_BILLED, "1000")
def test_a_search_over_its_limit_says_the_option_the_bytes_and_what_is_cheaper(app, resource):
    with pytest.raises(tk.ValidationError) as refused:
        search(resource)
    (said,) = refused.value.error_dict["datastore"]
    assert config.SEARCH_MAXIMUM_BYTES_BILLED in said
    assert "10,485,760 bytes" in said and "1,000 bytes" in said
    assert "fields=" in said and "/datastore/dump/" in said
    # What costs nothing is given, and other statements have limits of their own.
    assert helpers.call_action("datastore_search", resource_id=resource)["total"] == 2
    record = {"name": "one", "n": 7}
    helpers.call_action("datastore_upsert", resource_id=resource, records=[record], force=True)
    assert app.get(f"/datastore/dump/{resource}", follow_redirects=False).status_code == 302


@pytest.mark.ckan_config(config.WRITE_MAXIMUM_BYTES_BILLED, "1000")
@pytest.mark.parametrize("method", ["upsert", "insert"])
def test_a_change_over_its_limit_is_not_made(resource, method):
    record = {"name": "three", "n": 3}
    with pytest.raises(tk.ValidationError) as refused:
        helpers.call_action(
            "datastore_upsert", resource_id=resource, records=[record], method=method, force=True
        )
    (said,) = refused.value.error_dict["datastore"]
    assert config.WRITE_MAXIMUM_BYTES_BILLED in said
    assert "10,485,760 bytes" in said and "ckan bigquery load" in said
    assert search(resource, 1)["total"] == 1
    assert search(resource, 3)["total"] == 0


@pytest.mark.ckan_config(config.MAXIMUM_BYTES_BILLED, "1000")
def test_the_limit_of_exports_is_everybodys_who_has_none(resource, monkeypatch):
    with pytest.raises(tk.ValidationError, match="search_maximum_bytes_billed"):
        search(resource)
    monkeypatch.setitem(tk.config, config.SEARCH_MAXIMUM_BYTES_BILLED, str(10 * MEGABYTES))
    assert search(resource)["total"] == 1


# --- one day


@pytest.mark.ckan_config(config.DAILY_BYTES_BILLED, str(15 * MEGABYTES))
def test_over_the_days_budget_searches_of_the_anonymous_are_429_and_all_else_goes_on(app, resource):
    assert asked(app, resource, 1).status_code == 200
    assert asked(app, resource, 2).status_code == 200
    refused = asked(app, resource, 3)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 24 * 3600 + 1
    said = refused.json["error"]["datastore"][0]
    assert refused.json["success"] is False and config.DAILY_BYTES_BILLED in said
    # A few rows by the route of downloads are a search, too.
    page = app.get(f"/datastore/dump/{resource}?limit=1&q=one", follow_redirects=False)
    assert page.status_code == 429 and int(page.headers["Retry-After"]) > 0
    # What is free, an export, who is logged in, and a change.
    assert app.get(f"{SEARCH}?resource_id={resource}").json["result"]["total"] == 2
    assert app.get(f"/datastore/dump/{resource}", follow_redirects=False).status_code == 302
    token = {"Authorization": factories.SysadminWithToken()["token"]}
    assert asked(app, resource, 3, headers=token).status_code == 200
    record = {"name": "one", "n": 7}
    helpers.call_action("datastore_upsert", resource_id=resource, records=[record], force=True)


@pytest.mark.ckan_config(config.DAILY_BYTES_BILLED, str(15 * MEGABYTES))
def test_changes_are_counted_and_results_that_were_given_before_are_not(app, resource):
    for _ in range(4):
        assert asked(app, resource, 1).status_code == 200
    for n in range(2):
        helpers.call_action(
            "datastore_upsert", resource_id=resource, records=[{"name": "x", "n": n}], force=True
        )
    assert asked(app, resource, 1).status_code == 429


@pytest.mark.ckan_config(config.DAILY_BYTES_BILLED, "1")
def test_a_redis_that_is_down_or_silent_breaks_no_search(app, resource, monkeypatch):
    monkeypatch.setitem(tk.config, "ckan.redis.url", f"redis://127.0.0.1:{free_port()}/0")
    for n in range(3):
        assert asked(app, resource, n).status_code == 200
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setitem(tk.config, "ckan.redis.url", f"redis://127.0.0.1:{port}/0")
        monkeypatch.setattr(counters, "_silent_until", 0.0)
        begun = time.monotonic()
        assert asked(app, resource, 4).status_code == 200
        assert time.monotonic() - begun < 30


# --- robots


def test_robots_are_told_to_leave_tables_alone(app, resource):
    lines = app.get("/robots.txt").body.splitlines()
    assert "Disallow: /datastore/" in lines
    assert "Crawl-Delay: 10" in lines
    assert lines.index("Disallow: /datastore/") > lines.index("User-agent: *")
    package = helpers.call_action("resource_show", id=resource)["package_id"]
    page = app.get(f"/dataset/{package}/resource/{resource}").body
    links = [line for line in page.split("<a ") if f"/datastore/dump/{resource}" in line]
    assert links and all('rel="nofollow noreferrer"' in link for link in links)


# --- files of chosen rows


def chosen(app: Any, resource: str, n: int, **options: Any) -> Any:
    path = f"/datastore/dump/{resource}?filters=%7B%22n%22%3A{n}%7D"
    return app.get(path, follow_redirects=False, **options)


@pytest.mark.ckan_config(config.HOURLY_EXPORTS, "2")
def test_files_of_chosen_rows_are_so_many_an_hour_and_whole_tables_are_never_refused(app, resource):
    assert [chosen(app, resource, n).status_code for n in (1, 2)] == [302, 302]
    refused = chosen(app, resource, 3)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 3601
    assert "download the whole table" in refused.text and config.HOURLY_EXPORTS in refused.text
    # What is there is given, so is what every visitor came for, and who is known may go on.
    assert [chosen(app, resource, n).status_code for n in (1, 2)] == [302, 302]
    for name in ("csv", "parquet", "ndjson.gz"):
        whole = app.get(f"/datastore/dump/{resource}?format={name}", follow_redirects=False)
        assert whole.status_code == 302
    token = factories.APIToken(user=factories.User()["name"])["token"]
    known = chosen(app, resource, 4, headers={"Authorization": token, "User-Agent": "curl/8.5.0"})
    assert known.status_code == 302
    assert chosen(app, resource, 5).status_code == 429


@pytest.mark.ckan_config(config.HOURLY_EXPORTS, "1")
@pytest.mark.ckan_config(config.WAITING_REQUESTS, "0")
def test_where_nobody_may_wait_files_of_chosen_rows_are_so_many_an_hour_all_the_same(app, resource):
    assert is_within(30, lambda: chosen(app, resource, 1).status_code == 302)
    assert chosen(app, resource, 2).status_code == 503
    assert is_within(30, lambda: config.HOURLY_EXPORTS in chosen(app, resource, 2).text)
    assert chosen(app, resource, 2).status_code == 429


@pytest.mark.ckan_config(config.HOURLY_EXPORTS, "0")
@pytest.mark.ckan_config(config.EXPORT_BUCKET_BYTES, "20")
def test_files_of_chosen_rows_fill_the_bucket_so_far_and_no_further(app, resource):
    assert [chosen(app, resource, n).status_code for n in (1, 2, 3)] == [302, 302, 429]
    assert config.EXPORT_BUCKET_BYTES in chosen(app, resource, 3).text
    assert app.get(f"/datastore/dump/{resource}", follow_redirects=False).status_code == 302


@pytest.mark.ckan_config(config.HOURLY_EXPORTS, "50")
def test_ten_thousand_wishes_of_one_visitor_are_fifty_exports(monkeypatch):
    """The cost of a visitor who asks for something else each time is bounded by the option."""
    begun = 0
    for _ in range(10_000):
        with contextlib.suppress(OverBudget):
            spending.check_export(is_whole=False, is_anonymous=True)
            begun += 1
    assert begun == 50
