"""Who asks a site, for what, and what CKAN's own resource decides for the same visitor."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ckan import model
from ckan import plugins as p
from ckan.lib import api_token, search
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action

# Nobody who may not read a table sees one of these: its rows, its column, its names.
SECRETS = ("topsecretrow", "topsecretcolumn", "Topsecret Title", "topsecretfile")

LET_IN, SHUT_OUT = "let in", "shut out"


@dataclass(frozen=True)
class Visitor:
    """Somebody who asks: as which user CKAN knows them, and by which token."""

    role: str
    user: str = ""
    token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": self.token} if self.token else {}


@dataclass
class House:
    """An organisation, those who know it and those who do not."""

    owner: str
    visitors: dict[str, Visitor]
    ids: dict[str, str] = field(default_factory=dict)

    def user(self, role: str) -> str:
        return self.visitors[role].user


def house() -> House:
    """A new organisation with a visitor of each role, and tokens that are none any more."""
    people = {
        role: factories.UserWithToken()
        for role in ("stranger", "member", "editor", "collaborator", "collaborating editor")
    }
    people["sysadmin"] = factories.SysadminWithToken()
    members = [{"name": people[role]["name"], "capacity": role} for role in ("member", "editor")]
    owner = factories.Organization(users=members)
    factories.Organization(users=[{"name": people["stranger"]["name"], "capacity": "editor"}])
    visitors = {role: Visitor(role, who["name"], who["token"]) for role, who in people.items()}
    admin = people["sysadmin"]["name"]
    visitors["anonymous"] = Visitor("anonymous")
    visitors["expired token"] = Visitor("expired token", token=_expired(admin))
    visitors["revoked token"] = Visitor("revoked token", token=_revoked(admin))
    return House(owner["id"], visitors)


def _expired(user: str) -> str:
    """A sysadmin's token whose time is over; the site still knows it."""
    row = model.ApiToken(user_id=model.User.get(user).id, name="expired")
    model.Session.add(row)
    model.Session.commit()
    over = dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=1)
    return api_token.encode({"jti": row.id, "exp": over})


def _revoked(user: str) -> str:
    token = call_action("api_token_create", user=user, name="revoked")["token"]
    call_action("api_token_revoke", token=token)
    return token


def resource(owner: House, name: str, *, private: bool = False, table: bool = True) -> str:
    """A resource of the house with a table, which two collaborators know; its id."""
    dataset = factories.Dataset(owner_org=owner.owner, private=private, title="Topsecret Title")
    found = factories.Resource(package_id=dataset["id"], name="topsecretfile")
    for role, capacity in (("collaborator", "member"), ("collaborating editor", "editor")):
        call_action(
            "package_collaborator_create",
            id=dataset["id"],
            user_id=owner.user(role),
            capacity=capacity,
        )
    if table:
        call_action(
            "datastore_create",
            resource_id=found["id"],
            force=True,
            fields=[{"id": "topsecretcolumn", "type": "text"}],
            records=[{"topsecretcolumn": "topsecretrow"}],
        )
    owner.ids[name] = found["id"]
    return found["id"]


def dataset_of(id: str) -> str:
    return model.Session.get(model.Resource, id).package_id


def delete_keeping_the_table(id: str) -> None:
    """As when Google did not answer while the resource was deleted."""
    model.Session.get(model.Resource, id).state = model.State.DELETED
    model.Session.commit()
    search.rebuild(dataset_of(id))


# --- what CKAN decides


def decides(power: str, who: Visitor, id: str) -> str:
    """What CKAN's own actions on the resource decide for a visitor, now."""
    model.Session.rollback()
    decide = {
        "read": _may_read,
        "change": _may_change,
        "drop": _may_drop,
        "rule": _may_rule,
        "nobody": _never,
    }
    return LET_IN if decide[power](_known(who), id) else SHUT_OUT


def _known(who: Visitor) -> str:
    """As whom CKAN knows a visitor: a deleted user's token is nobody's."""
    return "" if is_gone(who) else who.user


