"""Values that travel beside a statement and never in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """A value beside the SQL. ``type`` is BigQuery's, ``value`` its text, a tuple for an array."""

    name: str
    type: str
    value: str | tuple[str, ...]
