"""The type of a column that was given none, from its first value, as core guesses. Pure."""

from __future__ import annotations

import datetime
from typing import Any

_DATE_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
)


def guess(value: Any) -> str:
    """The type of a column that was not given one, from its first value, as core guesses."""
    if isinstance(value, (dict, list)):
        return "nested"
    if isinstance(value, int):  # also a bool, as in core
        return "int"
    if isinstance(value, float):
        return "float"
    for convert, name in ((int, "integer"), (float, "numeric")):
        try:
            convert(value)
            return name
        except (TypeError, ValueError):
            continue
    for pattern in _DATE_FORMATS:
        try:
            datetime.datetime.strptime(value, pattern)
            return "timestamp"
        except (TypeError, ValueError):
            continue
    return "text"
