"""The parameters of a dump: core's own, with more formats."""

from __future__ import annotations

from typing import cast

from ckan.plugins import toolkit as tk
from ckan.types import Schema, ValidatorFactory
from ckanext.datastore.blueprint import dump_schema as core_dump_schema
from ckanext.datastore.logic.schema import list_of_strings_or_string

from ckanext.bigquery_datastore.dump.formats import FORMATS, OLD_NAMES


def dump_schema() -> Schema:
    """Core's schema of this CKAN version; ``sort`` has no default, as the plan knows the table."""
    default = cast(ValidatorFactory, tk.get_validator("default"))
    one_of = cast(ValidatorFactory, tk.get_validator("one_of"))
    return {
        **core_dump_schema(),
        "format": [default("csv"), _current_name, one_of(list(FORMATS))],
        "sort": [tk.get_validator("ignore_missing"), list_of_strings_or_string],
    }


def dump_sql_schema() -> Schema:
    """The parameters of a query's result as a file."""
    of_dump = dump_schema()
    return {
        "sql": [tk.get_validator("not_empty"), tk.get_validator("unicode_safe")],
        "format": of_dump["format"],
        "bom": of_dump["bom"],
    }


def _current_name(value: str) -> str:
    return OLD_NAMES.get(value, value)
