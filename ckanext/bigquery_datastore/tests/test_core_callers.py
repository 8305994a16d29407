"""What else comes to core's route and command: the table view, large filters, ``ckan datastore``;
and files that are kept in parts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import requests
from ckan import authz, logic
from ckan.cli.cli import ckan
from ckan.config.middleware import make_app
from ckan.plugins import toolkit as tk
from ckan.tests import factories, helpers
from ckanext.datastore.logic import action as core_action

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.dump import engine as engine_module
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures(
    "non_clean_db", "datastore", "with_plugins", "nothing_remembered"
)


@pytest.fixture
def place() -> Place:
    return Place(config.dataset(), config.export_bucket())


def numbers(place: Place, count: int) -> str:
    found = factories.Resource()["id"]
    place.bigquery.query(
        f"CREATE TABLE `{place.dataset}.{found}` AS SELECT n AS _id, "
        f"CONCAT('name ', CAST(n AS STRING)) AS name FROM UNNEST(GENERATE_ARRAY(1, {count})) AS n"
    ).result()
    return found


def fetched(app, resource_id: str, **query: str) -> bytes:
    answer = app.get(f"/datastore/dump/{resource_id}", query_string=query, follow_redirects=False)
    assert answer.status_code in (200, 302), answer.body
    if answer.status_code == 200:
        return answer.data
    return requests.get(answer.location, timeout=60).content


# --- more rows than a page of core's


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"_id": {"lt": 40_000}}, range(1, 40_000)),
        ({"_id": {"gte": 30_000, "lt": 70_000}}, range(30_000, 70_000)),
        ({"_id": {"gt": 65_000}}, range(65_001, 70_001)),
    ],
)
def test_a_filter_on_the_id_holds_for_every_page(app, place, filters, ids):
    resource_id = numbers(place, 70_000)
    expected = b"_id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in ids)
    assert fetched(app, resource_id, filters=json.dumps(filters)) == expected


def test_a_limit_above_a_page_is_an_export_with_as_many_rows(app, place):
    resource_id = numbers(place, 70_000)
    data = fetched(app, resource_id, limit="40000", offset="10")
    assert data == b"_id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(11, 40_011))


# --- the table view


def a_view(resource_id: str) -> str:
    return helpers.call_action(
        "resource_view_create",
        resource_id=resource_id,
        view_type="datatables_view",
        title="Table",
    )["id"]


@pytest.mark.parametrize(
    ("search", "column", "ids"),
    [("", "", [3, 2, 1]), ("nam", "", [3, 2, 1]), ("two", "", [2]), ("", "thr", [3])],
)
@pytest.mark.parametrize("format_name", ["csv", "json"])
def test_the_table_view_downloads_what_it_shows(app, search, column, ids, format_name):
    resource_id = factories.Resource()["id"]
    names = {1: "name one", 2: "name two", 3: "name three"}
    helpers.call_action(
        "datastore_create",
        resource_id=resource_id,
        force=True,
        fields=[{"id": "name", "type": "text"}],
        records=[{"name": name} for name in names.values()],
    )
    asked = {
        "search": {"value": search},
        "order": [{"column": "0", "dir": "desc"}],
        "visible": [True, True],
        "columns": [
            {"name": "_id", "search": {"value": ""}},
            {"name": "name", "search": {"value": column}},
        ],
    }
    answer = app.post(
        f"/datatables/filtered-download/{a_view(resource_id)}",
        data={"params": json.dumps(asked), "format": format_name},
        follow_redirects=False,
    )
    assert answer.status_code == 302
    path = re.sub(r"^https?://[^/]+", "", answer.location)
    file = app.get(path, follow_redirects=False)
    data = file.data if file.status_code == 200 else requests.get(file.location, timeout=60).content
    if format_name == "csv":
        lines = data.removeprefix(b"\xef\xbb\xbf").decode().splitlines()[1:]
        assert [line.split(",")[0] for line in lines] == [str(n) for n in ids]
    else:
        assert json.loads(data)["records"] == [[n, names[n]] for n in ids]


# --- core's command


def test_cores_command_dumps_every_page(cli, place, tmp_path):
    resource_id = numbers(place, 70_000)
    file = tmp_path / "out.csv"
    result = cli.invoke(ckan, ["datastore", "dump", resource_id, str(file)])
    assert result.exit_code == 0, result.output
    expected = b"_id,name\r\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(1, 70_001))
    assert file.read_bytes() == expected


# --- files that no one object can hold


@pytest.fixture
def in_parts(monkeypatch) -> None:
    """As if an object could hold only some bytes."""
    monkeypatch.setattr(engine_module, "OBJECT_LIMIT", 1000)
    monkeypatch.setattr(config, "job_labels", lambda: {"emulator_shards": "7"})


@pytest.mark.parametrize("delivery", config.DELIVERIES)
def test_a_file_in_parts_is_streamed_as_one_with_its_length_and_ranges(
    app, place, in_parts, monkeypatch, delivery
):
    monkeypatch.setattr(config, "delivery", lambda: delivery)
    resource_id = numbers(place, 3000)
    csv = b"_id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(1, 3001))
    for query, data in {"": csv, "?bom=true": b"\xef\xbb\xbf" + csv}.items():
        url = f"/datastore/dump/{resource_id}{query}"
        whole = app.get(url, follow_redirects=False)
        assert (whole.status_code, whole.data) == (200, data)
        assert whole.headers["Content-Length"] == str(len(data))
        for first, last in ((0, 20), (5, 30_000), (len(data) - 9, len(data) - 1)):
            part = app.get(url, headers={"Range": f"bytes={first}-{last}"}, follow_redirects=False)
            assert (part.status_code, part.data) == (206, data[first : last + 1])
            assert part.headers["Content-Range"] == f"bytes {first}-{last}/{len(data)}"
    assert len([job for job in place.export_jobs() if resource_id in job.query]) == 1


def test_json_of_a_file_in_parts_is_written_from_all_of_them(app, place, in_parts):
    resource_id = numbers(place, 3000)
    found: dict[str, Any] = json.loads(fetched(app, resource_id, format="json"))
    assert found["records"] == [[n, f"name {n}"] for n in range(1, 3001)]


def test_a_crowd_at_the_first_moment_of_a_process_finds_every_action_and_rule(with_plugins):
    """CKAN gathers them in the thread of the first request, and others find half of them."""
    authz.clear_auth_functions_cache()
    logic.clear_actions_cache()
    logic.clear_validators_cache()
    make_app(tk.config)
    assert "datastore_search" in authz._AuthFunctions._functions
    assert logic._actions["datastore_search"].__module__ != core_action.__name__
    assert "ignore_missing" in logic._validators_cache
