"""Nobody reaches a table under a name that he chose himself."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from ckan import model
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import clients, config, downloads
from ckanext.bigquery_datastore.backend import BigQueryBackend, door
from ckanext.bigquery_datastore.backend.table import lookup
from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = pytest.mark.usefixtures(
    "non_clean_db", "datastore", "with_plugins", "nothing_remembered"
)

ROWS = [{"name": "secret", "size": 1}]


@pytest.fixture
def place() -> Place:
    return Place(config.dataset(), config.export_bucket())


@pytest.fixture
def private(place: Place) -> dict[str, Any]:
    """A private resource with a table, and an alias of it."""
    owner = factories.Organization()
    dataset = factories.Dataset(private=True, owner_org=owner["id"])
    found = factories.Resource(package_id=dataset["id"])
    alias = f"alias-{found['id'][:8]}"
    fields = [{"id": "name", "type": "text"}]
    call_action(
        "datastore_create",
        resource_id=found["id"],
        force=True,
        fields=fields,
        records=[{"name": "secret"}],
        aliases=[alias],
    )
    return {**found, "alias": alias}


@pytest.fixture
def stray(place: Place) -> str:
    """A table of the dataset that CKAN did not make."""
    name = f"stray_{uuid.uuid4().hex}"
    place.fill(name, ROWS, name="STRING", size="INT64")
    return name


def impostor(name: str) -> dict[str, Any]:
    """Somebody's public resource, and the name that he gave it."""
    user = factories.User()
    owner = factories.Organization(user=user)
    dataset = factories.Dataset(owner_org=owner["id"], user=user)
    factories.Resource(package_id=dataset["id"], name=name)
    return user


def rows(answer: Any) -> bool:
    return b"secret" in answer.data or answer.status_code in (200, 202, 302)


def asks(app: Any, name: str) -> dict[str, bool]:
    """Which ways of asking for a table under a name, without any login, gave something."""
    found = {}
    url = name.replace("%", "%25").replace("#", "%23").replace("?", "%3F")
    for suffix, query in (("", ""), ("", "limit=1"), ("/status", ""), ("", "format=json")):
        found[f"dump{suffix} {query}"] = rows(visit(app, url, query, suffix=suffix))
    calls: dict[str, dict[str, Any]] = {
        "datastore_search": {"resource_id": name},
        "datastore_info": {"resource_id": name},
        "datastore_search_sql": {"sql": f'SELECT * FROM "{name}"'},
    }
    for action, params in calls.items():
        try:
            call_action(action, {"ignore_auth": False, "user": ""}, **params)
            found[action] = True
        except (tk.NotAuthorized, tk.ObjectNotFound, tk.ValidationError):
            found[action] = False
    return found


NAMES = {
    "its id and a fragment": "{id}#x",
    "its id and a query": "{id}?alt=json",
    "its alias": "{alias}",
    "its alias and a fragment": "{alias}#",
    "a way up": "../tables/{id}",
}


@pytest.mark.ckan_config("ckan.datastore.sqlsearch.enabled", "true")
@pytest.mark.parametrize("form", list(NAMES))
def test_a_public_resource_named_after_a_private_one_opens_nothing(app, private, form):
    name = NAMES[form].format(**private)
    impostor(name)
    assert not any(asks(app, name).values()), asks(app, name)


@pytest.mark.ckan_config("ckan.datastore.sqlsearch.enabled", "true")
def test_a_public_resource_named_after_a_table_without_a_resource_opens_nothing(app, stray):
    impostor(stray)
    assert not any(asks(app, stray).values()), asks(app, stray)


@pytest.mark.ckan_config("ckan.datastore.sqlsearch.enabled", "true")
def test_a_table_whose_resource_is_deleted_is_open_to_nobody(app, private):
    call_action("package_patch", id=private["package_id"], private=False)
    resource = model.Session.get(model.Resource, private["id"])
    resource.state = "deleted"
    model.Session.commit()
    assert not any(asks(app, private["id"]).values())
    assert not any(asks(app, private["alias"]).values())
    sysadmin = factories.SysadminWithToken()
    assert visit(app, private["id"], Authorization=sysadmin["token"]).status_code == 404


@pytest.mark.parametrize("form", ["{id}#x", "{id}?alt=json", "{alias}"])
@pytest.mark.parametrize("way", ["datastore_upsert", "datastore_create", "datastore_delete"])
def test_nobody_writes_into_a_table_that_his_resource_is_only_named_after(private, form, way):
    name = form.format(**private)
    user = impostor(name)
    params: dict[str, Any] = {"resource_id": name, "force": True}
    if way != "datastore_delete":
        params["records"] = [{"name": "forged"}]
    if way == "datastore_upsert":
        params["method"] = "insert"
    with pytest.raises((tk.NotAuthorized, tk.ObjectNotFound, tk.ValidationError)):
        call_action(way, {"ignore_auth": False, "user": user["name"]}, **params)
    found = call_action("datastore_search", resource_id=private["id"])
    assert [record["name"] for record in found["records"]] == ["secret"]


@pytest.mark.parametrize(
    "name",
    [".", "..", "%2e%2e", "%23", "%3F", "a%00b", "%F0%9F%99%82", "x%2Fy%2Fz", "a:b", "a" * 2000],
)
def test_a_path_that_names_no_table_is_404_and_google_is_not_asked(app, monkeypatch, name):
    for identity in ("bigquery_ro", "bigquery_rw"):
        monkeypatch.setattr(clients, identity, lambda: pytest.fail("asked Google"))
    for suffix in ("", "/status"):
        assert visit(app, name, suffix=suffix).status_code == 404


