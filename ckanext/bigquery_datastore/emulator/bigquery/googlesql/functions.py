"""Functions that BigQuery has and open-source GoogleSQL has not, by their documented signatures."""

from __future__ import annotations

from dataclasses import dataclass

from zetasql.wasi._pb2.zetasql.proto import function_pb2
from zetasql.wasi._pb2.zetasql.public import function_pb2 as public_pb2

from .types import type_of

_DOCS = "https://cloud.google.com/bigquery/docs/reference/standard-sql/"
_ANY = "ANY"


@dataclass(frozen=True)
class Function:
    """One signature. ``named`` arguments may be left out, and are never given by place."""

    name: str
    arguments: tuple[str, ...]
    returns: str
    page: str
    named: tuple[tuple[str, str], ...] = ()


FUNCTIONS = (
    Function(
        "search",
        (_ANY, "STRING"),
        "BOOL",
        f"{_DOCS}search_functions#search",
        (("json_scope", "STRING"), ("analyzer", "STRING"), ("analyzer_options", "STRING")),
    ),
    Function(
        "contains_substr",
        (_ANY, "STRING"),
        "BOOL",
        f"{_DOCS}string_functions#contains_substr",
        (("json_scope", "STRING"),),
    ),
    # A number, a date and so on is looked for by its text.
    *(
        Function(
            "contains_substr",
            (_ANY, kind),
            "BOOL",
            f"{_DOCS}string_functions#contains_substr",
            (("json_scope", "STRING"),),
        )
        for kind in ("INT64", "NUMERIC", "FLOAT64", "BOOL", "DATE", "TIMESTAMP")
    ),
)


def declared() -> list[function_pb2.FunctionProto]:
    """The functions of the table as the analyzer wants them declared."""
    by_name: dict[str, function_pb2.FunctionProto] = {}
    for function in FUNCTIONS:
        found = by_name.setdefault(
            function.name,
            function_pb2.FunctionProto(
                name_path=[function.name],
                group="bigquery",
                mode=public_pb2.FunctionEnums.SCALAR,
            ),
        )
        _sign(found.signature.add(), function)
    return list(by_name.values())


def _sign(signature: function_pb2.FunctionSignatureProto, function: Function) -> None:
    for kind in function.arguments:
        _fill(signature.argument.add(), kind)
    for name, kind in function.named:
        argument = signature.argument.add()
        _fill(argument, kind)
        argument.options.cardinality = public_pb2.FunctionEnums.OPTIONAL
        argument.options.argument_name = name
        argument.options.named_argument_kind = public_pb2.FunctionEnums.NAMED_ONLY
    _fill(signature.return_type, function.returns)


def _fill(argument: function_pb2.FunctionArgumentTypeProto, kind: str) -> None:
    argument.num_occurrences = -1
    if kind == _ANY:
        argument.kind = public_pb2.ARG_TYPE_ARBITRARY
    else:
        argument.kind = public_pb2.ARG_TYPE_FIXED
        argument.type.CopyFrom(type_of(kind))
