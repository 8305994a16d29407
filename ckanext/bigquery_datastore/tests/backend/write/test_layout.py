"""Tables in partitions, on the running stack: what a page reads, what a change touches."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.search import pages
from ckanext.bigquery_datastore.backend.table import layout
from ckanext.bigquery_datastore.backend.table.lookup import Table, get_table, reference
from ckanext.bigquery_datastore.backend.write import lock, replace
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

FIELDS = [
    {"id": "k", "type": "text", "info": {"label": "Key", "notes": "Of the row"}},
    {"id": "n", "type": "int"},
]


@pytest.fixture
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "NARROWEST", 5)
    monkeypatch.setattr("ckanext.bigquery_datastore.backend.search.run.SMALL_ROWS", 0)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQL that goes to BigQuery."""
    sent: list[str] = []

    def listened(run: Callable[..., Any]) -> Callable[..., Any]:
        def spy(client: Any, sql: str, *args: Any, **options: Any) -> Any:
            sent.append(sql)
            return run(client, sql, *args, **options)

        return spy

    for name in ("read", "write"):
        monkeypatch.setattr(query, name, listened(getattr(query, name)))
    return sent


def make(count: int) -> str:
    found = factories.Resource(url_type="datastore")["id"]
    records = [{"k": f"k{n}", "n": n} for n in range(1, count + 1)]
    call_action(
        "datastore_create", resource_id=found, fields=FIELDS, primary_key="k", records=records
    )
    return found


def search(resource: str, **params: Any) -> list[dict[str, Any]]:
    return call_action("datastore_search", resource_id=resource, **params)["records"]


def table_of(resource: str) -> Table:
    found = get_table(clients.bigquery_ro(), resource)
    assert found is not None
    return found


@pytest.mark.usefixtures("small_partitions")
def test_a_page_far_down_names_the_numbers_of_its_rows(statements: list[str]) -> None:
    resource = make(50)
    made = table_of(resource).partitions
    assert made is not None
    assert (made.column, made.start, made.width) == ("_id", 1, 5)
    # As after a load, where no number is left out.
    client = clients.bigquery_rw()
    api = client.get_table(reference(resource))
    api.description = api.description.replace('"last_id":150', '"last_id":50')
    client.update_table(api, ["description"])
    statements.clear()
    found = search(resource, offset=33, limit=4)
    assert [row["_id"] for row in found] == [34, 35, 36, 37]
    (sent,) = statements
    assert "BETWEEN 34 AND 37" in sent
    assert "OFFSET" not in sent
    assert [row["_id"] for row in search(resource, offset=47, limit=9)] == [48, 49, 50]
    assert [r["_id"] for r in search(resource, sort="_id desc", offset=1, limit=2)] == [49, 48]
    assert search(resource, offset=50, limit=9) == []


@pytest.mark.usefixtures("small_partitions")
def test_a_page_of_a_table_with_gaps_reads_the_partitions_that_hold_it(
    statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "CENSUS_BYTES", 0)
    resource = make(50)
    for number in (3, 4, 17, 41):
        call_action("datastore_delete", resource_id=resource, filters={"n": number})
    left = [n for n in range(1, 51) if n not in (3, 4, 17, 41)]
    statements.clear()
    for offset in (0, 1, 15, 30, 44, 46):
        found = search(resource, offset=offset, limit=4)
        assert [row["n"] for row in found] == left[offset : offset + 4]
    censuses = [sql for sql in statements if "GROUP BY" in sql]
    assert len(censuses) == 1
    assert all(re.search("BETWEEN|>=", sql) for sql in statements if sql not in censuses)


@pytest.mark.usefixtures("small_partitions")
def test_a_change_names_the_partitions_of_the_rows_that_it_changes(statements: list[str]) -> None:
    resource = make(50)
    statements.clear()
    call_action(
        "datastore_upsert", resource_id=resource, records=[{"k": "k7", "n": 70}, {"k": "new"}]
    )
    assert "t.`_id` BETWEEN 7 AND 7" in statements[-1]
    assert statements[-1].startswith("MERGE")
    call_action("datastore_upsert", resource_id=resource, records=[{"k": "newer"}])
    assert statements[-1].startswith("INSERT")
    call_action(
        "datastore_upsert", resource_id=resource, method="update", records=[{"k": "k9", "n": 90}]
    )
    assert "t.`_id` BETWEEN 9 AND 9" in statements[-1]
    call_action("datastore_delete", resource_id=resource, filters={"n": [70, 90]})
    assert "BETWEEN 7 AND 9" in statements[-1]
    assert statements[-1].startswith("DELETE")
    statements.clear()
    call_action("datastore_delete", resource_id=resource, filters={"n": 12_345})
    assert not any(sql.startswith("DELETE") for sql in statements)
    assert len(search(resource, limit=100)) == 50


