"""Whatever a request asks for, the fault is named as the visitor's: no parameter makes a 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

FIELDS = ("text", "int8", "numeric", "float8", "bool", "date", "timestamptz", "json", "_text")

VALUES = {
    "empty": "",
    "NUL": "a\0b",
    "half a character": "\ud83d",
    "many digits": "9" * 5_000,
    "a large exponent": "1e99999999999999999999",
    "a small exponent": "1e-99999999999999999999",
    "beyond INT64": str(2**63),
    "negative": "-1",
    "a time zone": "0001-01-01T00:00:00+14:00",
    "no time zone": "2020-01-01T00:00:00+99:99",
    "negations": "!" * 3_000,
    "parentheses": "(" * 3_000,
    "brackets": "[" * 1_900,
    "a group": '{"$or": []}',
    "spaces": "n" + " " * 9_000 + "x",
    "SQL": "'; DROP TABLE x; --",
    "a pattern": "%_\\",
}

PARAMETERS = (
    *("q", "full_text", "language", "plain", "distinct", "fields", "sort"),
    *("limit", "offset", "filters", "format", "bom", "records_format", "include_total"),
)


@pytest.fixture
def resource() -> str:
    id = factories.Resource()["id"]
    fields = [{"id": f"a {name}", "type": name} for name in FIELDS]
    call_action("datastore_create", resource_id=id, force=True, fields=fields, records=[{}])
    return id


def query(name: str, value: str) -> dict[str, str]:
    # A text beyond Unicode's characters comes as bytes that are no UTF-8.
    return {name: value.encode("utf-8", "replace").decode(), "plain": "false"}


@pytest.mark.parametrize("value", VALUES)
def test_no_parameter_of_a_download_is_an_error_of_the_sites(
    app: Any, resource: str, value: str
) -> None:
    for name in PARAMETERS:
        answer = visit(app, resource, {"limit": "1", **query(name, VALUES[value])})
        # On a busy machine a search may take too long: come again.
        assert answer.status_code < 500 or "Retry-After" in answer.headers, (name, answer.text)


@pytest.mark.parametrize("value", VALUES)
def test_no_parameter_of_a_search_is_an_error_of_the_sites(
    app: Any, resource: str, value: str
) -> None:
    address = "/api/3/action/datastore_search"
    for name in PARAMETERS:
        asked = {"resource_id": resource, **query(name, VALUES[value])}
        answer = app.test_client().post(address, json={**asked, name: VALUES[value]})
        assert answer.status_code < 500, (name, answer.text)
        if name in ("q", "filters", "sort"):  # the others come to the same either way
            answer = app.test_client().get(address, query_string=asked)
            assert answer.status_code < 500, (name, answer.text)


@pytest.mark.parametrize("value", VALUES)
def test_no_value_of_a_filter_is_an_error_of_the_sites(app: Any, resource: str, value: str) -> None:
    for name in FIELDS:
        equal, least = {f"a {name}": VALUES[value]}, {f"a {name}": {"gte": VALUES[value]}}
        answer = visit(app, resource, {"limit": "1", "filters": json.dumps(equal)})
        assert answer.status_code < 500, (equal, answer.text)
        answer = app.test_client().post(
            "/api/3/action/datastore_search", json={"resource_id": resource, "filters": least}
        )
        assert answer.status_code < 500, (least, answer.text)


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "name",
    ["datastore_search", "datastore_upsert", "datastore_search_sql", "bigquery_load_submit"],
)
def test_json_of_any_depth_is_a_bad_request(app: Any, resource: str, name: str) -> None:
    body = f'{{"resource_id": "{resource}", "filters": {DEEP}}}'
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        answer = app.test_client().post(f"/api/3/action/{name}", data=body, content_type=kind)
        assert (answer.status_code, "more levels of lists" in answer.text) == (400, True), kind


@pytest.mark.parametrize("value", ["1e1000", "-Infinity", "NaN", "[1]", "{}", '"  "', "0.5"])
def test_what_is_no_number_is_told_as_such(app: Any, resource: str, value: str) -> None:
    for name in ("limit", "offset"):
        body = f'{{"resource_id": "{resource}", "{name}": {value}}}'
        address = "/api/3/action/datastore_search"
        answer = app.test_client().post(address, data=body, content_type="application/json")
        assert answer.status_code in (200, 409), (name, answer.text)


@pytest.mark.parametrize("records", [5, 0.5, True, float("inf"), "text", {"a": 1}, [[]], [5]])
@pytest.mark.parametrize("action", ["datastore_create", "datastore_upsert"])
def test_what_is_no_list_of_records_is_told_as_such(
    resource: str, action: str, records: Any
) -> None:
    with pytest.raises(tk.ValidationError):
        call_action(action, resource_id=resource, records=records, force=True)


@pytest.mark.parametrize("value", [[1], {"a": 1}, 0.5, float("inf")], ids=str)
def test_what_is_no_boolean_and_no_name_is_told_as_such(
    app: Any, resource: str, value: Any
) -> None:
    asked = {"resource_id": resource, "records": [], "force": True}
    for action, name in (
        *(("datastore_search", name) for name in ("distinct", "plain", "include_total")),
        ("datastore_upsert", "dry_run"),
        ("datastore_info", "resource_id"),
        ("datastore_search", "resource_id"),
    ):
        answer = app.test_client().post(f"/api/3/action/{action}", json={**asked, name: value})
        assert 400 <= answer.status_code < 500, (action, name, answer.text)


def test_no_refusal_repeats_a_long_name(app: Any) -> None:
    answer = app.test_client().post(
        "/api/3/action/datastore_search", json={"resource_id": "x" * 500_000}
    )
    assert (answer.status_code, len(answer.text) < 1_000) == (404, True)


@pytest.mark.parametrize("value", ["NaN", "1e1000000000", "[" * 600 + "]" * 600])
@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("datastore_upsert", "unknown"),
        ("datastore_search", "unknown"),
        *(("datastore_create", name) for name in ("primary_key", "aliases", "indexes", "triggers")),
        ("datastore_create", "fields"),
    ],
)
def test_what_ckan_cannot_repeat_is_refused(
    app: Any, resource: str, action: str, name: str, value: str
) -> None:
    """CKAN's answers repeat what it does not know, and its JSON has neither NaN nor many levels."""
    body = f'{{"resource_id": "{resource}", "force": true, "{name}": {value}}}'
    told = app.test_client().post(
        f"/api/3/action/{action}",
        data=body,
        content_type="application/json",
        headers={"Authorization": factories.SysadminWithToken()["token"]},
    )
    assert (told.status_code, told.json["success"]) == (409, False)
    assert len(told.text) < 1_000


@pytest.mark.parametrize("name", ["fields", "triggers", "primary_key", "aliases", "indexes"])
def test_no_refusal_of_a_table_repeats_what_is_long(app: Any, resource: str, name: str) -> None:
    asked = {"resource_id": resource, "force": True, name: "(" * 500_000}
    told = app.test_client().post(
        "/api/3/action/datastore_create",
        json=asked,
        headers={"Authorization": factories.SysadminWithToken()["token"]},
    )
    assert (told.status_code, len(told.text) < 1_000) == (409, True)
