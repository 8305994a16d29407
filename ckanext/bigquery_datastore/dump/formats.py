"""The file formats of a dump: one row each.

A row says how BigQuery writes the shards, how their columns are cast, what stands before the first
shard, and what the visitor is told. JSON and XML have no shards of their own: their files are
written from the one form ``rows`` while they stream.

The options are those of https://cloud.google.com/bigquery/docs/reference/standard-sql/export-statements
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.model import Column
from ckanext.bigquery_datastore.dump import features, transform

BOM = b"\xef\xbb\xbf"

# The SQL of a column as it is exported; the last argument is core's ms_in_timestamp.
Cast = Callable[[Column, str, bool], str]
# The bytes before the first shard, from the names of the columns.
Head = Callable[[Sequence[str]], bytes]
# The file out of stored rows: fields as core has them, chunks of rows, ``bom``, names of the cells.
Rewrite = Callable[
    [Sequence[Mapping[str, Any]], Iterable[bytes], bool, Sequence[str]], Iterator[bytes]
]


@dataclass(frozen=True)
class Format:
    """One row. ``options`` and ``cast`` are BigQuery's part, ``head`` are the first bytes.

    ``delimiter`` marks the formats that a page of rows is written in at once, ``bom`` those that
    a spreadsheet wants a byte order mark in; ``mark`` is that mark as it stands before the whole
    file, where the file is not rewritten. ``stored_as`` names the form that the file is
    ``rewrite``-n from while it streams. ``extract_format`` is the name that extract jobs have for
    it, where whole tables may leave that way. ``of_places``: rows are features of GeoJSON, for
    which the table must say where they lie (see ``features``).
    """

    name: str
    title: str
    content_type: str
    cast: Cast
    options: Mapping[str, str | bool] = field(default_factory=dict)
    head: Head = lambda names: b""
    mark: bytes = b""
    delimiter: str = ""
    bom: bool = False
    footer: bool = False
    stored_as: str = ""
    rewrite: Rewrite | None = None
    extract_format: str = ""
    of_places: bool = False

    @property
    def extension(self) -> str:
        return self.name

    @property
    def can_be_page(self) -> bool:
        """Whether a few rows can be written at once, without an export."""
        return not self.of_places and bool(self.delimiter or self.rewrite)


# --- casts ------------------------------------------------------------------------------------


def _as_text(column: Column, sql: str, milliseconds: bool) -> str:
    """What core's CSV has for the value."""
    return types.export_text(column.type, sql, milliseconds)


def _as_it_is(column: Column, sql: str, milliseconds: bool) -> str:
    """By BigQuery's own rules."""
    return sql


# BigQuery's types that Parquet readers have no common type for. GEOGRAPHY leaves as GeoParquet:
# https://cloud.google.com/bigquery/docs/exporting-data#parquet_export_details
_PARQUET_TEXT = {
    "JSON": "IF({0} IS NULL, NULL, TO_JSON_STRING({0}))",
    "INTERVAL": "CAST({} AS STRING)",
    "RANGE": "CAST({} AS STRING)",
    "BIGNUMERIC": "CAST({} AS STRING)",
}


def _as_parquet(column: Column, sql: str, milliseconds: bool) -> str:
    return _PARQUET_TEXT.get(column.bq_type, "{}").format(sql)


# --- first bytes ------------------------------------------------------------------------------


def _header_line(delimiter: str, end: str = "\n") -> Head:
    """The names of the columns as core writes them: by Python's csv module, ended like the rows."""

    def head(names: Sequence[str]) -> bytes:
        line = io.StringIO()
        csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(names)
        return (line.getvalue().removesuffix("\r\n") + end).encode()

    return head


def _member(data: bytes) -> bytes:
    # Members of gzip may follow one another (RFC 1952 section 2.2); no time, so that the same
    # columns give the same bytes.
    return gzip.compress(data, mtime=0)


def _gzipped(head: Head) -> Head:
    return lambda names: _member(head(names))


# --- the table --------------------------------------------------------------------------------

_CSV = {"format": "CSV", "header": False, "field_delimiter": ","}
_TSV = {"format": "CSV", "header": False, "field_delimiter": "\t"}
_JSON = {"format": "JSON"}
_GZIP = {"compression": "GZIP"}

