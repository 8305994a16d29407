"""Writes on the running stack: all or nothing, one number for each row, any size."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action
from ckanext.datastore.backend import DatastoreBackend

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.table.lookup import get_table
from ckanext.bigquery_datastore.backend.write import numbers, records

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

FIELDS = [{"id": "k", "type": "text"}, {"id": "n", "type": "int"}, {"id": "d", "type": "json"}]


@pytest.fixture
def resource() -> str:
    found = factories.Resource(url_type="datastore")["id"]
    call_action("datastore_create", resource_id=found, fields=FIELDS, primary_key="k")
    return found


def rows(resource_id: str, **params: Any) -> list[dict[str, Any]]:
    return call_action("datastore_search", resource_id=resource_id, **params)["records"]


def upsert(resource_id: str, *given: dict[str, Any], **params: Any) -> dict[str, Any]:
    return call_action("datastore_upsert", resource_id=resource_id, records=list(given), **params)


def test_a_bad_record_writes_nothing_and_is_named(resource: str) -> None:
    with pytest.raises(tk.ValidationError) as refused:
        upsert(resource, {"k": "a", "n": 1}, {"k": "b", "n": "x"}, method="insert")
    assert refused.value.error_dict["records"] == ['invalid input syntax for type integer: "x"']
    assert refused.value.error_dict["records_row"] == 1
    assert rows(resource) == []


def test_a_bad_record_leaves_no_table_behind() -> None:
    found = factories.Resource(url_type="datastore")["id"]
    with pytest.raises(tk.ValidationError):
        call_action(
            "datastore_create", resource_id=found, fields=FIELDS, records=[{"k": "a", "n": "x"}]
        )
    assert get_table(clients.bigquery_ro(), found) is None


def test_a_key_that_is_taken_is_refused(resource: str) -> None:
    upsert(resource, {"k": "a", "n": 1}, method="insert")
    for batch in ([{"k": "b"}, {"k": "a"}], [{"k": "c"}, {"k": "c"}]):
        with pytest.raises(tk.ValidationError, match="duplicate key"):
            upsert(resource, *batch, method="insert")
    assert [row["k"] for row in rows(resource)] == ["a"]


def test_an_upsert_changes_what_is_there_and_adds_what_is_not(resource: str) -> None:
    upsert(resource, {"k": "a", "n": 1, "d": [1]}, {"k": "b", "n": 2})
    upsert(resource, {"k": "b", "d": {"x": "y"}}, {"k": "c", "n": 3}, {"k": "c", "n": 4})
    found = rows(resource)
    assert [(row["k"], row["n"], row["d"]) for row in found] == [
        ("a", 1, [1]),
        ("b", 2, {"x": "y"}),
        ("c", 4, None),
    ]
    numbers = [row["_id"] for row in found]
    assert numbers == sorted(set(numbers))


def test_numbers_are_reserved_before_the_statement_that_uses_them(
    resource: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    sent: list[str] = []

    def killed(client: Any, sql: str, parameters: Any, **_: Any) -> int:
        sent.append(sql)
        raise Killed

    write = query.write
    monkeypatch.setattr(query, "write", killed)
    with pytest.raises(Killed):
        upsert(resource, {"k": "a"}, {"k": "b"}, method="insert")
    with pytest.raises(Killed):
        upsert(resource, {"k": "c"})
    monkeypatch.setattr(query, "write", write)
    numbers._BLOCKS.clear()  # another process
    upsert(resource, {"k": "d"}, method="insert")
    [row] = rows(resource)
    assert row["_id"] > 3
    assert not any("MAX(" in sql for sql in sent)


def test_a_number_that_was_given_is_not_given_again(resource: str) -> None:
    upsert(resource, {"_id": 500, "k": "a"})
    upsert(resource, {"k": "b"}, method="insert")
    numbers._BLOCKS.clear()
    upsert(resource, {"k": "c"}, {"_id": 2_000, "k": "d"})
    upsert(resource, {"k": "e"})
    found = [row["_id"] for row in rows(resource, sort="k")]
    assert found[0] == 500 and found[1] == 501 and found[3] == 2_000 and found[4] > max(found[:4])
    assert len(set(found)) == 5


def test_numbers_rise_whichever_process_writes(resource: str) -> None:
    for number in range(4):
        upsert(resource, {"k": str(number)}, method="insert")
        if number % 2:
            numbers._BLOCKS.clear()
    assert [row["k"] for row in rows(resource, sort="_id")] == ["0", "1", "2", "3"]


ASTRAL = "🙂 𝒳 👩‍🚀 \\ud83d\\ude42"


@pytest.mark.parametrize("limit", [records.PARAMETER_BYTES, 10])
def test_an_emoji_is_stored_as_it_was_given(
    resource: str, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(records, "PARAMETER_BYTES", limit)
    for method in ("insert", "upsert", "update"):
        upsert(resource, {"k": ASTRAL, "d": {ASTRAL: [ASTRAL]}}, method=method)
    assert [(row["k"], row["d"]) for row in rows(resource)] == [(ASTRAL, {ASTRAL: [ASTRAL]})]


def test_half_a_character_is_refused_by_its_place(resource: str) -> None:
    with pytest.raises(tk.ValidationError) as refused:
        upsert(resource, {"k": "a"}, {"k": "\ud83d"}, method="insert")
    assert refused.value.error_dict["records_row"] == 1
    assert rows(resource) == []


def test_an_update_of_an_unknown_key_changes_nothing(resource: str) -> None:
    upsert(resource, {"k": "a", "n": 1})
    with pytest.raises(tk.ValidationError, match="not found"):
        upsert(resource, {"k": "a", "n": 9}, {"k": "z", "n": 9}, method="update")
    assert [row["n"] for row in rows(resource)] == [1]


def test_keys_of_two_kinds_in_one_call_are_written_together(resource: str) -> None:
    upsert(resource, {"k": "a", "n": 1}, {"k": "b", "n": 2})
    first = rows(resource)[0]["_id"]
    upsert(resource, {"_id": first, "n": 10}, {"k": "c", "n": 3})
    assert [(row["k"], row["n"]) for row in rows(resource)] == [("a", 10), ("b", 2), ("c", 3)]


def test_a_trial_writes_nothing(resource: str) -> None:
    for method in ("insert", "upsert"):
        upsert(resource, {"k": "a", "n": 1}, method=method, dry_run=True)
    assert rows(resource) == []


def test_the_number_of_a_deleted_row_is_not_given_again(resource: str) -> None:
    upsert(resource, {"k": "a"}, {"k": "b"}, {"k": "c"})
    call_action("datastore_records_delete", resource_id=resource, filters={"k": ["b", "c"]})
    upsert(resource, {"k": "d"}, method="insert")
    call_action("datastore_records_delete", resource_id=resource, filters={})
    upsert(resource, {"k": "e"}, method="insert")
    assert [(row["_id"], row["k"]) for row in rows(resource)] == [(5, "e")]


@pytest.mark.parametrize("filters", [{"$or": []}, {"$and": [{}]}, {"n": {}}])
def test_filters_without_a_condition_delete_nothing(resource: str, filters: dict[str, Any]) -> None:
    upsert(resource, {"k": "a", "n": 1})
    with pytest.raises(tk.ValidationError):
        call_action("datastore_delete", resource_id=resource, filters=filters)
    assert [row["k"] for row in rows(resource)] == ["a"]


def test_columns_are_added_and_deleted(resource: str) -> None:
    upsert(resource, {"k": "a", "n": 1})
    more = [*FIELDS, {"id": "new (1)", "type": "numeric", "info": {"label": "New"}}]
    call_action("datastore_create", resource_id=resource, fields=more)
    upsert(resource, {"k": "b", "new (1)": "1.5"})
    assert [row["new (1)"] for row in rows(resource)] == [None, 1.5]
    kept = [more[0], more[3]]
    call_action("datastore_create", resource_id=resource, fields=kept, delete_fields=True)
    found = call_action("datastore_info", id=resource)["fields"]
    assert [field["id"] for field in found] == ["k", "new (1)"]
    assert found[1]["info"] == {"label": "New"}


def test_a_column_of_the_key_may_go_and_the_key_with_it(resource: str) -> None:
    upsert(resource, {"k": "a", "n": 1}, {"k": "b", "n": 2})
    kept = [field for field in FIELDS if field["id"] != "k"]
    call_action("datastore_create", resource_id=resource, fields=kept, delete_fields=True)
    assert [row["n"] for row in rows(resource)] == [1, 2]
    with pytest.raises(tk.ValidationError, match="unique key must be passed"):
        upsert(resource, {"n": 3})
    call_action("datastore_create", resource_id=resource, fields=kept, primary_key=["n"])
    upsert(resource, {"n": 2}, {"n": 3})
    assert [row["n"] for row in rows(resource)] == [1, 2, 3]


def test_an_alias_is_another_name_until_it_is_replaced(resource: str) -> None:
    upsert(resource, {"k": "a", "n": 1})
    alias = f"alias of {resource[:8]} ü"
    call_action("datastore_create", resource_id=resource, aliases=[alias])
    assert rows(alias) == rows(resource)
    assert call_action("datastore_info", id=alias)["meta"]["id"] == resource
    backend = DatastoreBackend.get_active_backend()
    assert resource in backend.get_all_ids()
    assert alias not in backend.get_all_ids()
    call_action("datastore_create", resource_id=resource, aliases="")
    with pytest.raises(tk.ObjectNotFound):
        rows(alias)


def test_three_hundred_columns_with_long_notes_come_back_through_the_api() -> None:
    found = factories.Resource(url_type="datastore")["id"]
    fields = [
        {
            "id": f"column {n}",
            "type": "timestamp" if n % 2 else "text",
            "info": {"label": f"Label {n}", "notes": f"{n} " + "ü" * 496},
        }
        for n in range(300)
    ]
    call_action("datastore_create", resource_id=found, fields=fields)
    info = call_action("datastore_info", id=found, include_meta=False, include_fields_schema=False)
    # CKAN 2.11 tells each field's schema whether it is asked for or not.
    assert [{k: v for k, v in f.items() if k != "schema"} for f in info["fields"]] == fields
    api = clients.bigquery_ro().get_table(get_table(clients.bigquery_ro(), found).full_id)
    assert api.schema[1].description.startswith("Label 0\n\n0 ü")


def test_records_beyond_one_requests_size_are_loaded(
    resource: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PARAMETER_BYTES", 1_000)
    given = [{"k": f"key {n}", "n": n, "d": {"text": "ü" * 20}} for n in range(200)]
    upsert(resource, *given, method="insert")
    upsert(resource, *({"k": f"key {n}", "n": -n} for n in range(100, 300)))
    found = rows(resource, limit=1000)
    assert [row["n"] for row in found] == [*range(100), *(-n for n in range(100, 300))]
    assert found[150]["d"] == {"text": "ü" * 20}
    tables = clients.bigquery_rw().list_tables(get_table(clients.bigquery_ro(), resource).dataset)
    assert not [t.table_id for t in tables if t.table_id.startswith(records.STAGING_PREFIX)]


def test_two_hundred_thousand_records_in_batches_are_all_there() -> None:
    found = factories.Resource(url_type="datastore")["id"]
    call_action("datastore_create", resource_id=found, fields=FIELDS[:2])
    batch = 25_000
    for start in range(0, 200_000, batch):
        given = [{"k": f"key {n}", "n": n} for n in range(start, start + batch)]
        upsert(found, *given, method="insert", calculate_record_count=False)
    answer = call_action("datastore_search", resource_id=found, sort="_id desc", limit=1)
    assert answer["total"] == 200_000
    assert answer["records"] == [{"_id": 200_000, "k": "key 199999", "n": 199_999}]


WRITER = """
import sys
from ckan.cli.cli import _init_ckan_config  # noqa: F401
from ckan.cli import load_config
from ckan.config.middleware import make_app
make_app(load_config(sys.argv[1]))
from ckanext.datastore.backend import DatastoreBackend
backend = DatastoreBackend.get_active_backend()
for number in range(int(sys.argv[4])):
    rows = [{"k": f"{sys.argv[3]} {number} {n}", "n": n} for n in range(5)]
    backend.upsert({}, {"resource_id": sys.argv[2], "records": rows, "method": sys.argv[5]})
"""


def test_writers_in_several_processes_never_share_a_number(
    resource: str, pytestconfig: pytest.Config
) -> None:
    ini = str(pytestconfig.getoption("ckan_ini"))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, ini, resource, f"writer {n}", "6", method],
            env=os.environ,
            stderr=subprocess.PIPE,
        )
        for n, method in enumerate(("insert", "upsert", "insert"))
    ]
    for writer in writers:
        _, said = writer.communicate(timeout=240)
        assert writer.returncode == 0, said.decode()[-3000:]
    found = rows(resource, limit=1000)
    assert len({row["k"] for row in found}) == 3 * 6 * 5
    assert len({row["_id"] for row in found}) == 3 * 6 * 5
    for n in range(3):
        own = [row["k"] for row in found if row["k"].startswith(f"writer {n} ")]
        assert own == sorted(own)


def test_triggers_are_refused_with_a_sentence(resource: str) -> None:
    with pytest.raises(tk.ValidationError, match="BigQuery has no triggers"):
        call_action("datastore_create", resource_id=resource, triggers=[{"function": "f"}])
    with pytest.raises(tk.ValidationError, match="BigQuery has no triggers"):
        call_action("datastore_function_create", name="f", rettype="trigger", definition="x")
