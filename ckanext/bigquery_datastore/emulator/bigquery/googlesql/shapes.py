"""The shape of a statement: what is left of it without the random parts of names.

Tables of CKAN are named after random ids, so that hardly a statement comes twice; its shape does.
GoogleSQL is asked for each shape once (with the same columns and parameters), at 40 ms a time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bqemulator.catalog.models import TableFieldSchema

# A path in backticks, where an export goes, or a text, which has backticks of its own.
_PLACE = re.compile(r"`[^`]*`(?:\.`[^`]*`)*|\buri\s*=\s*'[^']*'|'(?:[^'\\]|\\.)*'", re.DOTALL)
_RANDOM = re.compile(r"[0-9a-f]{8,}(?:-[0-9a-f]{4,})*")
_STAND_IN = re.compile(r"xx(\d+)xx")


@dataclass(frozen=True)
class Shape:
    """A statement with stand-ins for the random parts of its tables' names, and those parts."""

    sql: str
    parts: tuple[str, ...]

    def named(self, text: str) -> str:
        """A text about the shape, as one about the statement."""
        return _STAND_IN.sub(lambda found: self.parts[int(found[1])], text)


def shape_of(sql: str) -> Shape:
    """The shape; the statement itself where it has such a stand-in already."""
    if _STAND_IN.search(sql):
        return Shape(sql, ())
    parts: dict[str, int] = {}

    def stand_in(found: re.Match[str]) -> str:
        return f"xx{parts.setdefault(found[0], len(parts))}xx"

    def place(found: re.Match[str]) -> str:
        if found[0].startswith("uri"):
            return "uri='gs://bucket/*'"
        # Only the names of tables have dots.
        is_table = found[0].startswith("`") and "." in found[0]
        return _RANDOM.sub(stand_in, found[0]) if is_table else found[0]

    return Shape(_PLACE.sub(place, sql), tuple(parts))


def columns(fields: Sequence[TableFieldSchema]) -> tuple[object, ...]:
    """A table's columns as a value that can be compared."""
    return tuple(
        (
            field.name,
            field.type,
            field.mode,
            field.range_element_type.type if field.range_element_type else None,
            columns(field.fields),
        )
        for field in fields
    )
