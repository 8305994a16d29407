"""Requests for every route and every action of ours, as CKAN's own tables of them say.

A route, an action or a parameter that comes anew is asked for by itself, or is an error here.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from ckan import plugins as p
from ckan.logic import get_action
from ckanext.datastore.logic import action as core_actions
from ckanext.datastore.logic import schema as core_schemas
from hypothesis import strategies as st

from ckanext.bigquery_datastore.logic import schema
from ckanext.bigquery_datastore.tests.torture import marked
from ckanext.bigquery_datastore.tests.torture.marked import Targets

_OURS = "ckanext.bigquery_datastore."

# The parameters that each route looks at; pages of CKAN's own kind look at none.
ROUTES: Mapping[str, Mapping[str, Any]] = {
    "datastore.dump": {**schema.dump_schema(), "_hop": []},
    "bigquery_datastore.download": {**schema.dump_schema(), "_hop": []},
    "bigquery_datastore.download_named": {**schema.dump_schema(), "_hop": []},
    "bigquery_datastore.status_named": schema.dump_schema(),
    "bigquery_datastore.status": schema.dump_schema(),
    "bigquery_datastore.places_taken": {},
    "bigquery_datastore.download_sql": {**schema.dump_sql_schema(), "_hop": []},
    "bigquery_datastore.status_sql": schema.dump_sql_schema(),
    "bigquery_datastore_about.formats": {},
    "bigquery_datastore_about.package": {},
    "bigquery_datastore_about.dictionary": {},
    "bigquery_datastore_load.page": {},
    "bigquery_datastore_load.status": {},
    "bigquery_datastore_load.submit": {},
    "bigquery_datastore_load.ask_to_delete": {},
    "bigquery_datastore_load.delete": {},
}

# What actions take beside their schemas, or without one.
ACTIONS: Mapping[str, tuple[str, ...]] = {
    "datastore_create": ("resource", "records", "dry_run", "_new_fields"),
    "datastore_upsert": ("records",),
    "datastore_delete": ("filters",),
    "datastore_search_sql": ("sql",),
    "datastore_run_triggers": ("resource_id",),
    "bigquery_load_submit": tuple(schema.load_submit_schema()),
    "bigquery_load_status": tuple(schema.load_status_schema()),
}


@dataclass(frozen=True)
class Asked:
    """One request, as it is sent."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None = None
    to: str = ""

    def __str__(self) -> str:
        body = "" if self.body is None else f" {self.body[:600]!r}"
        return f"{self.method} {self.path[:400]}?{self.query[:900]} {dict(self.headers)}{body}"


def crossed(one: Asked, other: Asked) -> Asked:
    """Of two requests to the same place, a third: it costs nothing to make."""
    if one.body is None or other.body is None:
        return replace(one, query=other.query or one.query, headers=other.headers)
    body = {**json.loads(one.body), **json.loads(other.body)}
    return replace(one, body=json.dumps(body).encode(), headers=other.headers)


def routes(flask_app: Any) -> list[Any]:
    """The rules of ours, wherever they are registered."""
    views = flask_app.view_functions
    found = flask_app.url_map.iter_rules()
    return [
        rule
        for rule in found
        if rule.endpoint in views and str(views[rule.endpoint].__module__).startswith(_OURS)
    ]


def actions() -> set[str]:
    """Core's actions on tables, and all that the plugin adds."""
    own = {name for name, _ in inspect.getmembers(core_actions, inspect.isfunction)}
    ours = p.get_plugin("bigquery_datastore").get_actions()
    return {name for name in own if name.startswith("datastore_")} | set(ours)


def taken_by(action: str) -> set[str]:
    """The names of an action's parameters, by its schema."""
    found = getattr(core_schemas, f"{action}_schema", dict)()
    names = {name for name in found if not name.startswith("__")} | set(ACTIONS.get(action, ()))
    return {name for name in names if not name.startswith("__")}


