"""What is gone, or public no more, leaves no export behind."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import uuid
from typing import Any

import pytest
import requests
from ckan import model
from ckan.cli.cli import ckan
from ckan.tests import factories, helpers

from ckanext.bigquery_datastore import config, purging
from ckanext.bigquery_datastore.dump.objects import Headers, StoredObject
from ckanext.bigquery_datastore.errors import NotReachable
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = pytest.mark.usefixtures(
    "non_clean_db", "datastore", "with_plugins", "nothing_remembered"
)

ROWS = [{"name": "one", "size": 1}]


@pytest.fixture
def resource() -> dict[str, Any]:
    """A public resource with a table and a downloaded csv; ``active`` as core marks it."""
    owner = factories.Organization()
    dataset = factories.Dataset(owner_org=owner["id"])
    found = factories.Resource(package_id=dataset["id"])
    helpers.call_action(
        "datastore_create",
        resource_id=found["id"],
        force=True,
        fields=[{"id": "name", "type": "text"}],
        records=[{"name": "one"}],
    )
    return {**found, "owner": owner["id"]}


def exports(resource) -> list[str]:
    store = Place(config.dataset(), config.export_bucket()).store
    return [found.name for found in store.list(f"dumps/{resource['id']}/")]


def published(app, resource) -> str:
    url = visit(app, resource["id"]).location
    assert requests.get(url, timeout=20).content == b"_id,name\n1,one\n"
    return url


WAYS = {
    "the table is deleted": lambda r: helpers.call_action(
        "datastore_delete", resource_id=r["id"], force=True
    ),
    "the resource is deleted": lambda r: helpers.call_action("resource_delete", id=r["id"]),
    "the dataset is deleted": lambda r: helpers.call_action("package_delete", id=r["package_id"]),
    "the dataset is made private": lambda r: helpers.call_action(
        "package_patch", id=r["package_id"], private=True
    ),
    "the dataset is revised to be private": lambda r: helpers.call_action(
        "package_revise", match={"id": r["package_id"]}, update={"private": True}
    ),
    "datasets are made private in bulk": lambda r: helpers.call_action(
        "bulk_update_private", datasets=[r["package_id"]], org_id=r["owner"]
    ),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_exports_go_at_once_and_links_to_them_end_when(app, resource, way):
    url = published(app, resource)
    assert exports(resource)
    WAYS[way](resource)
    assert exports(resource) == []
    assert requests.get(url, timeout=20).status_code == 404
    assert visit(app, resource["id"]).status_code == 404


def test_links_to_files_with_rows_that_are_deleted_end_and_the_next_file_is_without_them(
    app, resource
):
    url = published(app, resource)
    helpers.call_action("datastore_records_delete", id=resource["id"], force=True, filters={})
    assert requests.get(url, timeout=20).status_code == 404
    assert requests.get(visit(app, resource["id"]).location, timeout=20).content == b"_id,name\n"


@pytest.mark.parametrize(
    "change", [{"title": "Another"}, {"private": False}], ids=["title", "still public"]
)
def test_any_other_change_of_a_dataset_keeps_its_exports(app, resource, change):
    published(app, resource)
    before = exports(resource)
    helpers.call_action("package_patch", id=resource["package_id"], **change)
    assert exports(resource) == before


def test_exports_of_a_private_dataset_stay_when_it_is_changed(app, resource):
    helpers.call_action("package_patch", id=resource["package_id"], private=True)
    sysadmin = factories.SysadminWithToken()
    assert visit(app, resource["id"], Authorization=sysadmin["token"]).status_code == 302
    before = exports(resource)
    helpers.call_action("package_patch", id=resource["package_id"], title="Another")
    assert exports(resource) == before != []


def test_what_has_exports_goes_among_many_that_have_none(app, resource):
    published(app, resource)
    purging.purge([*(str(uuid.uuid4()) for _ in range(20)), resource["id"]])
    assert exports(resource) == []


def test_a_purge_that_fails_is_logged_and_the_action_done_and_a_sweep_mends_it(
    app, resource, monkeypatch, caplog, cli
):
    published(app, resource)

    def down(*args: object) -> int:
        raise NotReachable("Google does not answer.")

    with monkeypatch.context() as outage:
        outage.setattr(purging.sweep, "purge", down)
        with caplog.at_level(logging.WARNING):
            helpers.call_action("resource_delete", id=resource["id"])
    assert model.Resource.get(resource["id"]).state == "deleted"
    assert "is left for `ckan bigquery sweep`" in caplog.text
    assert exports(resource)
    swept = cli.invoke(ckan, ["bigquery", "sweep"])
    assert swept.exit_code == 0, swept.output
    assert exports(resource) == []


def test_a_sweep_keeps_what_is_in_use(app, resource, cli):
    published(app, resource)
    before = exports(resource)
    cli.invoke(ckan, ["bigquery", "sweep"])
    assert exports(resource) == before


def test_a_sweep_removes_what_belongs_to_no_resource_or_table(app, resource, cli):
    store = Place(config.dataset(), config.export_bucket()).store
    stray = {"id": "no-such-resource"}
    store.create("dumps/no-such-resource/csv/01/all-a/data.csv", b"x", Headers("text/csv"))
    published(app, resource)
    Place(config.dataset(), config.export_bucket()).bigquery.delete_table(
        f"{config.project()}.{config.dataset()}.{resource['id']}"
    )
    cli.invoke(ckan, ["bigquery", "sweep"])
    assert exports(stray) == exports(resource) == []


def test_a_sweep_removes_what_was_exported_before_a_dataset_was_made_private(app, resource):
    found = model.Resource.get(resource["id"])
    dataset = found.package
    hour = dt.timedelta(hours=1)
    changed = dataset.metadata_modified.replace(tzinfo=dt.timezone.utc)
    before = StoredObject(f"dumps/{found.id}/csv/01/all-a/data.csv", 1, 1, changed - hour)
    after = dataclasses.replace(before, created=changed + hour)
    tables = {found.id}
    assert purging._may_stay(found.id, before, tables)
    dataset.private = True
    assert not purging._may_stay(found.id, before, tables)
    assert purging._may_stay(found.id, after, tables)
    model.Session.rollback()


def test_results_of_queries_go_with_any_resource_that_they_may_have_read(app, resource):
    store = Place(config.dataset(), config.export_bucket()).store
    query = {"id": "sql-0123456789abcdef0123456789abcdef"}
    store.create(f"dumps/{query['id']}/csv/01/all-a/data.csv", b"x", Headers("text/csv"))
    helpers.call_action("resource_delete", id=resource["id"])
    assert exports(query) == []
