"""Names of columns as BigQuery allows them.

https://cloud.google.com/bigquery/docs/schemas#column_names (flexible column names): letters, marks
and numbers of any script, dashes, underscores, spaces and some signs; 300 characters; no two that
differ in case only; no prefix that BigQuery keeps for itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from bqemulator.catalog.models import TableFieldSchema

from ..errors import ApiError

_SIGNS = " &%=+:'<>#|"
_LONGEST = 300
_RESERVED = (
    "_TABLE_",
    "_FILE_",
    "_PARTITION",
    "_ROW_TIMESTAMP",
    "__ROOT__",
    "_COLIDENTIFIER",
    "_CHANGE_SEQUENCE_NUMBER",
    "_CHANGE_TYPE",
    "_CHANGE_TIMESTAMP",
)


def check_names(fields: Iterable[TableFieldSchema]) -> None:
    """Raise ApiError ``invalid`` for a name that BigQuery refuses, in nested fields, too."""
    seen: set[str] = set()
    for field in fields:
        name = field.name
        if name.lower() in seen:
            raise ApiError("invalid", f"Duplicate field name: {name}")
        seen.add(name.lower())
        if (
            not 0 < len(name) <= _LONGEST
            or name.upper().startswith(_RESERVED)
            or not all(map(_is_allowed, name))
        ):
            raise ApiError("invalid", f'Invalid field name "{name}".')
        check_names(field.fields)


def _is_allowed(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LMN" or category in ("Pc", "Pd") or char in _SIGNS
