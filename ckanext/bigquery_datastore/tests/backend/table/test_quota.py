"""A table's metadata changes five times in ten seconds: actions need few changes, and wait."""

from __future__ import annotations

import time

import pytest
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

pytestmark = pytest.mark.usefixtures("non_clean_db")


@pytest.fixture
def resource() -> str:
    return factories.Resource(url_type="datastore")["id"]


def changes(own: OwnEmulator) -> int:
    """How many changes of metadata have been asked for by requests."""
    return own.seen(method="^(POST|PATCH|PUT)$", path=r"/tables(/[^/]*)?$")["count"]


def test_a_new_table_with_its_rows_is_one_change(own_site: OwnEmulator, resource: str) -> None:
    call_action("datastore_create", resource_id=resource, records=[{"a": 1}, {"a": 2}])
    assert changes(own_site) == 1
    # There are numbers left for the rows to come.
    call_action("datastore_upsert", resource_id=resource, records=[{"a": 3}], method="insert")
    assert changes(own_site) == 1
    found = call_action("datastore_search", resource_id=resource)["records"]
    assert [row["_id"] for row in found] == [1, 2, 3]


def test_one_change_too_many_waits_for_its_turn(own_site: OwnEmulator, resource: str) -> None:
    call_action("datastore_create", resource_id=resource, records=[{"a": 1}])
    table = clients.bigquery_rw().get_table(f"{config.project()}.{config.dataset()}.{resource}")
    table._properties.pop("etag")
    # A table in partitions takes fifty changes: two are those of its making.
    for number in range(48):
        table.friendly_name = str(number)
        clients.bigquery_rw().update_table(table, ["friendly_name"])
    began = time.monotonic()
    fields = [{"id": "a", "type": "int", "info": {"notes": "of the column"}}]
    call_action("datastore_create", resource_id=resource, fields=fields)
    assert 2 < time.monotonic() - began < clients.METADATA_SECONDS
    shown = call_action("datastore_info", id=resource)["fields"]
    assert shown[0]["info"]["notes"] == "of the column"
