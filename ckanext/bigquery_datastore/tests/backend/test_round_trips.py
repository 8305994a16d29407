"""How often Google is asked by one action, counted at the emulator."""

from __future__ import annotations

from typing import Any

import pytest
from ckan.plugins import toolkit as tk
from ckan.tests import factories, helpers

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend.table.lookup import TABLES, reference

pytestmark = pytest.mark.usefixtures("non_clean_db", "own_site", "with_plugins")

ROWS = 1_200  # more than are read whole


@pytest.fixture
def resource(own_site) -> str:
    id = factories.Resource()["id"]
    helpers.call_action(
        "datastore_create",
        resource_id=id,
        force=True,
        fields=[{"id": "name", "type": "text"}, {"id": "n", "type": "int"}],
        primary_key=["name"],
        records=[{"name": f"row {n}", "n": n % 10} for n in range(ROWS)],
    )
    TABLES.clear()
    own_site.forget_requests()
    return id


def search(resource: str, **params: Any) -> dict[str, Any]:
    return helpers.call_action("datastore_search", resource_id=resource, **params)


def asked(own_site) -> list[str]:
    """The requests since this was last asked, in their order: method and last words of the path.

    Of a query the library made three before 3.31, a job and looks at it: they count as one.
    """
    found = own_site.seen(service="bigquery")["requests"]
    own_site.forget_requests()
    told = []
    for one in found:
        is_look = one["method"] == "GET" and any(
            f"/{of}/" in one["path"] for of in ("queries", "jobs")
        )
        if is_look and told[-1:] in (["POST jobs"], ["POST queries"]):
            if "/queries/" in one["path"]:
                told[-1] = "POST queries"
        else:
            told.append(f"{one['method']} {one['path'].rpartition('/')[2]}")
    return told


@pytest.mark.parametrize(
    ("params", "total"),
    [
        ({"filters": {"n": 3}, "limit": 5}, ROWS // 10),
        ({"filters": {"n": 3}, "limit": 5, "offset": 115}, ROWS // 10),
        ({"filters": {"n": 99}}, 0),
        ({"q": "row", "limit": 3, "sort": "n desc"}, ROWS),
        ({"fields": ["n"], "distinct": True, "sort": "n"}, 10),
        ({"limit": 100, "offset": 500}, ROWS),
        ({"filters": {"n": 3}, "limit": 0}, ROWS // 10),
    ],
)
def test_a_search_asks_twice_when_cold_and_once_when_warm(own_site, resource, params, total):
    found = search(resource, **params)
    assert found["total"] == total
    assert asked(own_site) == [f"GET {resource}", "POST queries"]
    again = search(resource, **params)
    assert asked(own_site) == ["POST queries"]
    assert again["records"] == found["records"]


def test_a_page_beyond_the_last_row_is_counted_by_itself(own_site, resource):
    found = search(resource, filters={"n": 3}, offset=5_000)
    assert (found["records"], found["total"]) == ([], ROWS // 10)


def test_the_first_page_is_one_query_and_its_total_is_of_now(own_site, resource):
    assert search(resource)["total"] == ROWS
    assert asked(own_site) == [f"GET {resource}", "POST queries"]
    # Another process writes: this one still knows the table as it was.
    own = clients.bigquery_rw()
    own.query_and_wait(
        f"INSERT INTO `{config.dataset()}.{resource}` (_id, name) VALUES (100000, 'new')"
    )
    own_site.forget_requests()
    assert search(resource)["total"] == ROWS + 1
    assert asked(own_site) == ["POST queries"]


def test_a_draw_of_the_grid_asks_for_the_table_once(own_site, resource):
    for params in ({"limit": 0}, {"limit": 10, "offset": 600, "q": "", "sort": ""}):
        assert search(resource, **params)["total"] == ROWS
    assert asked(own_site) == [f"GET {resource}", "POST queries"]


@pytest.mark.parametrize("method", ["upsert", "update", "insert"])
def test_a_batch_is_written_in_three_requests_and_not_in_more_when_cold(own_site, resource, method):
    def write(name: str) -> None:
        record = {"name": name, "n": 7}
        helpers.call_action(
            "datastore_upsert", resource_id=resource, records=[record], method=method, force=True
        )

    write("new" if method == "insert" else "row 5")
    first = asked(own_site)
    write("newer" if method == "insert" else "row 6")
    again = asked(own_site)
    assert len(again) == (2 if method == "upsert" else 3), again
    assert len(first) == len(again), first


def test_what_is_remembered_is_not_believed_where_it_does_not_do(own_site, resource):
    search(resource, filters={"n": 1})
    own = clients.bigquery_rw()
    own.query_and_wait(f"ALTER TABLE `{config.dataset()}.{resource}` ADD COLUMN more STRING")
    assert search(resource, filters={"more": "x"})["total"] == 0
    own.query_and_wait(f"ALTER TABLE `{config.dataset()}.{resource}` DROP COLUMN more")
    with pytest.raises(tk.ValidationError, match="more"):
        search(resource, filters={"more": "x"})
    own.delete_table(reference(resource))
    with pytest.raises(tk.ObjectNotFound):
        search(resource, filters={"n": 1})
    with pytest.raises(tk.ObjectNotFound):
        helpers.call_action("datastore_upsert", resource_id=resource, records=[], force=True)


def test_a_table_that_was_empty_a_moment_ago_shows_its_rows(own_site):
    id = factories.Resource()["id"]
    fields = [{"id": "name", "type": "text"}]
    helpers.call_action("datastore_create", resource_id=id, force=True, fields=fields)
    assert search(id)["total"] == 0
    clients.bigquery_rw().query_and_wait(
        f"INSERT INTO `{config.dataset()}.{id}` (_id, name) VALUES (1, 'new')"
    )
    found = search(id)
    assert [record["name"] for record in found["records"]] == ["new"]
