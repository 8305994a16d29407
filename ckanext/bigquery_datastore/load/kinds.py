"""The kinds of files that are tables, as resources and names tell them. Pure."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Kind:
    """A kind of file: how resources call it, its types of content, its extensions.

    ``reader``: what reads it ("csv", "ndjson", "parquet" or "sheet"). ``delimiter``: the one that
    such a file has by its name.
    """

    name: str
    reader: str
    formats: tuple[str, ...]
    mimetypes: tuple[str, ...]
    extensions: tuple[str, ...]
    delimiter: str | None = None


_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

KINDS = {
    row.name: row
    for row in (
        Kind("csv", "csv", ("csv",), ("text/csv", "application/csv"), (".csv",)),
        Kind("tsv", "csv", ("tsv", "tab"), ("text/tab-separated-values",), (".tsv", ".tab"), "\t"),
        Kind(
            "ndjson",
            "ndjson",
            ("ndjson", "jsonl", "jsonlines"),
            ("application/x-ndjson", "application/jsonl", "application/x-jsonlines"),
            (".ndjson", ".jsonl"),
        ),
        Kind(
            "parquet",
            "parquet",
            ("parquet",),
            ("application/vnd.apache.parquet", "application/x-parquet"),
            (".parquet",),
        ),
        Kind("xlsx", "sheet", ("xlsx",), (_XLSX,), (".xlsx",)),
        Kind("xls", "sheet", ("xls", "excel"), ("application/vnd.ms-excel",), (".xls",)),
        Kind(
            "ods",
            "sheet",
            ("ods",),
            ("application/vnd.oasis.opendocument.spreadsheet",),
            (".ods",),
        ),
    )
}

_PACKED = (".gz", ".gzip", ".zip")
# What a packed file is called that does not tell what is in it.
_WRAPPERS = {"gz", "gzip", "zip", "application/zip", "application/gzip", "application/x-gzip"}
_DOWNLOADS = {"datastore", "datapusher"}


def kind_of_name(name: str) -> Kind | None:
    """The kind that a file's name tells, packed or not."""
    stem, extension = os.path.splitext(name.lower())
    while extension in _PACKED:
        stem, extension = os.path.splitext(stem)
    return next((kind for kind in KINDS.values() if extension in kind.extensions), None)


def kind_of_format(text: str) -> Kind | None:
    """The kind that a resource's format names: CSV, ``csv.gz``, ``.csv``, ``text/csv``."""
    words = text.strip().lower().partition(";")[0].strip()
    for kind in KINDS.values():
        if words in kind.mimetypes or words.lstrip(".") in kind.formats:
            return kind
    return kind_of_name(f"x.{words.lstrip('.')}") if words else None


def kind_of(resource: Mapping[str, Any]) -> Kind | None:
    """The kind of a resource's file, by its format, its extension or its type of content; None
    where it is no table, or is the DataStore's own download.
    """
    if resource.get("url_type") in _DOWNLOADS:
        return None
    named = str(resource.get("format") or "")
    if named and named.strip().lower() not in _WRAPPERS:
        # What is said by a person counts: a PDF is none, whatever its address looks like.
        return kind_of_format(named)
    name = file_name(str(resource.get("url") or ""))
    by_type = str(resource.get("mimetype") or ""), str(resource.get("mimetype_inner") or "")
    return kind_of_name(name) or next(filter(None, map(kind_of_format, by_type)), None)


def is_packed(resource: Mapping[str, Any]) -> bool:
    """Whether a resource's format says no more than that something is packed."""
    return str(resource.get("format") or "").strip().lower() in _WRAPPERS


def file_name(url: str) -> str:
    """The last part of an address, or of a path."""
    try:
        path = urlsplit(url).path
    except ValueError:
        path = url
    return unquote(path.rstrip("/").rpartition("/")[2])


def sheet_of(url: str) -> str | None:
    """The sheet that the fragment of an address names."""
    try:
        return unquote(urlsplit(url).fragment) or None
    except ValueError:
        return None
