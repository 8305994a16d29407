"""The ``filters`` of datastore_search and datastore_delete, as a tree of conditions.

The grammar is that of CKAN 2.12 (``ckanext/datastore/filters.py``): equality, lists, ranges
(``gt gte lt lte``), ``$and`` and ``$or``, with its limits and its sentences. CKAN 2.11 knows
equality and lists only, which mean the same there. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 10
MAX_CONDITIONS = 100
OPERATORS = ("$or", "$and")


class InvalidFilters(ValueError):
    """What is wrong with the filters; ``messages`` has a sentence for each fault."""

    def __init__(self, *messages: str) -> None:
        super().__init__("; ".join(messages))
        self.messages = list(messages)


@dataclass(frozen=True)
class Compare:
    """A condition on one column; ``op`` is eq, in, gt, gte, lt, lte (or what a client wrote)."""

    field: str
    op: str
    value: Any


@dataclass(frozen=True)
class Group:
    """All (``and``) or any (``or``) of some conditions."""

    op: str
    members: tuple[Condition, ...]


Condition = Compare | Group


def parse(filters: Any, fields: Collection[str]) -> Condition | None:
    """The condition that ``filters`` states, None for no condition.

    :raises InvalidFilters: with core's sentences
    """
    if not filters:
        return None
    if not isinstance(filters, dict) and not _is_list_of_dicts(filters):
        raise InvalidFilters("Filters must be defined as a dict or a list of dicts")
    if len(filters) >= MAX_CONDITIONS:
        raise InvalidFilters("Maximum number of filter operations exceeded")
    parser = _Parser(fields)
    if isinstance(filters, list):
        members = parser.members(filters, 1)
        found: Condition | None = _group("or", members) if members else None
    else:
        found = parser.all_of(filters, 1)
    if parser.faults:
        raise InvalidFilters(*parser.faults)
    if found is None:
        # Filters without a condition in them would find, and delete, every row.
        raise InvalidFilters(f'invalid value "{next(iter(filters), "")}"')
    return found


def fields_of(condition: Condition | None) -> dict[str, Any]:
    """Every column that a condition names, with the value it is compared to."""
    if condition is None:
        return {}
    if isinstance(condition, Compare):
        return {condition.field: condition.value}
    found: dict[str, Any] = {}
    for member in condition.members:
        found.update(fields_of(member))
    return found


def _is_list_of_dicts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _group(op: str, members: list[Condition]) -> Condition:
    """Members in one group; groups of the same kind inside it are opened up."""
    flat: list[Condition] = []
    for member in members:
        if isinstance(member, Group) and member.op == op:
            flat.extend(member.members)
        else:
            flat.append(member)
    return flat[0] if len(flat) == 1 else Group(op, tuple(flat))


class _Parser:
    """Reads filters, gathers faults, counts conditions."""

    def __init__(self, fields: Collection[str]) -> None:
        self.fields = fields
        self.faults: list[str] = []
        self.count = 0

    def members(self, items: list[dict[str, Any]], depth: int) -> list[Condition]:
        if depth > MAX_DEPTH:
            raise InvalidFilters("Maximum nesting depth for filter operations reached")
        found = [self.all_of(item, depth) for item in items]
        return [condition for condition in found if condition is not None]

    def all_of(self, item: dict[str, Any], depth: int) -> Condition | None:
        if len(item) >= MAX_CONDITIONS:
            raise InvalidFilters("Maximum number of filter operations exceeded")
        conditions: list[Condition] = []
        for key, value in item.items():
            if key.startswith("$") and not key.startswith("$$"):
                condition = self.operator(key, value, depth)
            else:
                condition = self.column(key[1:] if key.startswith("$$") else key, value)
            if condition is not None:
                conditions.append(condition)
        return _group("and", conditions) if conditions else None

    def operator(self, key: str, value: Any, depth: int) -> Condition | None:
        if key not in OPERATORS:
            self.faults.append(f"Unknown operators (must be one of $or, $and): {key}")
        elif not _is_list_of_dicts(value):
            self.faults.append(f"Filter operations must be defined as a list of dicts: {value}")
        else:
            members = self.members(value, depth + 1)
            return _group(key[1:], members) if members else None
        return None

    def column(self, name: str, value: Any) -> Condition | None:
        if isinstance(value, dict):
            compares = [self.compare(name, op, operand) for op, operand in value.items()]
            return _group("and", compares) if compares else None
        if not isinstance(value, list):
            return self.compare(name, "eq", value)
        ranges = [item for item in value if isinstance(item, dict)]
        plain = [item for item in value if not isinstance(item, dict)]
        members: list[Condition] = []
        for item in ranges:
            condition = self.column(name, item)
            if condition is not None:
                members.append(condition)
        if plain or not ranges:
            self.counted()
            # As in core, a list may be a filter of another plugin: no check of the name here.
            members.append(Compare(name, "in", plain))
        return _group("or", members)

    def counted(self) -> None:
        self.count += 1
        if self.count > MAX_CONDITIONS:
            raise InvalidFilters("Maximum number of filter operations exceeded")

    def compare(self, name: str, op: str, value: Any) -> Condition:
        self.counted()
        if name not in self.fields:
            self.faults.append(f"Unknown field: {name}")
        return Compare(name, op, value)
