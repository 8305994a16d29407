"""The schema in a Parquet footer: where two differ, and columns said to be more than they are.

BigQuery's export writes a TIMESTAMP as if it had no time zone, and JSON as plain text. Their bytes
in the file are right all the same: one word in the schema is enough to tell every reader.

Source: https://github.com/apache/parquet-format/blob/master/LogicalTypes.md
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import zip_longest

from ckanext.bigquery_datastore.dump.parquet import thrift
from ckanext.bigquery_datastore.errors import FooterError

# SchemaElement
_TYPE, _NAME, _CHILDREN, _CONVERTED, _LOGICAL = 1, 4, 5, 6, 10
_BYTE_ARRAY = 6
# ConvertedType, the older way to say what LogicalType says
_CONVERTED_LIST, _CONVERTED_JSON = 3, 19
_CONVERTED_TIMESTAMPS = {1: 9, 2: 10}  # by TimeUnit: milliseconds, microseconds
# LogicalType
_STRING, _LIST, _TIMESTAMP, _JSON = 1, 3, 8, 12
# TimestampType
_IS_UTC, _UNIT = 1, 2

# Between a list and what it holds: a repeated group, and the element in it.
_LIST_LEVELS = 2

# BigQuery nests 15 deep, and a list is two more levels.
_DEEPEST = 100


@dataclass(frozen=True)
class Element:
    """One node of the schema's tree, with its path in the table (see ``mark``)."""

    fields: thrift.Fields
    name: str = ""
    path: tuple[str, ...] = ()

    def number(self, field: int) -> int | None:
        """The number in a field, None where the element does not have it."""
        _, value = self.fields.get(field, (thrift.STOP, b""))
        return thrift.integer(value, 0)[0] if value else None

    def logical(self) -> tuple[int | None, bytes]:
        """Which LogicalType this is, and the struct in which it says more; None for none."""
        _, value = self.fields.get(_LOGICAL, (thrift.STOP, b"\0"))
        members, _ = thrift.struct(value, 0)
        for member, (_, content) in members.items():
            return member, content
        return None, b""

    def is_list(self) -> bool:
        return self.number(_CONVERTED) == _CONVERTED_LIST or self.logical()[0] == _LIST

    def called(self, converted: int | None, logical: thrift.Fields) -> Element:
        """The same element as another logical type."""
        fields = self.fields | {_LOGICAL: (thrift.STRUCT, thrift.put_struct(logical))}
        fields.pop(_CONVERTED, None)
        if converted is not None:
            fields[_CONVERTED] = thrift.I32, thrift.put_integer(converted)
        return replace(self, fields=fields)


def first_difference(schema: bytes, other: bytes) -> str:
    """The name of the first column in which two differing schemas differ."""
    for mine, theirs in zip_longest(_elements(schema), _elements(other)):
        one = mine or theirs
        if one and (mine is None or theirs is None or mine.fields != theirs.fields):
            return one.name
    return ""


def mark(schema: bytes, utc_columns: Collection[str], json_columns: Collection[str]) -> bytes:
    """``schema`` with these columns as timestamps in UTC, and those as JSON.

    A column is named by its path in the table, joined by dots, in which the two levels that
    Parquet puts into a list do not count: ``visits.at`` in an ARRAY of STRUCTs. A column that is
    not there, or cannot be what it is to become, is a ``FooterError``.
    """
    wanted: dict[str, Callable[[Element], Element]] = {
        **dict.fromkeys(json_columns, _as_json),
        **dict.fromkeys(utc_columns, _as_utc),
    }
    if not wanted:
        return schema
    count, kind, _ = thrift.items(schema, 0)
    out = BytesIO()
    out.write(thrift.put_items(count, kind))
    for element in _elements(schema):
        as_wanted = wanted.pop(".".join(element.path), None) if _TYPE in element.fields else None
        out.write(thrift.put_struct((as_wanted(element) if as_wanted else element).fields))
    if wanted:
        raise FooterError(f"there is no column {min(wanted)!r}")
    return out.getvalue()


def _as_utc(element: Element) -> Element:
    logical, timestamp = element.logical()
    if logical is None and element.number(_CONVERTED) in _CONVERTED_TIMESTAMPS.values():
        return element  # which is in UTC by its definition
    if logical != _TIMESTAMP:
        raise FooterError(f"the column {element.name!r} is not a timestamp")
    says, _ = thrift.struct(timestamp, 0)
    says.pop(_IS_UTC, None)
    unit, _, _ = thrift.field(says[_UNIT][1], 0, 0) if _UNIT in says else (0, 0, 0)
    utc = thrift.put_struct({_IS_UTC: (thrift.TRUE, b"")} | says)
    return element.called(_CONVERTED_TIMESTAMPS.get(unit), {_TIMESTAMP: (thrift.STRUCT, utc)})


def _as_json(element: Element) -> Element:
    logical, _ = element.logical()
    if element.number(_TYPE) != _BYTE_ARRAY or logical not in (None, _STRING, _JSON):
        raise FooterError(f"the column {element.name!r} is not text")
    return element.called(_CONVERTED_JSON, {_JSON: (thrift.STRUCT, thrift.put_struct({}))})


def _elements(schema: bytes) -> Iterator[Element]:
    """The elements in the file's order: depth first, the root among them."""
    count, _, pos = thrift.items(schema, 0)
    # Of each open group: how many children are still to come, its path, and how many levels
    # below it have the same path.
    open_groups: list[tuple[int, tuple[str, ...], int]] = []
    for nth in range(count):
        fields, pos = thrift.struct(schema, pos)
        while open_groups and not open_groups[-1][0]:
            open_groups.pop()
        path: tuple[str, ...] = ()
        hidden = 0
        if open_groups:
            left, path, hidden = open_groups.pop()
            open_groups.append((left - 1, path, hidden))
        if len(open_groups) > _DEEPEST:
            raise FooterError(f"its columns are nested more than {_DEEPEST} deep")
        _, name = fields.get(_NAME, (thrift.BINARY, b"\0"))
        text = thrift.binary(name, 0)[0].decode(errors="replace")
        if nth and not hidden:
            path = (*path, text)
        element = Element(fields, text, path)
        yield element
        children = element.number(_CHILDREN) or 0
        if children > 0:
            if hidden == _LIST_LEVELS:
                # The repeated group. What it wraps goes by the list's own name, unless there is
                # more than one thing in it: then the group is itself the list's struct.
                hidden = int(children == 1)
            else:
                hidden = _LIST_LEVELS * element.is_list()
            open_groups.append((children, path, hidden))
