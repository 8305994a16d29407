"""The parameters of a dump: core's own, with more formats."""

from __future__ import annotations

from ckan.plugins import toolkit as tk
from ckan.types import Schema
from ckanext.datastore.blueprint import dump_schema as core_dump_schema

from ckanext.bigquery_datastore.dump.formats import FORMATS, OLD_NAMES


def dump_schema() -> Schema:
    """Core's schema of this CKAN version; ``sort`` has no default, as the plan knows the table."""
    return {
        **core_dump_schema(),
        "format": [tk.get_validator("default")("csv"), _current_name, _one_of_ours()],
        "sort": [tk.get_validator("ignore_missing"), *core_dump_schema()["sort"][1:]],
    }


def _one_of_ours():
    return tk.get_validator("one_of")(list(FORMATS))


def _current_name(value: str) -> str:
    return OLD_NAMES.get(value, value)
