"""What BigQuery refuses and GoogleSQL's analyzer lets pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

# BigQuery has EXCEPT DISTINCT and INTERSECT DISTINCT alone
# (https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#set_operators).
_ALL = re.compile(r"\b(EXCEPT|INTERSECT)\s+ALL\b", re.IGNORECASE)


def broken_rule(sql: str, resolved: Any) -> str | None:
    """What BigQuery says to a statement that GoogleSQL has resolved; None where it says nothing."""
    return _repeated_name(resolved) or _all_of_a_set(sql, resolved)


def _repeated_name(resolved: Any) -> str | None:
    """Columns of a result have names of their own, in whatever case they are written
    (https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#duplicate_column_names).
    """
    if resolved.WhichOneof("node") != "resolved_query_stmt_node":
        return None
    columns = resolved.resolved_query_stmt_node.output_column_list
    # A name that nobody gave begins with $, and becomes f0_, f1_ and so on.
    counted = Counter(c.name.lower() for c in columns if not c.name.startswith("$"))
    repeated = [name for name, times in counted.items() if times > 1]
    if not repeated:
        return None
    return (
        "Duplicate column names in the result are not supported. "
        f"Found duplicate(s): {', '.join(repeated)}"
    )


def _all_of_a_set(sql: str, resolved: Any) -> str | None:
    found = _ALL.search(sql)
    if found is None:
        return None
    for message in _messages(resolved):
        if message.DESCRIPTOR.name == "ResolvedSetOperationScanProto":
            kind = message.DESCRIPTOR.fields_by_name["op_type"].enum_type
            name = kind.values_by_number[message.op_type].name
            if name in ("EXCEPT_ALL", "INTERSECT_ALL"):
                return f"{name.replace('_', ' ')} is not supported"
    return None


def _messages(message: Message) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _messages(part)
