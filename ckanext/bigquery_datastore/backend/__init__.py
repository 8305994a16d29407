"""The DataStore backend on BigQuery."""

from __future__ import annotations

from ckanext.datastore.backend import DatastoreBackend


class BigQueryBackend(DatastoreBackend):
    """Being built."""
