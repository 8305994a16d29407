"""What a statement says of the rows that it reads, as far as columns are compared with constants.

By such conditions BigQuery leaves out partitions and blocks, and by no others. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .engine import quote_name, quote_text

Parameters = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Given:
    """A query parameter, by its name or its place from 1."""

    name: str
    place: int


Constant = Given | str | int | float | bool


@dataclass(frozen=True)
class Compared:
    """A column against constants; ``=`` against any of several."""

    column: Any  # the column's name; its number in the statement, as long as that is read
    operator: str
    constants: tuple[Constant, ...]


@dataclass(frozen=True)
class Joined:
    """Conditions that hold together, or one of which does."""

    all: bool
    parts: tuple[Condition, ...]


Condition = Compared | Joined


@dataclass(frozen=True)
class Read:
    """What is read of a table. ``columns`` None: all of them. ``is_changed``: rows change there."""

    table: str
    columns: frozenset[str] | None
    condition: Condition | None = None
    is_changed: bool = False


def about(condition: Condition | None, columns: Collection[Any]) -> Condition | None:
    """What a condition says of these columns alone; None where that is nothing."""
    if condition is None or isinstance(condition, Compared):
        return condition if condition is not None and condition.column in columns else None
    return joined(condition.all, [about(part, columns) for part in condition.parts])


def joined(all: bool, parts: Sequence[Condition | None]) -> Condition | None:
    """Conditions together, None being one that is not known: it leaves nothing of an OR."""
    found = tuple(part for part in parts if part is not None)
    if not found or (not all and len(found) < len(parts)):
        return None
    return Joined(all, found)


def renamed(condition: Condition, names: Mapping[Any, str]) -> Condition:
    """The condition with other names for its columns."""
    if isinstance(condition, Compared):
        return replace(condition, column=names[condition.column])
    return replace(condition, parts=tuple(renamed(part, names) for part in condition.parts))


def may_hold(condition: Condition | None, given: Parameters, first: int, last: int) -> bool:
    """Whether the number that a condition is about can be from ``first`` to ``last``."""
    if condition is None:
        return True
    if isinstance(condition, Joined):
        parts = (may_hold(part, given, first, last) for part in condition.parts)
        return all(parts) if condition.all else any(parts)
    try:
        numbers = [int(value) for value in _values(condition, given)]
    except ValueError:
        return True
    return any(_reaches(condition.operator, number, first, last) for number in numbers)


def _reaches(operator: str, number: int, first: int, last: int) -> bool:
    return {
        "=": first <= number <= last,
        "<": first < number,
        "<=": first <= number,
        ">": last > number,
        ">=": last >= number,
    }[operator]


def sql_of(condition: Condition, given: Parameters) -> str:
    """The condition in DuckDB's SQL."""
    if isinstance(condition, Joined):
        parts = [f"({sql_of(part, given)})" for part in condition.parts]
        return (" AND " if condition.all else " OR ").join(parts)
    column = quote_name(condition.column)
    tests = (f"{column} {condition.operator} {quote_text(v)}" for v in _values(condition, given))
    return " OR ".join(tests) or "FALSE"


def constants_of(condition: Condition, given: Parameters) -> int:
    """How many constants a condition has, parameters of arrays counted by their elements."""
    if isinstance(condition, Joined):
        return sum(constants_of(part, given) for part in condition.parts)
    return len(_values(condition, given))


def _values(condition: Compared, given: Parameters) -> list[str]:
    """The constants as texts, which DuckDB takes for values of any type; NULL equals nothing."""
    found: list[str] = []
    for constant in condition.constants:
        if isinstance(constant, Given):
            found += _texts(constant, given)
        else:
            found.append(str(constant))
    return found


def _texts(parameter: Given, given: Parameters) -> list[str]:
    by_name = {str(one.get("name") or "").lower(): one for one in given}
    one = by_name.get(parameter.name.lower()) if parameter.name else given[parameter.place - 1]
    value = (one or {}).get("parameterValue") or {}
    several = value.get("arrayValues", [value])
    return [str(item["value"]) for item in several if item.get("value") is not None]
