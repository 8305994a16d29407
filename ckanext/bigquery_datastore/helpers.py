"""Helpers for templates, each with the extension's name in front."""

from __future__ import annotations

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.dump.formats import Format, offered


def bigquery_datastore_is_active() -> bool:
    """Whether the site's DataStore lives on BigQuery."""
    return config.is_active()


def bigquery_datastore_formats() -> list[Format]:
    """The formats that every table can be downloaded in, wherever it lies."""
    return offered(())
