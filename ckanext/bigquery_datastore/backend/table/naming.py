"""From the name of a type to the type: a client's, or that of a stored column. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

from ckanext.bigquery_datastore.backend.table import conversion, reading, values
from ckanext.bigquery_datastore.backend.table.types import BY_ALIAS, FOREIGN, TYPES, Type
from ckanext.bigquery_datastore.backend.table.values import BadValue as BadValue

#: The API's old names of BigQuery's types.
LEGACY_NAMES = {
    "INTEGER": "INT64",
    "FLOAT": "FLOAT64",
    "BOOLEAN": "BOOL",
    "RECORD": "STRUCT",
    "DECIMAL": "NUMERIC",
    "BIGDECIMAL": "BIGNUMERIC",
}


def _write_plain_float(value: Any) -> str:
    """A float inside JSON as ``array_to_json`` writes it: 1, not 1.0; a text for NaN."""
    text = reading.float_text(float(values.floating(value)))
    return text if text[-1].isdigit() else f'"{text}"'


def array_of(element: Type) -> Type:
    """The array type that CKAN makes: a STRING with the JSON of the list."""
    write = _write_plain_float if element.bq == "FLOAT64" else element.write
    quoted = not (element.is_number or element.name == "bool")
    return Type(
        f"_{element.name}",
        f"{element.native}[]",
        "STRING",
        partial(values.array, element=write, quoted=quoted),
        read=reading.document,
        export=conversion.document,
        element=element.name,
        document=True,
    )


_MODIFIER = re.compile(r"\A(.*?)\s*\(\s*([0-9]+)\s*(?:,\s*([0-9]+)\s*)?\)\s*(.*)\Z")


def of_name(name: str) -> Type | None:
    """The type that a client asks for: ``int``, ``_text``, ``text[]``, ``varchar(20)`` …

    None for what PostgreSQL has not, or what BigQuery has no place for.
    """
    given = " ".join(str(name).lower().split())
    array = re.match(r"(.*?)\s*((\[\s*[0-9]*\s*\])+)\Z", given)
    if array:
        element = of_name(array.group(1))
        return array_of(element) if element and not element.element else None
    if given.startswith("_"):
        element = TYPES.get(given[1:])
        return array_of(element) if element else None
    modifier = _MODIFIER.match(given)
    if modifier is None:
        return BY_ALIAS.get(given)
    base, first, second, rest = modifier.groups()
    row = BY_ALIAS.get(f"{base} {rest}".strip())
    return _with_modifier(row, int(first), int(second or 0)) if row else None


def _with_modifier(row: Type, first: int, second: int) -> Type | None:
    if row.name in ("varchar", "bpchar"):
        write = values.limited_text(first)
        return replace(row, native=f"{row.native}({first})", writer=write)
    if row.name == "numeric" and 1 <= first <= 38 and second <= first:
        write = partial(values.numeric, precision=first, scale=second)
        return replace(row, native=f"numeric({first},{second})", writer=write)
    return row if row.name in ("time", "timestamp", "timestamptz") and first <= 6 else None


def of_column(bq_type: str, repeated: bool, ckan_name: str | None) -> Type:
    """The type of a stored column, by what its description says or else by BigQuery's type."""
    bq_type = LEGACY_NAMES.get(bq_type, bq_type)
    if repeated:
        element = FOREIGN.get(bq_type, FOREIGN["STRUCT"])
        return replace(
            FOREIGN["STRUCT"], name=f"_{element.name}", native=f"{element.native}[]", bq="ARRAY"
        )
    known = of_name(ckan_name) if ckan_name else None
    if known is not None and known.bq == bq_type:
        return known
    return FOREIGN.get(bq_type, FOREIGN["STRUCT"])
