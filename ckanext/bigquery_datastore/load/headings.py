"""The headings of a file as names of columns that the DataStore can have. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ckanext.bigquery_datastore.backend.table.model import ID, NAME_LIMIT

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def names(headings: Sequence[str]) -> tuple[list[str], list[str]]:
    """A name for each heading, no two alike, and a sentence for each that had to be changed.

    A heading ``_id`` stays: downloads of the DataStore have it, and it is left out.
    """
    found: list[str] = []
    told: list[str] = []
    used: set[str] = set()
    # A heading that can stay as it is has its name before one that is made alike.
    whole = {text for text in map(str.strip, headings) if text == _possible(text)}
    for number, heading in enumerate(headings, 1):
        text = heading.strip()
        base = ID if text == ID and ID not in used else _possible(text) or f"column_{number}"
        name, count = base, 1
        while name in used or (name != text and name in whole):
            count += 1
            name = f"{base[: NAME_LIMIT - len(str(count)) - 1]}_{count}"
        used.add(name)
        found.append(name)
        if name != text:
            shown = f'"{text[:NAME_LIMIT]}"' if text else "without a heading"
            told.append(f'Column {number}, {shown}, is called "{name}".')
    return found, told


def _possible(text: str) -> str:
    """The text as the DataStore can have it: no underscore or space in front, no double quote, and
    at most 63 characters."""
    plain = _CONTROL.sub(" ", text).replace('"', "'")
    return plain.lstrip("_ \u00a0").strip()[:NAME_LIMIT].strip()