def uncovered(flask_app: Any, targets: Targets) -> set[str]:
    """Routes, actions and parameters that nothing is sent to."""
    known = marked.parameters(targets)
    of_routes = {rule.endpoint for rule in routes(flask_app)} - set(ROUTES)
    of_actions = {name for name in actions() if not taken_by(name)}
    names = {name for names in ROUTES.values() for name in names}
    names |= {name for action in actions() for name in taken_by(action)}
    return of_routes | of_actions | {name for name in names if name not in known}


def requests(flask_app: Any, targets: Targets) -> st.SearchStrategy[Asked]:
    """Any of them: downloads and searches as often as all others together."""
    by_path = [_of_route(rule, targets) for rule in routes(flask_app)]
    by_name = [_of_action(name, targets) for name in sorted(actions())]
    return st.one_of(*by_path, *by_name)


def _of_route(rule: Any, targets: Targets) -> st.SearchStrategy[Asked]:
    known = marked.parameters(targets)
    names = list(ROUTES[rule.endpoint])
    is_change = "POST" in (rule.methods or ())
    arguments = {
        "resource_id": marked.ids(targets.scratch if is_change else targets.tables),
        "id": marked.ids((targets.dataset,)),
        "name": marked.file_names(targets),
    }
    places = re.findall(r"<(?:[^<>]*:)?(\w+)>", rule.rule)
    methods = sorted(set(rule.methods or ()) - {"OPTIONS"})
    is_page = rule.endpoint.startswith("bigquery_datastore_load.")
    known_user = {"Authorization": targets.tokens[0]} if is_page else {}
    few = {"limit": st.integers(0, 9)} if "limit" in names else {}

    def put(given: dict[str, str], is_raw: bool, query: Any, **rest: Any) -> Asked:
        def filled(found: re.Match[str]) -> str:
            value = given[found[1]].encode("utf-8", "surrogatepass")
            return quote(value, safe="/.~" if is_raw else "")

        path = re.sub(r"<(?:[^<>]*:)?(\w+)>", filled, rule.rule)
        return Asked(path=path, query=_query(query), to=rule.endpoint, **rest)

    # Whole files are asked for too, but an export each time would be another test.
    others = marked.few_of({name: known[name] for name in names if name not in few})
    asked = st.builds(_mostly_few, st.fixed_dictionaries(few), others)
    return st.builds(
        put,
        st.fixed_dictionaries({place: arguments[place] for place in places}),
        st.booleans(),
        asked,
        method=st.sampled_from(methods),
        headers=marked.headers(targets).map(lambda headers: _pairs({**known_user, **headers})),
    )


def _mostly_few(few: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in few.items() if value < 9}, **others}


def _of_action(name: str, targets: Targets) -> st.SearchStrategy[Asked]:
    known = marked.parameters(targets)
    is_free = getattr(get_action(name), "side_effect_free", False)
    if not is_free:
        known["resource_id"] = known["id"] = marked.ids(targets.scratch)
    if name == "datastore_create":
        known["fields"] = known["_new_fields"]
    names = taken_by(name) - {"_new_fields"}
    # Without these nothing is looked at beyond the schema.
    keys = (
        ("resource_id", "sql", "records") if name == "datastore_upsert" else ("resource_id", "sql")
    )
    wanted = {key: known[key] for key in keys if key in names}
    others = marked.few_of({key: known[key] for key in sorted(names) if key not in wanted})
    # Who may write: a stranger's requests would end at once.
    more = {} if is_free else {"force": True}
    first = {} if is_free else {"Authorization": targets.tokens[0]}

    def put(
        wanted: dict[str, Any], others: dict[str, Any], is_query: bool, headers: dict[str, str]
    ) -> Asked:
        path, given = f"/api/3/action/{name}", {**more, **wanted, **others}
        if is_query:
            return Asked("GET", path, _query(given), _pairs(headers), to=name)
        headers = {"Content-Type": "application/json", **first, **headers}
        return Asked("POST", path, "", _pairs(headers), json.dumps(given).encode(), name)

    of_query = st.booleans() if is_free else st.just(False)
    return st.builds(put, st.fixed_dictionaries(wanted), others, of_query, marked.headers(targets))


def _query(given: dict[str, Any]) -> str:
    pairs = [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in given.items()
    ]
    return urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs])


def _pairs(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(headers.items())
