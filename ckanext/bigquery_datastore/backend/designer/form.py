"""Table Designer's form, without PostgreSQL: bounds and patterns checked where they are used.

Core checks them by a query of the DataStore's PostgreSQL. Of two validators of one name CKAN
takes that of the plugin which is listed first, so that taking the names would leave a wrong
order of ``ckan.plugins`` a page with an error. Table Designer asks all plugins for the
constraints of its columns, in any order: ours are core's own, with other validators.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckan.plugins import toolkit as tk
from ckan.types import (
    Context,
    FlattenDataDict,
    FlattenErrorDict,
    FlattenKey,
    Schema,
    Validator,
)
from ckanext.tabledesigner import validators as core
from ckanext.tabledesigner.interfaces import ColumnConstraint

from ckanext.bigquery_datastore.backend.table import naming

# isort: split
# Behind the interfaces: core's modules import each other, which goes well in this order only.
from ckanext.tabledesigner.column_constraints import PatternConstraint, RangeConstraint

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend.designer import checks
from ckanext.bigquery_datastore.backend.designer.rules import comparable
from ckanext.bigquery_datastore.backend.table import types


def check_type(
    key: FlattenKey, data: FlattenDataDict, errors: FlattenErrorDict, context: Context
) -> None:
    """That a column of this type could hold the value."""
    name = _beside(key, data, "type")
    type_ = naming.of_name(str(name))
    try:
        if type_ is not None:  # or else datastore_create says so
            type_.write(data[key])
    except types.BadValue:
        errors[key].append(tk._("Invalid constraint for type: %s") % name)
        raise tk.StopOnError from None


def compare_minimum(
    key: FlattenKey, data: FlattenDataDict, errors: FlattenErrorDict, context: Context
) -> None:
    """That the value is not below ``tdminimum``, by the order of the column's type."""
    type_, minimum = (
        naming.of_name(str(_beside(key, data, "type"))),
        _beside(key, data, "tdminimum"),
    )
    if type_ is None or minimum is None:
        return
    try:
        is_below = comparable(type_, data[key]) < comparable(type_, minimum)
    except types.BadValue:
        return  # said at the minimum
    if is_below:
        errors[key].append(tk._("Less than minumum"))
        raise tk.StopOnError


def check_pattern(value: str) -> str:
    """That BigQuery can use the regular expression."""
    if not checks.is_expression(clients.bigquery_ro(), value):
        raise tk.Invalid(tk._("Invalid regular expression"))
    return value


def _beside(key: FlattenKey, data: FlattenDataDict, name: str) -> Any:
    """Another value of the same field; None where there is none."""
    value = data.get((*key[:-1], name))
    return None if value is tk.missing else value


_OURS: Mapping[Any, Any] = {
    core.tabledesigner_check_type: check_type,
    core.tabledesigner_compare_minimum: compare_minimum,
    core.tabledesigner_check_pattern: check_pattern,
}


class _CheckedHere(ColumnConstraint):
    @classmethod
    def datastore_field_schema(cls, td_ignore: Validator, td_pd: Validator) -> Schema:
        schema: Mapping[str, Any] = super().datastore_field_schema(td_ignore, td_pd)
        return {
            name: [_OURS.get(validator, validator) for validator in validators]
            for name, validators in schema.items()
        }


class BigQueryRange(_CheckedHere, RangeConstraint):
    """Minimum and maximum."""


class BigQueryPattern(_CheckedHere, PatternConstraint):
    """A regular expression of BigQuery's kind."""


_INSTEAD: Mapping[type[ColumnConstraint], type[ColumnConstraint]] = {
    RangeConstraint: BigQueryRange,
    PatternConstraint: BigQueryPattern,
}


def constraints(
    existing: Mapping[str, list[type[ColumnConstraint]]],
) -> dict[str, list[type[ColumnConstraint]]]:
    """Table Designer's constraints by column type, ours in the place of core's."""
    return {
        column_type: [_INSTEAD.get(kind, kind) for kind in kinds]
        for column_type, kinds in existing.items()
    }
