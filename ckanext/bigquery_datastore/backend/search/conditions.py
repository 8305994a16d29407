"""Filters as conditions in SQL, and their values beside it. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.search import floats
from ckanext.bigquery_datastore.backend.search.filters import Compare, Condition
from ckanext.bigquery_datastore.backend.search.select import T
from ckanext.bigquery_datastore.backend.table import conversion, reading, types, values
from ckanext.bigquery_datastore.backend.table.model import Column
from ckanext.bigquery_datastore.errors import Invalid

_COMPARISONS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_UNORDERED = ("STRUCT", "ARRAY", "GEOGRAPHY", "RANGE", "JSON")
# Values of a list that are a parameter each. A statement has 10,000 parameters at most
# (https://cloud.google.com/bigquery/quotas#query_jobs), and filters have 100 conditions.
_MOST_SINGLE = 50


def invalid_value(key: str, value: Any) -> Invalid:
    return Invalid({key: [f'invalid value "{value}"']})


def query_fault(message: str) -> Invalid:
    return Invalid({"query": ["Invalid query"], "info": {"orig": [message]}})


class Conditions:
    """Conditions on the columns of one table, and the parameters that they have gathered."""

    def __init__(self, available: Mapping[str, Column], custom_filters: Collection[str]) -> None:
        self.available = available
        self.custom_filters = custom_filters
        self.parameters: list[Parameter] = []

    def condition(self, condition: Condition) -> str:
        """SQL, or "" where only other plugins' filters are in it."""
        if isinstance(condition, Compare):
            return self.compare(condition)
        members = [self.condition(member) for member in condition.members]
        joined = f" {condition.op.upper()} ".join(filter(None, members))
        return f"({joined})" if joined else ""

    def compare(self, compare: Compare) -> str:
        if compare.field in self.custom_filters:
            return ""
        if compare.field not in self.available:
            raise invalid_value("filters", compare.field)
        column = self.available[compare.field]
        if compare.op == "in":
            return self.among(column, [value for value in compare.value if value is not None])
        if compare.op not in _COMPARISONS:
            raise Invalid({"filters": [f"Unknown filter operation: {compare.op}"]})
        if compare.value is None:
            return "FALSE"  # nothing is equal to NULL, and core has no other test for it
        subject = self.subject(column)
        if floats.is_nan(column, compare.value):
            return floats.compared_to_nan(column, subject, compare.op)
        sql = f"{subject} {_COMPARISONS[compare.op]} {self.value(column, compare.value)}"
        return floats.compared(column, subject, compare.op, sql)

    def among(self, column: Column, found: Sequence[Any]) -> str:
        """That a column has one of the values."""
        subject = self.subject(column)
        numbers = [value for value in found if not floats.is_nan(column, value)]
        conditions = []
        if len(numbers) > _MOST_SINGLE:
            conditions.append(self.one_of(column, numbers))
        elif numbers:
            joined = ", ".join(self.value(column, value) for value in numbers)
            conditions.append(f"{subject} IN ({joined})")
        if len(numbers) < len(found):
            conditions.append(floats.compared_to_nan(column, subject, "eq"))
        if len(conditions) > 1:
            return f"({' OR '.join(conditions)})"
        return conditions[0] if conditions else "FALSE"

    def one_of(self, column: Column, found: Sequence[Any]) -> str:
        """Whether a column has one of many values: each kind of them is one parameter, a list."""
        lists: dict[tuple[str, str], dict[str, None]] = {}
        for value in found:
            sql = self.value(column, value)
            given = self.parameters.pop()
            way = sql.replace(f"@{given.name}", "v"), given.type
            lists.setdefault(way, {})[str(given.value)] = None
        subject, terms = self.subject(column), []
        for (sql, bq_type), texts in lists.items():
            listed = f"UNNEST({self.placeholder(bq_type, tuple(texts))})"
            source = listed if sql == "v" else f"(SELECT {sql} FROM {listed} AS v)"
            terms.append(f"{subject} IN {source}")
        return f"({' OR '.join(terms)})" if len(terms) > 1 else terms[0]

    def subject(self, column: Column) -> str:
        sql = f"{T}.{column.sql}"
        return f"TO_JSON_STRING({sql})" if column.bq_type in _UNORDERED else sql

    def value(self, column: Column, value: Any) -> str:
        """A placeholder for a value that a column is compared to."""
        if column.type.name == "text" and column.bq_type == "STRING":
            return self.text(column, str(value))  # core: a text equals any number
        if column.bq_type in _UNORDERED:
            text = self.text(column, _json_text(value))
            return f"TO_JSON_STRING({conversion.parse_json(text)})"
        if column.bq_type == "INT64" and isinstance(value, (int, float)):
            return self.number(value)
        try:
            text = column.type.write(value)
        except types.BadValue as err:
            raise query_fault(err.for_column(column.name)) from err
        return self.placeholder(column.bq_type, text)

    def text(self, column: Column, value: str) -> str:
        try:
            return self.placeholder("STRING", values.text(value))
        except types.BadValue as err:
            raise query_fault(err.for_column(column.name)) from err

    def number(self, value: int | float) -> str:
        """A number of any size and kind, to be compared to an INT64."""
        if isinstance(value, bool):
            raise query_fault("operator does not exist: integer = boolean")
        if isinstance(value, float):
            return self.placeholder("FLOAT64", reading.float_text(value))
        if -(2**63) <= value < 2**63:
            return self.placeholder("INT64", str(value))
        return self.placeholder("FLOAT64", _float_of(value))

    def placeholder(self, bq_type: str, text: str | tuple[str, ...]) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters.append(Parameter(name, bq_type, text))
        return f"@{name}"


def _json_text(value: Any) -> str:
    """A value to be compared to JSON: a text is JSON itself, as PostgreSQL reads it."""
    try:
        is_text = isinstance(value, str)
        text = value if is_text else json.dumps(value, ensure_ascii=False, allow_nan=False)
        values.native_json(text)
    except types.BadValue as err:
        raise query_fault(str(err)) from None
    except (TypeError, ValueError, RecursionError):
        raise query_fault("invalid input syntax for type json") from None
    return text


def _float_of(value: int) -> str:
    """A whole number beyond INT64, of any length, as a FLOAT64's text."""
    try:
        float(value)
    except OverflowError:
        return "Infinity" if value > 0 else "-Infinity"
    return str(value)
