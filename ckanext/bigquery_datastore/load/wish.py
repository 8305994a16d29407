"""What is asked of a load: how the file is read, and what becomes of its rows. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: What becomes of the rows that the table has: they go, they stay, or those of the same key change.
MODES = ("replace", "append", "upsert")

#: How many rows may be set aside at most: they are kept in one object, and told one by one.
MOST_BAD_ROWS = 10_000


@dataclass(frozen=True)
class Wish:
    """``skip_bad_rows``: how many may be set aside. ``types`` by column, by the DataStore's names.

    What is None is found out: the format from the file's name, encoding and delimiter from its
    head, the sheet is the first one. ``null`` stands for a missing value of a CSV beside an empty
    cell. ``day_first``: 31/12/2024 and 31.12.2024 are dates.
    """

    mode: str = "replace"
    format: str | None = None
    sheet: str | None = None
    null: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    day_first: bool = False
    skip_bad_rows: int = 0
    types: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Wish:
        known = {each.name for each in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
