"""What BigQuery's autodetect makes of a file: types from its first rows, and its header.

https://cloud.google.com/bigquery/docs/schema-detect: a column has the type that all values of up to
500 rows share, so codes such as 01067 are numbers, of JSON strings too; the first row is a header
where it is all text and the rows below are not. Nested values are not inferred here, but refused.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path

from bqemulator.catalog.models import TableFieldSchema

from ..errors import ApiError
from .load_reading import LoadOptions

_SAMPLE = 500
_TIME = r"\d{1,2}:\d{2}:\d{2}(\.\d{1,6})?"
# In this order: the first that fits all values of a column, and FLOAT where INTEGER fits some.
_TYPES = {
    "BOOLEAN": re.compile(r"true|false", re.IGNORECASE),
    "INTEGER": re.compile(r"[+-]?\d{1,18}"),
    "FLOAT": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE),
    "DATE": re.compile(r"\d{4}-\d{1,2}-\d{1,2}"),
    "TIMESTAMP": re.compile(
        rf"\d{{4}}-\d{{1,2}}-\d{{1,2}}[ T]{_TIME}( ?(Z|UTC|[+-]\d{{1,2}}(:?\d{{2}})?))?"
    ),
    "TIME": re.compile(_TIME),
}
# How columns without a header are called: int64_field_0, string_field_1 …
_NAMES = {"INTEGER": "int64", "FLOAT": "double", "BOOLEAN": "bool"}


def detected(file: Path, options: LoadOptions) -> tuple[tuple[TableFieldSchema, ...], LoadOptions]:
    """The columns of a CSV or NDJSON file; the options, with the rows to skip."""
    if options.format == "CSV":
        return _of_csv(file, options)
    columns: dict[str, list[str]] = {}
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in islice((line for line in lines if line.strip()), _SAMPLE):
            for name, value in _object(line).items():
                columns.setdefault(name, []).extend(_text(name, value))
    return tuple(_field(name, texts) for name, texts in columns.items()), options


def _of_csv(file: Path, options: LoadOptions) -> tuple[tuple[TableFieldSchema, ...], LoadOptions]:
    skipped = max(0, (options.skip_rows or 0) - 1)
    rows = list(islice(_rows(file, options), skipped, skipped + _SAMPLE + 1))
    if not rows:
        raise ApiError("invalid", "Schema has no fields. The file is empty.")
    below = [list(column) for column in zip_longest(*rows[1:], fillvalue="")]
    types = [_type(column) for column in below]
    is_text = all(_type([cell]) == "STRING" for cell in rows[0] if cell)
    has_header = options.skip_rows != 0 and is_text and any(kind != "STRING" for kind in types)
    if options.skip_rows == 0 or (options.skip_rows is None and not has_header):
        below = [list(column) for column in zip_longest(*rows, fillvalue="")]
    fields = [_field("", column) for column in below]
    names = rows[0] if has_header else ()
    named = tuple(
        field.model_copy(update={"name": name or _named(field.type, place)})
        for place, (field, name) in enumerate(zip_longest(fields, names[: len(fields)]))
    )
    skip = int(has_header) if options.skip_rows is None else options.skip_rows
    return named, replace(options, skip_rows=skip)


def _rows(file: Path, options: LoadOptions) -> Iterator[list[str]]:
    with file.open(encoding="utf-8", errors="replace", newline="") as text:
        quoting = csv.QUOTE_MINIMAL if options.quote else csv.QUOTE_NONE
        reader = csv.reader(
            text, delimiter=options.delimiter, quotechar=options.quote or None, quoting=quoting
        )
        yield from (row for row in reader if row)


def _object(line: str) -> dict[str, object]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ApiError("invalid", "Error while reading data, error message: JSON parsing error.")
    return found


def _text(name: str, value: object) -> list[str]:
    if isinstance(value, (dict, list)):
        raise ApiError(
            "notImplemented",
            f"The emulator does not infer the type of the nested field {name}: give a schema.",
        )
    if value is None:
        return []
    return [value if isinstance(value, str) else json.dumps(value)]


def _field(name: str, texts: list[str]) -> TableFieldSchema:
    return TableFieldSchema(name=name, type=_type(texts), mode="NULLABLE")


def _type(texts: list[str]) -> str:
    known = [text.strip() for text in texts if text.strip()]
    fitting = (t for t, form in _TYPES.items() if all(map(form.fullmatch, known)))
    return next(fitting, "STRING") if known else "STRING"


def _named(kind: str, place: int) -> str:
    return f"{_NAMES.get(kind, kind.lower())}_field_{place}"
