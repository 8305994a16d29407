"""What a download asks for, worked out before anything is asked of Google. Pure.

A plan says which SQL gives the rows, under which name the file is kept, and what the visitor is
told about it. Two requests that would get the same bytes have plans with the same target.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import quote

from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.search.select import Select
from ckanext.bigquery_datastore.backend.sql.select import SqlSelect
from ckanext.bigquery_datastore.backend.table.model import ID, Column, Table
from ckanext.bigquery_datastore.dump import features, wide
from ckanext.bigquery_datastore.dump.formats import STORED, Format
from ckanext.bigquery_datastore.dump.objects import QUERY, ROOT, SQL, WHOLE, Headers, StoredObject

# To be raised when the same plan gives other bytes than before: old files are then not found.
LAYOUT = 1


@dataclass(frozen=True)
class DumpPlan:
    """One download: ``format`` is the visitor's, ``stored`` the one that is exported for it.

    ``asked`` is when, on ``time.monotonic``; ``is_page`` that the rows fit into one page of core's
    datastore_search, and are best answered from a query at once; ``is_at_once`` that nobody had to
    be asked for the plan.
    """

    resource_id: str
    table: Table
    select: Select | SqlSelect
    format: Format
    revision: str
    modified: dt.datetime
    basename: str
    bom: bool
    is_ordered_by_default: bool
    is_whole: bool
    is_page: bool
    milliseconds: bool
    asked: float
    is_at_once: bool = False

    def again(self, asked: float, is_at_once: bool) -> DumpPlan:
        """The same for another request, with what was worked out of it before."""
        another = copy(self)
        known = {"prefix": self.prefix, "_key": self._key}
        vars(another).update(known, asked=asked, is_at_once=is_at_once)
        return another

    @property
    def stored(self) -> Format:
        return stored(self.format)

    @property
    def columns(self) -> Sequence[Column]:
        return self.select.columns

    @property
    def parameters(self) -> Sequence[Parameter]:
        return self.select.parameters

    @property
    def by_extract(self) -> bool:
        """Whether BigQuery can write these very files without a query, which is free.

        An extract takes tables only, as they are, without what sits in a streaming buffer or
        waits to be applied by change data capture.
        """
        return (
            bool(self.stored.extract_format)
            and self.is_whole
            and not self.select.order_by
            and self.columns == self.table.columns
            and self.table.kind == "TABLE"
            and not self.table.streaming_buffer
            and not self.table.has_own_key
            and all(
                self.stored.cast(column, "x", self.milliseconds) == "x" for column in self.columns
            )
        )

    def select_sql(self, ordered: bool = True) -> str:
        """The SELECT of an export. Where it is too large to be sorted, ``ordered`` is false."""
        select = self.select if ordered else replace(self.select, order_by=())
        if self.stored.of_places:
            return select.sql(outputs=features.outputs(self.columns, self.milliseconds))
        return wide.sql_of(
            select, lambda column, sql: self.stored.cast(column, sql, self.milliseconds)
        )

    def may_be_unordered(self, ordered: bool) -> bool:
        """Whether giving up the order, which nobody asked for, is a way out."""
        return ordered and self.is_ordered_by_default and bool(self.select.order_by)

    # what is written

    @cached_property
    def head(self) -> bytes:
        return self.stored.head([column.name for column in self.columns])

    @property
    def mark(self) -> bytes:
        """What ``bom`` puts before the file as it is stored."""
        return self.stored.mark if self.bom else b""

    @property
    def unmarked(self) -> DumpPlan:
        """The same file without its mark."""
        return replace(self, bom=False)

    def rewritten(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The visitor's format out of the stored one."""
        if self.format.rewrite is None:
            return chunks
        return self.format.rewrite(self.fields, chunks, self.bom, self.select.aliases)

    @property
    def footer_metadata(self) -> Mapping[str, str]:
        """The data dictionary, as a Parquet file carries it."""
        return {"ckan": json.dumps({"resource_id": self.resource_id, "fields": self.fields})}

    @property
    def footer_marks(self) -> Mapping[str, list[str]]:
        """What the exported columns are, where BigQuery's Parquet does not say so.

        JSON is not marked: Polars would then read bytes. The data dictionary tells of it.
        """
        return {"utc_columns": [path for found in self.columns for path in _timestamps(found)]}

    @property
    def fields(self) -> list[dict[str, Any]]:
        """The columns as core's datastore_search and dump tell of them."""
        return [_field(column) for column in self.columns]

    # where it is kept

    @property
    def family(self) -> str:
        """Where all files of one resource and format are."""
        return family(self.resource_id, self.format)

    @property
    def is_sql(self) -> bool:
        """Whether it is the result of SQL from outside, and no resource's."""
        return self.resource_id.startswith(SQL)

    @property
    def swept(self) -> str:
        """Where files go when this one is new: each query of SQL has a family of its own."""
        return f"{ROOT}{SQL}" if self.is_sql else self.family

    @cached_property
    def prefix(self) -> str:
        return f"{self.family}{self.revision}/{self._key}/"

    @property
    def target(self) -> str:
        return f"{self.prefix}data.{self.stored.extension}"

    @property
    def attempt(self) -> str:
        return f"{self.prefix}attempt"

    @cached_property
    def _key(self) -> str:
        """Names all that decides the bytes, beside the revision of the table."""
        decisive = repr(
            (
                LAYOUT,
                sorted(self.stored.options.items()),
                self.select_sql(),
                self.parameters,
                self.mark + self.head,
                self.footer_metadata,
            )
        )
        digest = hashlib.sha256(decisive.encode()).hexdigest()[:16]
        return f"{WHOLE if self.is_whole else QUERY}{digest}"

    # what the visitor is told

    @property
    def etag(self) -> str:
        bom = "-bom" if self.bom else ""
        return f"{self.revision}-{self._key}-{self.format.name}{bom}"

    @property
    def filename(self) -> str:
        return f"{self.basename}.{self.format.extension}"

    @property
    def content_type(self) -> str:
        return self.format.content_type

    @property
    def disposition(self) -> str:
        return disposition(self.filename)

    @property
    def headers(self) -> Headers:
        """Of the stored object, for whoever downloads it without a signed URL's own headers."""
        return Headers(
            self.stored.content_type, disposition(f"{self.basename}.{self.stored.extension}")
        )

    @property
    def labels(self) -> Mapping[str, str]:
        """https://cloud.google.com/bigquery/docs/labels-intro#requirements"""
        label = re.sub(r"[^a-z0-9_-]", "_", self.resource_id.lower())[:63]
        return {"ckan_resource": label, "ckan_format": self.stored.name.replace(".", "_")}


