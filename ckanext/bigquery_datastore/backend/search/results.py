"""Rows of BigQuery as datastore_search gives them: objects, lists, csv or tsv."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import simplejson

from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.lookup import Column

Rows = Sequence[Sequence[Any]]


def objects(columns: Sequence[Column], rows: Rows, milliseconds: bool) -> list[dict[str, Any]]:
    names = [column.name for column in columns]
    return [dict(zip(names, row, strict=True)) for row in lists(columns, rows, milliseconds)]


def lists(columns: Sequence[Column], rows: Rows, milliseconds: bool) -> list[list[Any]]:
    kinds = [column.type for column in columns]
    return [
        [types.read(kind, value, milliseconds) for kind, value in zip(kinds, row, strict=True)]
        for row in rows
    ]


def csv(columns: Sequence[Column], rows: Rows, milliseconds: bool) -> str:
    return _delimited(columns, rows, milliseconds, ",")


def tsv(columns: Sequence[Column], rows: Rows, milliseconds: bool) -> str:
    return _delimited(columns, rows, milliseconds, "\t")


FORMATS = {"objects": objects, "lists": lists, "csv": csv, "tsv": tsv}


def _delimited(columns: Sequence[Column], rows: Rows, milliseconds: bool, delimiter: str) -> str:
    kinds = [column.type for column in columns]
    return "".join(
        delimiter.join(
            _cell(types.csv_text(kind, value, milliseconds), delimiter)
            for kind, value in zip(kinds, row, strict=True)
        )
        + "\n"
        for row in rows
    )


def _cell(text: str | None, delimiter: str) -> str:
    """As PostgreSQL's COPY … CSV: quotes only where they are needed, and around an empty text,
    which is not NULL."""
    if text is None:
        return ""
    if text and text != "\\." and not any(char in text for char in (delimiter, '"', "\n", "\r")):
        return text
    return '"' + text.replace('"', '""') + '"'


def as_json(records: object) -> str:
    """The JSON of records, every digit of a numeric kept."""
    return simplejson.dumps(records, use_decimal=True, ensure_ascii=False, separators=(",", ":"))


def plain(records: Any) -> Any:
    """Records for callers inside CKAN: numbers as ``json.loads`` would give them."""
    if isinstance(records, list):
        return [plain(item) for item in records]
    if isinstance(records, dict):
        return {key: plain(item) for key, item in records.items()}
    return float(records) if isinstance(records, Decimal) else records