def is_gone(who: Visitor) -> bool:
    """Whether the user of this visitor was deleted."""
    found = model.User.get(who.user) if who.user else None
    return found is not None and not found.is_active


def _may_read(user: str, id: str) -> bool:
    try:
        tk.get_action("resource_show")({"user": user, "ignore_auth": False}, {"id": id})
    except (tk.NotAuthorized, tk.ObjectNotFound):
        return False
    return True


def _may_change(user: str, id: str) -> bool:
    try:
        tk.check_access("resource_update", {"user": user, "ignore_auth": False}, {"id": id})
    except (tk.NotAuthorized, tk.ObjectNotFound):
        return False
    # What it finds nowhere, CKAN changes for nobody.
    return _may_read(user, id)


def _may_drop(user: str, id: str) -> bool:
    """Before CKAN 2.12 also the table of a deleted resource, by whom its dataset is shown to."""
    if tk.check_ckan_version("2.12"):
        return _may_change(user, id)
    try:
        for power in ("resource_show", "resource_update"):
            tk.check_access(power, {"user": user, "ignore_auth": False}, {"id": id})
    except (tk.NotAuthorized, tk.ObjectNotFound):
        return False
    return True


def _may_rule(user: str, id: str) -> bool:
    found = model.User.get(user) if user else None
    return found is not None and found.sysadmin


def _never(user: str, id: str) -> bool:
    return False


# --- what is asked for


@dataclass(frozen=True)
class Ask:
    """One request about a table, and the power over it that it takes."""

    power: str
    method: str
    path: Callable[[str], str]
    params: Callable[[str], dict[str, Any]] | None = None
    ends_the_table: bool = False

    def send(self, app: Any, id: str, headers: dict[str, str]) -> Any:
        """The site's answer, through all of its middleware."""
        body = {} if self.params is None else {"json": self.params(id)}
        sent = {"User-Agent": "curl/8.5.0", "Prefer": "respond-async", **headers}
        path = self.path(id)
        client = app.test_client()
        return client.open(path, method=self.method, headers=sent, follow_redirects=False, **body)


def _get(power: str, path: str) -> Ask:
    return Ask(power, "GET", lambda id: path.format(id=id))


def _page(method: str, rest: str = "", *, ends: bool = False) -> Ask:
    def path(id: str) -> str:
        found = model.Session.get(model.Resource, id)
        return f"/dataset/{found.package_id if found else uuid.uuid4()}/datastore/{id}{rest}"

    return Ask("change", method, path, ends_the_table=ends)


def _act(power: str, name: str, key: str = "resource_id", **more: Any) -> Ask:
    def params(id: str) -> dict[str, Any]:
        return ({key: id.join(('SELECT * FROM "', '"')) if key == "sql" else id}) | more

    return Ask(power, "POST", lambda id: f"/api/3/action/{name}", params)


_SQL = "sql=SELECT%20*%20FROM%20%22{id}%22"
_WRITE = {"force": True, "calculate_record_count": False}
_ROWS = [{"topsecretcolumn": "topsecretrow"}]
_NONE: dict[str, Any] = {"filters": {"topsecretcolumn": "not there"}}

