"""What a resolved statement reads: of each table its columns, and what is known of its rows.

GoogleSQL itself tells the columns (it prunes those that nothing looks at). Of the conditions only
those are kept that compare a column with constants: by no others does BigQuery leave out
partitions (https://cloud.google.com/bigquery/docs/querying-partitioned-tables#query_an_integer-range_partitioned_table)
or blocks (https://cloud.google.com/bigquery/docs/querying-clustered-tables). They count where they
hold for every row that comes out of the table: in WHERE, ON of an inner join, and ON of a MERGE
that has no WHEN NOT MATCHED BY SOURCE
(https://cloud.google.com/bigquery/docs/using-dml-with-partitioned-tables#pruning_partitions_when_using_a_merge_statement).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from google.protobuf.message import Message

from ..conditions import Compared, Condition, Constant, Given, Joined, Read, about, joined, renamed

_OPERATORS = {
    "$equal": "=",
    "$in": "=",
    "$in_array": "=",
    "$less": "<",
    "$less_or_equal": "<=",
    "$greater": ">",
    "$greater_or_equal": ">=",
}
_MIRRORED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_VALUES = ("int64_value", "string_value", "double_value", "bool_value")
_CHANGES = tuple(f"resolved_{verb}_stmt_node" for verb in ("update", "delete", "merge"))
_READ = 1  # ResolvedStatementEnums.ObjectAccess, READ
_INSERT = 0  # ResolvedMergeWhenEnums.ActionType


def reads_of(statement: Message) -> tuple[Read, ...]:
    """The reads of a resolved statement, one for each place where it names a table."""
    kind = statement.WhichOneof("node") or ""
    node = getattr(statement, kind)
    changed = kind in _CHANGES and _is_more_than_insert(node)
    if kind in ("resolved_insert_stmt_node", "resolved_truncate_stmt_node"):
        messages = list(_messages(node, but="table_scan"))
    else:
        messages = list(_messages(node))
    known = [tree for tree in map(_condition, _certain(messages)) if tree is not None]
    reads = []
    for scan in messages:
        if scan.DESCRIPTOR.name != "ResolvedTableScanProto":
            continue
        names = {column.column_id: column.name for column in scan.parent.column_list}
        is_target = kind in _CHANGES and scan == node.table_scan
        columns: Collection[str] = names.values()
        if is_target and len(node.column_access_list) == len(names):
            accesses = zip(names.values(), node.column_access_list, strict=True)
            columns = [name for name, access in accesses if access & _READ]
        condition = joined(True, [_named(tree, names) for tree in known])
        reads.append(Read(_path(scan.table), frozenset(columns), condition, is_target and changed))
    return tuple(reads)


def _is_more_than_insert(node: Any) -> bool:
    """Whether rows that are there may change: a MERGE can be one that inserts alone."""
    clauses = list(getattr(node, "when_clause_list", ()))
    return not clauses or any(clause.action_type != _INSERT for clause in clauses)


def _named(condition: Condition, names: dict[int, str]) -> Condition | None:
    found = about(condition, names)
    return renamed(found, names) if found is not None else None


def _path(table: Any) -> str:
    return str(table.full_name or table.name)


def _messages(message: Message, but: str = "") -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None and field.name != but:
            for part in [value] if isinstance(value, Message) else value:
                yield from _messages(part)


def _certain(messages: Sequence[Any]) -> Iterator[Any]:
    """The expressions that hold for every row that comes out of the tables they look at."""
    for message in messages:
        name = message.DESCRIPTOR.name
        if name == "ResolvedFilterScanProto":
            yield message.filter_expr
        elif name == "ResolvedJoinScanProto" and message.join_type == 0:
            yield message.join_expr
        elif name in ("ResolvedUpdateStmtProto", "ResolvedDeleteStmtProto"):
            yield message.where_expr
        elif name == "ResolvedMergeStmtProto":
            kinds = {clause.match_type for clause in message.when_clause_list}
            by_source = message.when_clause_list[0].DESCRIPTOR.fields_by_name["match_type"]
            if by_source.enum_type.values_by_name["NOT_MATCHED_BY_SOURCE"].number not in kinds:
                yield message.merge_expr


def _node(message: Any) -> Any:
    """The message that says something: what wraps it has one field of its own."""
    while (inner := message.WhichOneof("node") if message.DESCRIPTOR.oneofs else None) is not None:
        message = getattr(message, inner)
    return message


def _condition(message: Any) -> Condition | None:
    node = _node(message)
    if node.DESCRIPTOR.name != "ResolvedFunctionCallProto":
        return None
    name = node.parent.function.name.rpartition(":")[2]
    arguments = list(node.parent.argument_list)
    if name in ("$and", "$or"):
        return joined(name == "$and", [_condition(part) for part in arguments])
    if name == "$between":
        least = _compared(">=", arguments[:2])
        most = _compared("<=", [arguments[0], arguments[2]])
        return Joined(True, (least, most)) if least and most else None
    if name in _OPERATORS:
        return _compared(_OPERATORS[name], arguments)
    return None


def _compared(operator: str, arguments: Sequence[Any]) -> Compared | None:
    column = _column(arguments[0])
    if column is None and len(arguments) == 2 and (column := _column(arguments[1])) is not None:
        arguments, operator = arguments[::-1], _MIRRORED[operator]
    constants = [_constants(argument) for argument in arguments[1:]]
    if column is None or None in constants:
        return None
    return Compared(column, operator, tuple(one for found in constants for one in found or ()))


def _column(message: Any) -> int | None:
    node = _node(message)
    if node.DESCRIPTOR.name != "ResolvedColumnRefProto" or node.is_correlated:
        return None
    return int(node.column.column_id)


def _constants(message: Any) -> tuple[Constant, ...] | None:
    """The values of a literal or a parameter, one or an array; None for what is neither."""
    node = _node(message)
    kind = node.DESCRIPTOR.name
    if kind == "ResolvedCastProto":
        return _constants(node.expr)
    if kind == "ResolvedParameterProto":
        return (Given(node.name, node.position),)
    if kind != "ResolvedLiteralProto":
        return None
    value = node.value.value
    if value.WhichOneof("value") == "array_value":
        found = [_literal(element) for element in value.array_value.element]
    else:
        found = [_literal(value)]
    return None if None in found else tuple(one for one in found if one is not None)


def _literal(value: Any) -> Constant | None:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind in _VALUES else None
