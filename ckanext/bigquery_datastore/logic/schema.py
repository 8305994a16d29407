"""The parameters of a dump, core's own with more formats; those of a load."""

from __future__ import annotations

from typing import cast

from ckan.plugins import toolkit as tk
from ckan.types import Schema, ValidatorFactory
from ckanext.datastore.blueprint import dump_schema as core_dump_schema
from ckanext.datastore.logic.schema import list_of_strings_or_string

from ckanext.bigquery_datastore.dump.formats import FORMATS, OLD_NAMES
from ckanext.bigquery_datastore.load.kinds import KINDS
from ckanext.bigquery_datastore.load.wish import MODES, MOST_BAD_ROWS


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


def load_submit_schema() -> Schema:
    """The parameters of a load. What is not given is left out."""
    one_of = cast(ValidatorFactory, tk.get_validator("one_of"))
    missing, text = tk.get_validator("ignore_missing"), tk.get_validator("unicode_safe")
    boolean = tk.get_validator("boolean_validator")
    return {
        **load_status_schema(),
        "mode": [missing, one_of(list(MODES))],
        "force": [missing, boolean],
        "sheet": [missing, text, _short],
        "skip_bad_rows": [missing, tk.get_validator("natural_number_validator"), _bounded],
        "day_first": [missing, boolean],
        "encoding": [missing, text, _short],
        "delimiter": [missing, text, _delimiter],
        "null": [missing, text, _short],
        "format": [missing, text, one_of(list(KINDS))],
    }


def load_status_schema() -> Schema:
    return {
        "resource_id": [tk.get_validator("not_empty"), tk.get_validator("unicode_safe")],
        "__extras": [tk.get_validator("ignore")],
    }


def _short(value: str) -> str:
    if len(value) > 200:
        raise tk.Invalid(tk._("At most 200 characters are allowed"))
    return value


def _bounded(value: int) -> int:
    if value > MOST_BAD_ROWS:
        raise tk.Invalid(tk._("At most {most} rows can be set aside").format(most=MOST_BAD_ROWS))
    return value


def _delimiter(value: str) -> str:
    if len(value) != 1 or not value.isascii() or value in '"\r\n':
        raise tk.Invalid(tk._("A delimiter is one character of ASCII"))
    return value
