"""GoogleSQL's reference evaluator on tables of values: what Google's own code makes of a query.

It reads no tables by itself, so a table's full name is replaced by its rows, as an array.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service_pb2
from zetasql.wasi._pb2.zetasql.proto import options_pb2, simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import type_pb2, value_pb2

from ckanext.bigquery_datastore.emulator.bigquery.googlesql.language import (
    analyzer_options,
    language_options,
)
from ckanext.bigquery_datastore.emulator.bigquery.googlesql.wasm import Service

Row = tuple[Any, ...]

_EPOCH = datetime.datetime(1970, 1, 1)
_WIDE = Context(prec=80)


@dataclass(frozen=True)
class Rows:
    """A table's rows: texts by column, in the order of ``columns`` (name -> BigQuery's type)."""

    columns: Mapping[str, str]
    rows: Sequence[Sequence[str | None]]

    def sql(self) -> str:
        kinds = ", ".join(f"`{name}` {kind}" for name, kind in self.columns.items())
        rows = ", ".join(f"({', '.join(self._literals(row))})" for row in self.rows)
        return f"(SELECT * FROM UNNEST(ARRAY<STRUCT<{kinds}>>[{rows}]))"

    def union(self) -> str:
        """The same without an array."""
        named = [
            ", ".join(
                f"{literal} AS `{name}`"
                for literal, name in zip(self._literals(row), self.columns, strict=True)
            )
            for row in self.rows
        ]
        return f"({' UNION ALL '.join(f'SELECT {row}' for row in named)})"

    def _literals(self, row: Sequence[str | None]) -> list[str]:
        return [
            f"CAST({'NULL' if text is None else _quoted(text)} AS {kind})"
            for text, kind in zip(row, self.columns.values(), strict=True)
        ]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def evaluate(sql: str, tables: Mapping[str, Rows]) -> list[Row]:
    """The rows of a query; ``tables`` by their names as the query has them.

    :raises Refusal: GoogleSQL refuses it, or fails while it runs
    """
    for name, rows in tables.items():
        sql = sql.replace(name, rows.sql())
    request = service_pb2.EvaluateQueryRequest(sql=sql)
    options, catalog = _ground()
    request.options.CopyFrom(options)
    request.simple_catalog.CopyFrom(catalog)
    answer = _service().call("EvaluateQuery", request, service_pb2.EvaluateQueryResponse)
    kinds = [column.type.type_kind for column in answer.prepared.columns]
    return [
        tuple(_value(cell, kind) for cell, kind in zip(row.cell, kinds, strict=True))
        for row in answer.content.table_data.row
    ]


@functools.cache
def _service() -> Service:
    return Service()


@functools.cache
def _ground() -> tuple[options_pb2.AnalyzerOptionsProto, simple_catalog_pb2.SimpleCatalogProto]:
    language = language_options(_service())
    catalog = simple_catalog_pb2.SimpleCatalogProto(name="bigquery")
    catalog.builtin_function_options.language_options.CopyFrom(language)
    return analyzer_options(language), catalog


def _value(cell: value_pb2.ValueProto, kind: int) -> Any:
    name = cell.WhichOneof("value")
    if name is None:
        return None
    value = getattr(cell, name)
    if name == "date_value":
        return (_EPOCH + datetime.timedelta(days=value)).date()
    if name == "datetime_value":
        return _datetime(value.bit_field_datetime_seconds, value.nanos)
    if name == "timestamp_value":
        moment = _EPOCH + datetime.timedelta(
            seconds=value.seconds, microseconds=value.nanos // 1000
        )
        return moment.replace(tzinfo=datetime.timezone.utc)
    if name == "time_value":
        seconds, nanos = value >> 30, value & (2**30 - 1)
        return datetime.time(seconds >> 12, seconds >> 6 & 63, seconds & 63, nanos // 1000)
    if name in ("numeric_value", "bignumeric_value"):
        digits = 9 if kind == type_pb2.TYPE_NUMERIC else 38
        return Decimal(int.from_bytes(value, "little", signed=True)).scaleb(-digits, _WIDE)
    return value


def _datetime(bits: int, nanos: int) -> datetime.datetime:
    """https://github.com/google/googlesql/blob/master/googlesql/public/civil_time.h"""
    year, month, day = bits >> 26, bits >> 22 & 15, bits >> 17 & 31
    hour, minute, second = bits >> 12 & 31, bits >> 6 & 63, bits & 63
    return datetime.datetime(year, month, day, hour, minute, second, nanos // 1000)