@pytest.mark.usefixtures("small_partitions")
def test_whatever_is_changed_the_table_is_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "CENSUS_BYTES", 0)
    chosen = random.Random(13)
    resource = make(20)
    expected = {f"k{n}": n for n in range(1, 21)}
    for _ in range(12):
        keys = [f"k{chosen.randrange(40)}" for _ in range(chosen.randrange(1, 6))]
        if chosen.random() < 0.4:
            call_action("datastore_delete", resource_id=resource, filters={"k": keys})
            expected = {key: n for key, n in expected.items() if key not in keys}
        else:
            records = [{"k": key, "n": chosen.randrange(1000)} for key in dict.fromkeys(keys)]
            answer = call_action(
                "datastore_upsert", resource_id=resource, records=records, include_records=True
            )
            assert [(row["k"], row["n"]) for row in answer["records"]] == [
                (row["k"], row["n"]) for row in records
            ]
            expected.update((row["k"], row["n"]) for row in records)
    rows = search(resource, limit=100)
    assert {row["k"]: row["n"] for row in rows} == expected
    numbers = [row["_id"] for row in rows]
    assert numbers == sorted(set(numbers))
    paged = [row for at in range(0, 50, 3) for row in search(resource, offset=at, limit=3)]
    assert paged == rows


@pytest.mark.usefixtures("small_partitions")
def test_records_that_mean_rows_by_key_and_by_number_come_back_all() -> None:
    resource = make(50)
    answer = call_action(
        "datastore_upsert",
        resource_id=resource,
        records=[{"_id": 3, "n": 30}, {"k": "k40", "n": 400}, {"k": "new", "n": 1}],
        include_records=True,
    )
    changed = [("k3", 30), ("k40", 400), ("new", 1)]
    rows = {row["k"]: row["n"] for row in search(resource, limit=100)}
    assert len(rows) == 51
    assert [(key, rows[key]) for key, _ in changed] == changed
    # The parameter is new in CKAN 2.12; before, records come back as they were sent.
    if tk.check_ckan_version("2.12"):
        assert sorted((row["k"], row["n"]) for row in answer["records"]) == changed
    else:
        assert len(answer["records"]) == 3


def as_before(resource: str) -> None:
    """Make the table anew as earlier versions did: without partitions."""
    client = clients.bigquery_rw()
    api = client.get_table(reference(resource))
    rows = list(client.list_rows(api))
    made = bigquery.Table(reference(resource), schema=api.schema)
    made.description, made.clustering_fields = api.description, api.clustering_fields
    made.labels = {"kept": "yes"}
    client.delete_table(api)
    client.create_table(made)
    values = ", ".join(f"({row['_id']}, '{row['k']}', {row['n']})" for row in rows)
    query.write(client, f"INSERT INTO `{made.reference}` (_id, k, n) VALUES {values}")
    assert table_of(resource).partitions is None


def test_a_table_from_before_is_laid_out_and_stays_what_it_was() -> None:
    resource, alias = make(30), factories.Resource()["id"].replace("-", "_")
    call_action("datastore_create", resource_id=resource, aliases=[f"a_{alias}"], force=True)
    as_before(resource)
    rows, fields = search(resource), call_action("datastore_info", id=resource)["fields"]
    client = clients.bigquery_rw()
    with lock.writing(resource):
        assert replace.lay_out(client, table_of(resource), 60)
        assert not replace.lay_out(client, table_of(resource), 60)
    assert table_of(resource).partitions == layout.partitions(30)
    assert client.get_table(reference(resource)).labels == {"kept": "yes"}
    assert search(resource) == rows
    assert search(f"a_{alias}") == rows
    assert call_action("datastore_info", id=resource)["fields"] == fields
    call_action("datastore_upsert", resource_id=resource, records=[{"k": "k3", "n": 33}])
    assert [row["n"] for row in search(resource, filters={"k": "k3"})] == [33]
    left = [item.table_id for item in client.list_tables(reference(resource).dataset_id)]
    assert not [name for name in left if name.startswith(replace.OLD_PREFIX)]


def test_a_table_that_cannot_take_the_place_leaves_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resource = make(3)
    as_before(resource)
    rows = search(resource)
    run = query.write

    def failing(client: Any, sql: str, *args: Any, **kw: Any) -> int:
        # The second of the renames names a table that is not there.
        changed = sql.replace(f"ALTER TABLE `{aside(sql)}`", "ALTER TABLE `local.nowhere.x`")
        return run(client, changed if "BEGIN" in sql else sql, *args, **kw)

    def aside(sql: str) -> str:
        return next((part for part in sql.split("`") if replace.ASIDE_PREFIX in part), "")

    monkeypatch.setattr(query, "write", failing)
    with lock.writing(resource), pytest.raises(BigQueryDatastoreError):
        replace.lay_out(clients.bigquery_rw(), table_of(resource), 60)
    assert search(resource) == rows
    assert table_of(resource).partitions is None