@pytest.mark.parametrize("name", [".", "..", "#", "?", "a#b", "a\0b", "\ud800", "a/b", "*", "a$b"])
@pytest.mark.parametrize(
    "action",
    [
        *("datastore_search", "datastore_info", "datastore_create", "datastore_upsert"),
        *("datastore_delete", "datastore_records_delete"),
    ],
)
def test_an_action_asked_for_what_names_no_table_answers_in_the_words_of_ckan(action, name):
    more = {"filters": {}} if action == "datastore_records_delete" else {}
    for key in ("resource_id", "id"):
        with pytest.raises((tk.ObjectNotFound, tk.ValidationError)):
            call_action(action, **{key: name}, **more)


@pytest.mark.parametrize("name", ["a#b", "a?b", "..", "a/b", "a%23b", "", "a.b"])
def test_no_name_of_another_shape_is_put_into_a_request(name):
    assert lookup.get_table(clients.bigquery_ro(), name) is None
    with pytest.raises(BadRequest):
        lookup.reference(name)


@pytest.mark.parametrize("name", ["mit Leerzeichen", "Straße", "dash-ed_1", "数据"])
def test_every_name_that_google_allows_finds_its_table(place, name):
    name = f"{name} {uuid.uuid4().hex}"
    place.fill(name, ROWS, name="STRING", size="INT64")
    table = lookup.get_table(clients.bigquery_ro(), name)
    assert table is not None and table.id == name


def test_what_google_says_of_another_table_is_not_used(place, stray, monkeypatch):
    asked, told = f"{stray}_x", clients.bigquery_ro().get_table
    other = f"{config.project()}.{config.dataset()}.{stray}"
    monkeypatch.setattr(clients.bigquery_ro(), "get_table", lambda *a, **more: told(other))
    assert lookup.get_table(clients.bigquery_ro(), asked) is None


def test_a_private_id_and_an_unknown_one_are_refused_without_asking_google(
    app, private, monkeypatch
):
    monkeypatch.setattr(clients, "bigquery_ro", lambda: pytest.fail("asked Google"))
    assert visit(app, private["id"]).status_code == 404
    assert visit(app, str(uuid.uuid4())).status_code == 404


def test_an_alias_cannot_look_like_an_id_nor_be_that_of_a_resource(private):
    for alias in (str(uuid.uuid4()), factories.Resource()["id"], "a#b"):
        with pytest.raises(tk.ValidationError, match="alias"):
            call_action("datastore_create", resource_id=private["id"], force=True, aliases=[alias])
    assert call_action("datastore_info", id=private["id"])["meta"]["aliases"] == [private["alias"]]


def test_an_id_and_an_alias_open_the_table_for_who_may(app, private):
    call_action("package_patch", id=private["package_id"], private=False)
    for name in (private["id"], private["alias"]):
        assert visit(app, name).status_code == 302
        found = call_action("datastore_search", resource_id=name)
        assert [record["name"] for record in found["records"]] == ["secret"]
        assert call_action("datastore_info", id=name)["meta"]["id"] == private["id"]


def test_a_file_is_not_given_when_its_data_were_withdrawn_while_it_was_made(
    app, private, monkeypatch
):
    call_action("package_patch", id=private["package_id"], private=False)
    real = downloads.engine

    class Meanwhile:
        def __init__(self, plan: downloads.DumpPlan) -> None:
            self.engine = real(plan)

        def begin(self, *args: Any) -> Any:
            state = self.engine.begin(*args)
            # Another process, so another session than the request's.
            with model.meta.create_local_session() as session:
                session.get(model.Package, private["package_id"]).private = True
                session.commit()
            return state

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

    monkeypatch.setattr(downloads, "engine", Meanwhile)
    assert visit(app, private["id"]).status_code == 404
    call_action("package_patch", id=private["package_id"], private=False)
    # What a process heard of a moment ago, it looks nothing up for: nothing can happen meanwhile.
    monkeypatch.setattr(downloads, "at_hand", lambda plan: None)
    monkeypatch.setattr(downloads.watch, "seen", lambda plan: None)
    assert visit(app, private["id"], suffix="/status").status_code == 404


def test_a_page_is_not_given_when_its_rows_were_withdrawn_while_they_were_read(
    app, private, monkeypatch
):
    call_action("package_patch", id=private["package_id"], private=False)
    real = downloads.page

    def meanwhile(plan: downloads.DumpPlan) -> Iterator[bytes]:
        yield from real(plan)
        with model.meta.create_local_session() as session:
            session.get(model.Package, private["package_id"]).private = True
            session.commit()

    assert b"secret" in visit(app, private["id"], "limit=1").data
    monkeypatch.setattr(downloads, "page", meanwhile)
    assert visit(app, private["id"], "limit=1").status_code == 404


def test_who_may_read_a_table_but_not_use_sql_gets_its_file(app, private, monkeypatch):
    call_action("package_patch", id=private["package_id"], private=False)
    real = tk.check_access

    def no_sql(action: str, *args: Any) -> Any:
        if action == "datastore_search_sql":
            raise tk.NotAuthorized
        return real(action, *args)

    monkeypatch.setattr(door.tk, "check_access", no_sql)
    assert visit(app, private["id"]).status_code == 302


def test_a_sysadmin_drops_a_table_without_a_resource_and_nothing_else(stray, private):
    assert BigQueryBackend().is_orphan(stray)
    assert not BigQueryBackend().is_orphan(private["id"])
    assert not BigQueryBackend().is_orphan(private["alias"])
    assert door.find_table(clients.bigquery_ro(), stray) is None
