"""Helpers for templates, each with the extension's name in front."""

from __future__ import annotations

from typing import Any

from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import config, load_views, load_words, others
from ckanext.bigquery_datastore.dump.formats import FORMATS, Format


def bigquery_datastore_is_active() -> bool:
    """Whether the site's DataStore lives on BigQuery."""
    return config.is_active()


def bigquery_datastore_formats() -> list[Format]:
    """The formats that a table can be downloaded in."""
    return list(FORMATS.values())


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