# The routes of the extension: by endpoint and method.
ROUTES: dict[tuple[str, str], Ask] = {
    ("datastore.dump", "GET"): _get("read", "/datastore/dump/{id}?limit=3"),
    ("bigquery_datastore.download", "GET"): _get("read", "/datastore/dump/{id}?format=csv"),
    ("bigquery_datastore.download_named", "GET"): _get(
        "read", "/datastore/dump/{id}/a.tsv?limit=3"
    ),
    ("bigquery_datastore.status", "GET"): _get("read", "/datastore/dump/{id}/status"),
    ("bigquery_datastore.status_named", "GET"): _get("read", "/datastore/dump/{id}/a.csv/status"),
    ("bigquery_datastore.places_taken", "GET"): _get("nobody", "/datastore/dump_places"),
    ("bigquery_datastore.download_sql", "GET"): _get("read", f"/datastore/dump_sql?{_SQL}"),
    ("bigquery_datastore.status_sql", "GET"): _get("read", f"/datastore/dump_sql/status?{_SQL}"),
    ("bigquery_datastore_about.formats", "GET"): _get("read", "/datastore/about/{id}/formats"),
    ("bigquery_datastore_about.package", "GET"): _get(
        "read", "/datastore/about/{id}/datapackage.json"
    ),
    ("bigquery_datastore_about.dictionary", "GET"): _get(
        "read", "/datastore/about/{id}/dictionary.csv"
    ),
    ("bigquery_datastore_load.page", "GET"): _page("GET"),
    ("bigquery_datastore_load.status", "GET"): _page("GET", "/status"),
    ("bigquery_datastore_load.ask_to_delete", "GET"): _page("GET", "/delete"),
    ("bigquery_datastore_load.submit", "POST"): _page("POST"),
    ("bigquery_datastore_load.delete", "POST"): _page("POST", "/delete", ends=True),
}

# Its actions, and those that it stands behind.
ACTIONS: dict[str, Ask] = {
    "datastore_search": _act("read", "datastore_search", limit=1),
    "datastore_info": _act("read", "datastore_info", "id"),
    "datastore_search_sql": _act("read", "datastore_search_sql", "sql"),
    "bigquery_load_status": _act("change", "bigquery_load_status"),
    "bigquery_load_submit": _act("change", "bigquery_load_submit", force=True),
    "datastore_upsert": _act(
        "change", "datastore_upsert", method="insert", records=_ROWS, **_WRITE
    ),
    "datastore_create": _act("change", "datastore_create", records=_ROWS, **_WRITE),
    "datastore_delete": _act("drop", "datastore_delete", **_NONE, **_WRITE),
    "datastore_records_delete": _act("drop", "datastore_records_delete", **_NONE, **_WRITE),
    "datastore_run_triggers": _act("rule", "datastore_run_triggers"),
    "datastore_function_create": _act(
        "rule", "datastore_function_create", "name", definition="BEGIN RETURN NEW; END;"
    ),
    "datastore_function_delete": _act("rule", "datastore_function_delete", "name", if_exists=True),
}

ASKS: dict[str, Ask] = {
    **{f"{method} {endpoint}": ask for (endpoint, method), ask in ROUTES.items()},
    **ACTIONS,
}


def routes(app: Any) -> set[tuple[str, str]]:
    """Every route of the extension that the site has, by endpoint and method."""
    return {
        (rule.endpoint, method)
        for rule in app.flask_app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.endpoint.startswith("bigquery_datastore") or rule.endpoint == "datastore.dump"
    }


def actions() -> set[str]:
    """Every action of the extension's and of CKAN's DataStore."""
    plugins = map(p.get_plugin, ("bigquery_datastore", "datastore"))
    return {name for plugin in plugins if plugin is not None for name in plugin.get_actions()}


def told(ask: Ask, answer: Any) -> str:
    """Whether an answer lets its visitor in; an answer that is a failure is neither."""
    is_no_table = answer.status_code == 409 and "does not exist" in answer.get_data(as_text=True)
    if answer.status_code in (401, 403, 404) or (is_no_table and ask.power == "read"):
        return SHUT_OUT
    # BigQuery has no functions and triggers: who may ask for one is told so.
    is_in = answer.status_code < 400 or (ask.power == "rule" and answer.status_code == 409)
    return (
        LET_IN if is_in else f"failed: {answer.status_code} {answer.get_data(as_text=True)[:300]}"
    )


def leaks(answer: Any) -> list[str]:
    """Which of the secrets an answer holds, in its body or in a header."""
    whole = answer.get_data(as_text=True) + str(answer.headers)
    return [secret for secret in SECRETS if secret in whole]