_ROWS = (
    Format(
        "csv",
        "CSV",
        "text/csv; charset=utf-8",
        _as_text,
        _CSV,
        head=_header_line(","),
        mark=BOM,
        delimiter=",",
        bom=True,
    ),
    Format(
        "tsv",
        "TSV",
        "text/tab-separated-values; charset=utf-8",
        _as_text,
        _TSV,
        head=_header_line("\t"),
        mark=BOM,
        delimiter="\t",
        bom=True,
    ),
    Format(
        "json",
        "JSON",
        "application/json; charset=utf-8",
        _as_text,
        stored_as="rows",
        rewrite=transform.to_json,
    ),
    Format(
        "xml",
        "XML",
        "text/xml; charset=utf-8",
        _as_text,
        stored_as="rows",
        rewrite=transform.to_xml,
    ),
    Format(
        "parquet",
        "Parquet",
        "application/vnd.apache.parquet",
        _as_parquet,
        {"format": "PARQUET", "compression": "SNAPPY"},
        footer=True,
        extract_format="PARQUET",
    ),
    Format(
        "ndjson",
        "NDJSON",
        "application/x-ndjson",
        _as_it_is,
        _JSON,
        extract_format="NEWLINE_DELIMITED_JSON",
    ),
    Format(
        "csv.gz",
        "CSV, compressed",
        "application/gzip",
        _as_text,
        {**_CSV, **_GZIP},
        head=_gzipped(_header_line(",")),
        mark=_member(BOM),
    ),
    Format(
        "tsv.gz",
        "TSV, compressed",
        "application/gzip",
        _as_text,
        {**_TSV, **_GZIP},
        head=_gzipped(_header_line("\t")),
        mark=_member(BOM),
    ),
    Format(
        "ndjson.gz",
        "NDJSON, compressed",
        "application/gzip",
        _as_it_is,
        {**_JSON, **_GZIP},
        extract_format="NEWLINE_DELIMITED_JSON",
    ),
    Format(
        "geojson",
        "GeoJSON",
        "application/geo+json",
        _as_it_is,
        stored_as="geojsonl",
        rewrite=features.to_collection,
        of_places=True,
    ),
    Format(
        "geojsonl",
        "GeoJSON, a feature a line",
        "application/x-ndjson",
        _as_it_is,
        _JSON,
        of_places=True,
    ),
)

# What a visitor can ask for.
FORMATS = {row.name: row for row in _ROWS}

# Forms that only other formats are written from.
STORED = {
    **FORMATS,
    "rows": Format("rows", "", "application/x-ndjson", transform.as_row_value, _JSON),
}


def offered(columns: Iterable[Column]) -> list[Format]:
    """The formats that a table with these columns can be downloaded in."""
    has_places = features.place_of(columns) is not None
    return [row for row in FORMATS.values() if has_places or not row.of_places]


def of_site(name: str, *, core_line_ends: bool, parquet_compression: str) -> Format:
    """The format of this name, as the options of a site have it.

    ``core_line_ends``: core ends the header of CSV and TSV with CR LF and their rows with LF, which
    DuckDB refuses to read. Compressed files have no counterpart in core.
    """
    row = FORMATS[name]
    if core_line_ends and row.delimiter:
        return replace(row, head=_header_line(row.delimiter, "\r\n"))
    if row.footer:
        return replace(row, options={**row.options, "compression": parquet_compression})
    return row


# Names of other exporters that scripts may know.
OLD_NAMES = {"gzip": "csv.gz"}


def delimited(rows: Iterable[Sequence[str | None]], delimiter: str) -> Iterator[bytes]:
    """Rows of text as BigQuery and PostgreSQL write them: LF, quotes where they are needed.

    None is nothing between two delimiters, an empty text is ``""``.
    """
    needs_quotes = re.compile(f'["\\r\\n{re.escape(delimiter)}]')

    def cell(text: str | None) -> str:
        if text is None:
            return ""
        if text and not needs_quotes.search(text):
            return text
        return '"' + text.replace('"', '""') + '"'

    for row in rows:
        yield (delimiter.join(map(cell, row)) + "\n").encode()
