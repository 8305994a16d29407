"""Every action of CKAN's that may take data from its audience takes the exports, too."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import requests
from ckan import model
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import config, purging, withdrawal
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = pytest.mark.usefixtures(
    "non_clean_db", "datastore", "with_plugins", "nothing_remembered"
)

Way = Callable[[dict[str, Any]], object]


def dropped(r: dict[str, Any], action: str) -> object:
    """The dataset is written anew, without the resource."""
    dataset = call_action("package_show", id=r["package_id"])
    return call_action(action, **{**dataset, "resources": []})


def moved(r: dict[str, Any]) -> object:
    """Into the hands of another organisation, while only its members could see it."""
    other = factories.Organization()["id"]
    return call_action("package_owner_org_update", id=r["package_id"], organization_id=other)


# Each way on which an action withdraws a resource that is public, with a table and an export.
WAYS: dict[str, dict[str, Way]] = {
    "package_update": {
        "without the resource": lambda r: dropped(r, "package_update"),
        "private": lambda r: call_action(
            "package_update", **{**call_action("package_show", id=r["package_id"]), "private": True}
        ),
    },
    "package_patch": {
        "deleted": lambda r: call_action("package_patch", id=r["package_id"], state="deleted"),
        "a draft": lambda r: call_action("package_patch", id=r["package_id"], state="draft"),
        "private": lambda r: call_action("package_patch", id=r["package_id"], private=True),
        "without resources": lambda r: call_action(
            "package_patch", id=r["package_id"], resources=[]
        ),
    },
    "package_revise": {
        "without the resource": lambda r: call_action(
            "package_revise", match={"id": r["package_id"]}, filter=["-resources__*"]
        ),
        "private": lambda r: call_action(
            "package_revise", match={"id": r["package_id"]}, update={"private": True}
        ),
    },
    "bulk_update_private": {
        "of one": lambda r: call_action(
            "bulk_update_private", datasets=[r["package_id"]], org_id=r["owner"]
        )
    },
    "bulk_update_delete": {
        "of one": lambda r: call_action(
            "bulk_update_delete", datasets=[r["package_id"]], org_id=r["owner"]
        )
    },
    "package_delete": {"": lambda r: call_action("package_delete", id=r["package_id"])},
    "dataset_purge": {"": lambda r: call_action("dataset_purge", id=r["package_id"])},
    "resource_delete": {"": lambda r: call_action("resource_delete", id=r["id"])},
    "datastore_delete": {
        "the table": lambda r: call_action("datastore_delete", resource_id=r["id"], force=True),
        "by the other name of the parameter": lambda r: call_action(
            "datastore_delete", id=r["id"], force=True
        ),
    },
}

# The same for rows: the table stays.
WAYS_OF_ROWS: dict[str, dict[str, Way]] = {
    "datastore_delete": {
        "rows": lambda r: call_action(
            "datastore_delete", resource_id=r["id"], force=True, filters={"_id": 1}
        ),
    },
    "datastore_records_delete": {
        "": lambda r: call_action(
            "datastore_records_delete", resource_id=r["id"], force=True, filters={}
        )
    },
}

# The same where the dataset is private from the start: its owner's members lose it.
WAYS_OF_PRIVATE: dict[str, dict[str, Way]] = {
    "package_owner_org_update": {"": moved},
}

# What these write is no data of a table, nor who may see one. (An organisation that goes leaves its
# public datasets public; CKAN lets none go that owns a private one. A member or a collaborator who
# goes is looked at in torture/test_sight_links.)
_OTHERS = """
    organization_delete organization_purge
    package_create resource_create resource_view_create resource_create_default_resource_views
    package_create_default_resource_views package_relationship_create member_create
    package_collaborator_create group_create organization_create user_create user_invite
    vocabulary_create tag_create follow_user follow_dataset group_member_create
    organization_member_create follow_group api_token_create resource_update resource_view_update
    resource_view_reorder package_resource_reorder package_relationship_update group_update
    organization_update user_update task_status_update task_status_update_many
    term_translation_update term_translation_update_many vocabulary_update bulk_update_public
    config_option_update user_delete resource_view_delete resource_view_clear
    package_relationship_delete member_delete package_collaborator_delete group_delete group_purge
    task_status_delete vocabulary_delete tag_delete unfollow_user unfollow_dataset
    group_member_delete organization_member_delete unfollow_group job_clear job_cancel
    api_token_revoke resource_patch group_patch organization_patch user_patch datastore_create
    datastore_upsert datastore_run_triggers datastore_function_create datastore_function_delete
