"""GoogleSQL's reference evaluator: what a SELECT of ours gives where Google's own code runs it.

PyPI ``zetasql`` has it beside the analyzer that the emulator asks. It reads no table: rows come
as an array of texts, and stand in a table's place (``rows_of``).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service_pb2
from zetasql.wasi._pb2.zetasql.proto import options_pb2, simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import value_pb2

from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.emulator.bigquery.googlesql.language import (
    analyzer_options,
    language_options,
)
from ckanext.bigquery_datastore.emulator.bigquery.googlesql.types import array_of, type_of
from ckanext.bigquery_datastore.emulator.bigquery.googlesql.wasm import Service

Row = tuple[Any, ...]

_READ: Mapping[str, Any] = {
    "FLOAT64": float,
    "INT64": int,
    "BOOL": lambda text: text == "true",
    "STRING": str,
}
_FIELDS = {"FLOAT64": "double_value", "INT64": "int64_value", "BOOL": "bool_value"}


@functools.cache
def service() -> Service:
    """One instance for all tests of a process."""
    return Service()


def evaluate(sql: str, parameters: Iterable[Parameter] = ()) -> list[Row]:
    """The rows of a query whose columns are texts, whole numbers, floats or truths.

    :raises Refusal: GoogleSQL refuses it, or fails while it runs
    """
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.type not in _READ:
            # What has no plain value here comes as its text.
            typed = f"CAST(@{parameter.name} AS {parameter.type})"
            sql = re.sub(rf"@{parameter.name}\b", typed, sql)
    request = service_pb2.EvaluateQueryRequest(sql=sql)
    options, catalog = _ground()
    request.options.CopyFrom(options)
    request.simple_catalog.CopyFrom(catalog)
    for parameter in parameters:
        kind = type_of(parameter.type if parameter.type in _READ else "STRING")
        is_array = isinstance(parameter.value, tuple)
        request.options.query_parameters.add(
            name=parameter.name, type=array_of(kind) if is_array else kind
        )
        given = request.params.add(name=parameter.name)
        if isinstance(parameter.value, tuple):
            given.value.array_value.SetInParent()
            for text in parameter.value:
                _fill(given.value.array_value.element.add(), parameter.type, text)
        else:
            _fill(given.value, parameter.type, parameter.value)
    answer = service().call("EvaluateQuery", request, service_pb2.EvaluateQueryResponse)
    return [tuple(map(_value, row.cell)) for row in answer.content.table_data.row]


@functools.cache
def _ground() -> tuple[options_pb2.AnalyzerOptionsProto, simple_catalog_pb2.SimpleCatalogProto]:
    language = language_options(service())
    catalog = simple_catalog_pb2.SimpleCatalogProto(name="bigquery")
    catalog.builtin_function_options.language_options.CopyFrom(language)
    return analyzer_options(language), catalog


def _fill(value: value_pb2.ValueProto, kind: str, text: str) -> None:
    setattr(value, _FIELDS.get(kind, "string_value"), _READ.get(kind, str)(text))


def _value(cell: value_pb2.ValueProto) -> Any:
    name = cell.WhichOneof("value")
    return None if name is None else getattr(cell, name)
