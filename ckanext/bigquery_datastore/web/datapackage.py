"""A table told to machines and to people: ``datapackage.json`` and the data dictionary. Pure.

The words are those of https://specs.frictionlessdata.io/data-package/ and …/table-schema/.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ckanext.bigquery_datastore.backend.table.model import ID, Column, Table


@dataclass(frozen=True)
class Told:
    """What CKAN says of a resource and its dataset; ``url`` gives its CSV, ``size`` in bytes."""

    dataset: Mapping[str, Any]
    resource: Mapping[str, Any]
    basename: str
    url: str
    size: int | None
    crc32c: str | None


# Table Schema's type of each of BigQuery's, and its format where the usual one is not ours.
_TYPES: dict[str, dict[str, Any]] = {
    "INT64": {"type": "integer"},
    "FLOAT64": {"type": "number"},
    "NUMERIC": {"type": "number"},
    "BIGNUMERIC": {"type": "number"},
    "BOOL": {"type": "boolean", "trueValues": ["t", "True"], "falseValues": ["f", "False"]},
    "DATE": {"type": "date"},
    "TIME": {"type": "time", "format": "any"},
    "DATETIME": {"type": "datetime", "format": "any"},
    "TIMESTAMP": {"type": "datetime", "format": "any"},
    "STRING": {"type": "string"},
}


def package(table: Table, columns: Sequence[Column], told: Told) -> dict[str, Any]:
    """The descriptor of a package with one resource: the table as CSV."""
    dataset, resource = told.dataset, told.resource
    csv_file = {
        "profile": "tabular-data-resource",
        # Lower case, digits, and . _ - alone (data-resource/#name).
        "name": re.sub(r"[^a-z0-9._-]+", "-", told.basename.lower()).strip("-.") or resource["id"],
        "title": resource.get("name"),
        "description": resource.get("description"),
        "path": told.url,
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "bytes": told.size,
        "hash": f"crc32c:{told.crc32c}" if told.crc32c else None,
        "schema": {
            "fields": [_field(column) for column in columns],
            "primaryKey": list(table.primary_key) or ([ID] if table.has_id else None),
            "missingValues": [""],
        },
    }
    csv_file["schema"] = _said(csv_file["schema"])
    licence = {
        "name": dataset.get("license_id"),
        "path": dataset.get("license_url"),
        "title": dataset.get("license_title"),
    }
    return _said(
        {
            "profile": "tabular-data-package",
            "name": dataset["name"],
            "id": dataset["id"],
            "title": dataset.get("title"),
            "description": dataset.get("notes"),
            "licenses": [_said(licence)] if licence["name"] else None,
            "resources": [_said(csv_file)],
        }
    )


def dictionary(fields: Sequence[Mapping[str, Any]]) -> bytes:
    """The data dictionary as CSV, a row a column: its name, type, label, notes, and what else a
    site keeps of it. ``fields`` are core's."""
    more = sorted({key for field in fields for key in field.get("info", {})} - {"label", "notes"})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["column", "type", "label", "description", *more])
    for field in fields:
        info = field.get("info", {})
        writer.writerow(
            [
                field["id"],
                field["type"],
                info.get("label", ""),
                info.get("notes", ""),
                *(info.get(key, "") for key in more),
            ]
        )
    return out.getvalue().encode()


def _field(column: Column) -> dict[str, Any]:
    """JSON has no type of its own that takes objects, lists and plain values alike."""
    anything = {"type": "any"}
    type_ = anything if column.type.holds_json else _TYPES.get(column.bq_type, anything)
    return _said(
        {
            "name": column.name,
            **type_,
            "title": column.info.get("label"),
            "description": column.info.get("notes"),
        }
    )


def _said(found: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known."""
    return {key: value for key, value in found.items() if value not in (None, "")}
