"""Other loaders on the same site: kept from writing what they cannot, their buttons passed on.

===========  ================  ==================================================================
plugin       how it writes     while the DataStore lives on BigQuery
===========  ================  ==================================================================
xloader      COPY, psycopg2    held back: it leaves an empty table, and drops the old on a reload
datapusher+  COPY, psycopg2    held back for the same reason
datapusher   datastore_create  held back while we load uploads: two loaders of a file would race
===========  ================  ==================================================================

Each of them loads through its action ``…_submit``, which its hooks and its buttons call, and asks
other plugins first (``can_upload``). So the action is chained: a person's click becomes a load of
ours, since that is what the person wants, and a hook gets the answer "not submitted", since ours
have hooks of their own. Whoever calls the function itself hears "no" from ``can_upload``.

Read in ckanext-xloader 2.6.0 and datapusher-plus 3.0.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from ckan import plugins as p
from ckan.plugins import toolkit as tk
from ckan.types import Action, ChainedAction, Context

from ckanext.bigquery_datastore import config

log = logging.getLogger(__name__)

_Plugin = TypeVar("_Plugin", bound=type)

WORKER = "ckan jobs worker bigquery_loads"


@dataclass(frozen=True)
class Loader:
    """One that may be installed beside ours; ``page`` is the endpoint of its tab on a resource."""

    plugin: str
    title: str
    submit: str
    page: str
    # Whether it writes through CKAN's actions: then it can write to BigQuery.
    by_actions: bool


_DATAPUSHER = "datapusher.resource_data"

LOADERS = (
    Loader("xloader", "XLoader", "xloader_submit", "xloader.resource_data", False),
    Loader("datapusher_plus", "DataPusher+", "datapusher_submit", _DATAPUSHER, False),
    Loader("datapusher", "DataPusher", "datapusher_submit", _DATAPUSHER, True),
)

# What a plugin is asked by, where the other loader is installed.
_INTERFACES = (
    ("ckanext.xloader.interfaces", "IXloader"),
    ("ckanext.datapusher_plus.interfaces", "IDataPusher"),
)


def interfaces() -> Iterator[type[p.Interface]]:
    """The interfaces by which the installed loaders ask whether they may load a resource."""
    for module, name in _INTERFACES:
        try:
            yield getattr(import_module(module), name)
        except ImportError:
            continue


def beside() -> list[Loader]:
    """The other loaders of this site, all of them loaded plugins; none where ours is not in use."""
    return [row for row in LOADERS if p.plugin_loaded(row.plugin)] if config.is_active() else []


def held_back() -> list[Loader]:
    """Those that must not touch a resource."""
    return [row for row in beside() if not row.by_actions or config.load_on_upload()]


def say_so() -> None:
    """One sentence in the log for each, when CKAN starts: what it does now, and what to do."""
    held = held_back()
    for row in beside():
        if row not in held:
            log.warning(
                "Plugin %s loads uploads, 250 rows a call; with %s = true, whole files are loaded "
                "by bigquery_datastore instead (run `%s`).",
                *(row.plugin, config.LOAD_ON_UPLOAD, WORKER),
            )
        elif row.by_actions:
            log.warning(
                "Plugin %s is held back, since bigquery_datastore loads uploads itself: remove it "
                "from ckan.plugins and run `%s`, or set %s = false to have %s load, 250 rows a "
                "call.",
                *(row.plugin, WORKER, config.LOAD_ON_UPLOAD, row.title),
            )
        else:
            log.warning(
                "Plugin %s is held back, since it writes to PostgreSQL and the DataStore is on "
                "BigQuery: remove it from ckan.plugins, and run `%s` to have uploads loaded by "
                "bigquery_datastore.",
                *(row.plugin, WORKER),
            )


def page_of_ours(ours: str) -> str:
    """The endpoint of our page of a resource: a DataPusher's, where its tab is there already."""
    return next((row.page for row in held_back() if row.plugin != "xloader"), ours)


def has_a_tab() -> bool:
    """Whether a DataPusher shows its tab on a resource: it asks nobody. XLoader's is hidden."""
    return any(row.plugin != "xloader" for row in beside())


def stands_before(plugin: _Plugin) -> _Plugin:
    """Give the plugin the actions and helpers that stand before other loaders' own, too.

    A chained action without the other one is an error of CKAN's: which are there is known only
    once all plugins are.
    """

    def joined(own: Callable[..., dict[str, Any]], more: Callable[[], dict[str, Any]]) -> Any:
        return lambda self: {**own(self), **more()}

    plugin.get_actions = joined(plugin.get_actions, _actions)
    plugin.get_helpers = joined(plugin.get_helpers, _helpers)
    return plugin


def _actions() -> dict[str, ChainedAction]:
    return {row.submit: _passed_on(row) for row in beside()}


def _passed_on(loader: Loader) -> ChainedAction:
    @tk.chained_action
    def submit(next_action: Action, context: Context, data_dict: dict[str, Any]) -> Any:
        """True where the load was submitted, to whoever loads here."""
        if loader not in held_back():
            return next_action(context, data_dict)
        id = tk.get_or_bust({"resource_id": data_dict.get("id"), **data_dict}, "resource_id")
        if context.get("ignore_auth"):
            log.info("%s is not loaded by %s: see what it said at the start", id, loader.title)
            return False
        asking: Context = {"user": context.get("user", "")}
        wish = {"resource_id": id, "force": tk.asbool(data_dict.get("ignore_hash", False))}
        tk.get_action("bigquery_load_submit")(asking, wish)
        return True

    # Who may is asked by what it passes on to.
    submit.auth_audit_exempt = True  # type: ignore[attr-defined]
    return submit


def _helpers() -> dict[str, Callable[..., Any]]:
    """Its tab, its entries in menus and its badges would tell of loads that do not happen."""
    if not any(row.plugin == "xloader" for row in beside()):
        return {}
    return {
        "is_resource_supported_by_xloader": _silenced(False),
        "xloader_badge": _silenced(""),
    }


def _silenced(answer: object) -> Callable[..., Any]:
    @tk.chained_helper
    def silenced(next_helper: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return answer

    return silenced