"""
OTHERS = set(_OTHERS.split())

MODULES = [f"ckan.logic.action.{kind}" for kind in ("create", "update", "delete", "patch")]


def actions() -> set[str]:
    """Every action of CKAN's and of its DataStore's that changes something."""
    found = set()
    for module in map(importlib.import_module, [*MODULES, "ckanext.datastore.logic.action"]):
        for name, value in vars(module).items():
            is_own = getattr(value, "__module__", "") == module.__name__ and callable(value)
            if (
                is_own
                and not name.startswith("_")
                and not getattr(value, "side_effect_free", False)
            ):
                found.add(name)
    # A helper that stands among the actions of CKAN 2.11's DataStore.
    return found - {"datastore_analyze", "set_datastore_active_flag"}


@pytest.fixture
def resource() -> dict[str, Any]:
    """A public resource of an organisation, with a table."""
    owner = factories.Organization()
    dataset = factories.Dataset(owner_org=owner["id"])
    found = factories.Resource(package_id=dataset["id"])
    call_action(
        "datastore_create",
        resource_id=found["id"],
        force=True,
        fields=[{"id": "name", "type": "text"}],
        records=[{"name": "one"}],
    )
    return {**found, "owner": owner["id"]}


def exports(resource: dict[str, Any]) -> list[str]:
    store = Place(config.dataset(), config.export_bucket()).store
    return [found.name for found in store.list(f"dumps/{resource['id']}/")]


def link(app: Any, resource: dict[str, Any], **headers: str) -> str:
    url = visit(app, resource["id"], **headers).location
    assert requests.get(url, timeout=20).content == b"_id,name\n1,one\n"
    return url


def each(ways: dict[str, dict[str, Way]]) -> list[Any]:
    return [
        pytest.param(way, id=f"{action} {how}".strip())
        for action, found in ways.items()
        for how, way in found.items()
    ]


def test_every_action_that_changes_something_is_known_here() -> None:
    known = set(WAYS) | set(WAYS_OF_ROWS) | set(WAYS_OF_PRIVATE) | OTHERS
    assert actions() - known == set(), "does it take data from its audience, or not?"
    assert known - actions() == set()


@pytest.mark.parametrize("way", each(WAYS) + each(WAYS_OF_ROWS))
def test_what_is_withdrawn_leaves_no_export_and_no_link(app, resource, way):
    url = link(app, resource)
    way(resource)
    assert exports(resource) == []
    assert requests.get(url, timeout=20).status_code == 404


@pytest.mark.parametrize("way", each(WAYS))
def test_who_asks_anew_for_what_is_withdrawn_gets_404(app, resource, way):
    way(resource)
    for suffix, query in (("", ""), ("/status", ""), ("", "limit=1")):
        assert visit(app, resource["id"], query, suffix=suffix).status_code == 404


@pytest.mark.ckan_config("ckan.auth.create_unowned_dataset", "true")
@pytest.mark.parametrize("way", each(WAYS_OF_PRIVATE))
def test_what_only_members_could_see_leaves_no_export_when_they_lose_it(app, resource, way):
    call_action("package_patch", id=resource["package_id"], private=True)
    url = link(app, resource, Authorization=factories.SysadminWithToken()["token"])
    way(resource)
    assert exports(resource) == []
    assert requests.get(url, timeout=20).status_code == 404


def test_a_statement_of_another_extension_for_many_rows_is_seen_too(app, resource):
    link(app, resource)
    rows = model.Session.query(model.Package).filter(model.Package.id == resource["package_id"])
    rows.update({"private": True}, synchronize_session=False)
    assert exports(resource)
    model.Session.commit()
    assert exports(resource) == []


def test_what_is_rolled_back_was_not_withdrawn(app, resource):
    link(app, resource)
    dataset = model.Package.get(resource["package_id"])
    dataset.private = True
    model.Session.flush()
    model.Session.rollback()
    model.Session.commit()
    assert exports(resource)


def test_what_another_session_of_ckan_withdraws_is_seen(app, resource):
    link(app, resource)
    with model.meta.create_local_session() as session:
        session.get(model.Resource, resource["id"]).state = "deleted"
        session.commit()
    assert exports(resource) == []


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Another"},
        {"private": False},
        {"notes": "x", "tags": [{"name": "a-tag"}]},
        {"owner_org": ""},
    ],
    ids=str,
)
@pytest.mark.ckan_config("ckan.auth.create_unowned_dataset", "true")
def test_a_change_that_takes_nothing_from_anybody_is_no_reason_to_ask_google(
    resource, monkeypatch, change
):
    monkeypatch.setattr(purging, "purge", lambda ids: pytest.fail("purged"))
    call_action("package_patch", id=resource["package_id"], **change)


def test_what_is_given_back_to_the_public_is_exported_again(app, resource):
    link(app, resource)
    call_action("package_delete", id=resource["package_id"])
    call_action("package_patch", id=resource["package_id"], state="active")
    link(app, resource)


def test_listening_twice_purges_once(resource, monkeypatch):
    told: list[list[str]] = []
    monkeypatch.setattr(purging, "purge", told.append)
    withdrawal.watch()
    call_action("package_patch", id=resource["package_id"], private=True)
    assert told == [[resource["id"]]]