_TIMESTAMPS = ("ARRAY", "_timestamptz")


def _timestamps(column: Column, parent: str = "") -> Iterator[str]:
    """The dotted paths of a column's TIMESTAMPs, those inside of STRUCTs included."""
    path = f"{parent}{column.stored or column.name}"
    if column.bq_type == "TIMESTAMP" or (column.bq_type, column.ckan_type) == _TIMESTAMPS:
        yield path
    for child in column.fields:
        yield from _timestamps(child, f"{path}.")


def _field(column: Column) -> dict[str, Any]:
    names = {ID: "int", "nested": "json"}
    name = names.get(column.name) or names.get(column.ckan_type) or column.ckan_type
    return {"id": column.name, "type": name, **({"info": column.info} if column.info else {})}


def stored(format_: Format) -> Format:
    """The format that is exported for a visitor's."""
    return STORED[format_.stored_as] if format_.stored_as else format_


def family(resource_id: str, format_: Format) -> str:
    """Where all files of one resource and format are."""
    return f"{ROOT}{resource_id}/{stored(format_).name}/"


def is_whole_file(found: StoredObject) -> bool:
    """Whether this is a published file, and not the mark of one that is kept in parts."""
    name = found.name.rpartition("/")[2]
    return name.startswith("data.") and "parts" not in found.metadata


def revision(table: Table, now: dt.datetime, volatile_ttl: dt.timedelta) -> tuple[str, dt.datetime]:
    """The state of a table's rows as a name, and since when it holds. Names sort by time.

    Where BigQuery does not tell when rows were last changed, it is the bucket of time we are in.
    """
    moment = table.rows_changed or table.modified or now
    is_unseen = table.kind != "TABLE" or table.streaming_buffer
    if is_unseen and table.rows_changed is None:
        seconds = int(volatile_ttl.total_seconds())
        start = int(now.timestamp()) // seconds * seconds
        moment = max(moment, dt.datetime.fromtimestamp(start, dt.timezone.utc))
    return f"{_microseconds(moment):014x}", moment


def disposition(filename: str) -> str:
    """A Content-Disposition that every browser understands (RFC 6266, RFC 5987)."""
    plain = filename.encode("ascii", "ignore").decode() or "download"
    if plain == filename:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def basename(template: str, dataset: str, resource: str, resource_id: str) -> str:
    """A file's name after the site's template, safe for every file system."""
    filled = template.format(
        dataset=_safe(dataset), resource=_safe(resource), resource_id=_safe(resource_id)
    )
    return filled.strip("-. ")[:150] or resource_id


def _safe(name: str) -> str:
    """Letters and digits of any script stay; everything else is a dash."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.")


def _microseconds(moment: dt.datetime) -> int:
    return (moment - dt.datetime.fromtimestamp(0, dt.timezone.utc)) // dt.timedelta(microseconds=1)
