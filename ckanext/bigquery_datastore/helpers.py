"""Helpers for templates, each with the extension's name in front."""

from __future__ import annotations

from typing import Any

from ckan import authz
from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import config, downloads, others
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.backend.table.lookup import TABLES
from ckanext.bigquery_datastore.dump.formats import FORMATS, Format, offered
from ckanext.bigquery_datastore.web import about, load_views, load_words, menu, recipes


def bigquery_datastore_is_active() -> bool:
    """Whether the site's DataStore lives on BigQuery."""
    return config.is_active()


def bigquery_datastore_formats() -> list[Format]:
    """The formats that every table can be downloaded in, wherever it lies."""
    return offered(())


def bigquery_datastore_has_load_page(resource: dict[str, Any]) -> bool:
    """Whether the resource's edit pages show our tab: it has a file, or may get one."""
    if not config.is_active() or others.has_a_tab():
        return False
    # These live in the DataStore alone.
    return resource.get("url_type") not in tk.h.datastore_rw_resource_url_types()


def bigquery_datastore_load_page() -> str:
    """The endpoint of the page of a resource's load."""
    return others.page_of_ours(load_views.PAGE)


def bigquery_datastore_load_badge(resource: dict[str, Any]) -> load_words.Badge | None:
    """A load that is not finished, for who may change the resource; None for all others."""
    if not config.is_active() or not tk.h.check_access("resource_update", {"id": resource["id"]}):
        return None
    try:
        load = tk.get_action("bigquery_load_status")({}, {"resource_id": resource["id"]})
    except (tk.NotAuthorized, tk.ObjectNotFound):
        return None
    return load_words.badge(load)


def bigquery_datastore_load_words() -> dict[str, dict[str, str]]:
    """Words for a load's modes and for the levels of its log, translated."""
    return {
        "modes": {name: tk._(text) for name, text in load_words.MODES.items()},
        "levels": {name: tk._(text) for name, text in load_words.LEVELS.items()},
    }


def bigquery_datastore_menu(resource_id: str) -> list[menu.Group]:
    """The same as a menu: by use, with words and addresses, other plugins' formats included."""
    return menu.groups(resource_id)


def bigquery_datastore_titles(resource_id: str) -> list[dict[str, str]]:
    """The names and titles of the same formats, for scripts."""
    found = (item for group in menu.groups(resource_id) for item in group.items)
    return [{"name": item.name, "title": item.title} for item in found]


def bigquery_datastore_summary(resource_id: str) -> str:
    """Rows, columns and last change, where this process has heard of them; asks nobody."""
    table = TABLES.peek(resource_id)
    return about.summary(table, table.modified) if table and table.modified else ""


def bigquery_datastore_recipes(name: str) -> list[dict[str, Any]]:
    """Lines to copy and run for a resource, those that this visitor may be shown.

    None for who may not read it: CKAN 2.11 shows its window to anybody, for any name.
    """
    try:
        resource = door.find_readable(name)
    except tk.ObjectNotFound:
        return []
    resource_id = resource.id
    basename = downloads.basename_of(resource_id)
    places = {
        "csv": menu.address(resource_id, basename, FORMATS["csv"], qualified=True),
        "parquet": menu.address(resource_id, basename, FORMATS["parquet"], qualified=True),
        "file": basename,
        "table": f"{config.project()}.{config.dataset()}.{resource_id}",
    }
    is_inside = _is_of_organisation(resource_id)
    return [
        {
            "name": recipe.name,
            "title": recipe.title,
            "language": recipe.language,
            "text": recipes.filled(recipe, places),
        }
        for recipe in recipes.RECIPES
        if is_inside or not recipe.for_organisation
    ]


def bigquery_datastore_is_private(resource_id: str) -> bool:
    """Whether a program needs a token for it; for who may read it."""
    resource = door.resource(resource_id)
    return bool(resource and resource.package.private)


def _is_of_organisation(resource_id: str) -> bool:
    """Whether the visitor belongs to those whose data it is: strangers hear of no project."""
    resource, user = door.resource(resource_id), tk.current_user
    if resource is None or user.is_anonymous:
        return False
    owner = resource.package.owner_org
    return bool(owner) and authz.has_user_permission_for_group_or_org(owner, user.name, "read")
