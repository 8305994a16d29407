"""How large the parameters of an action may be: looked at before anything else is. Pure.

What is read here costs time in proportion to its length, and each refusal names the bound.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from ckanext.bigquery_datastore.errors import Invalid

#: Characters of ``q``, ``full_text``, ``language`` and ``sort`` each, where the site says nothing.
CHARACTERS = 10_000

#: Of ``fields``: BigQuery's most columns by the longest name of one
#: (https://cloud.google.com/bigquery/quotas#all_tables).
FIELDS_CHARACTERS = 10_000 * 300

#: Terms of ``sort``, words of ``q``: each is a piece of SQL.
MOST_TERMS = 100
MOST_WORDS = 200

#: Lists and objects within one another, in ``filters``. Core takes ten groups, of two levels each.
DEEPEST = 30

#: Values in ``filters``, and the characters of all of them: a request to BigQuery has 10 MB.
MOST_VALUES = 100_000
VALUES_CHARACTERS = 4_000_000

#: The same of anything else: a column's or a table's name has 300 characters, a key 16 columns.
MOST_OTHERS = 1_000
OTHERS_CHARACTERS = 10_000

#: What describes a table and its resource: 10,000 columns, each with a dictionary of some fifty
#: words and values.
_LONG: dict[str, tuple[int, int]] = dict.fromkeys(
    ("fields", "resource"), (500_000, 10 * FIELDS_CHARACTERS)
)

#: The largest INT64: what LIMIT and OFFSET can be.
LARGEST = 2**63 - 1


def check(params: Mapping[str, Any], characters: int = CHARACTERS) -> None:
    """That the parameters of a search are no larger than they may be.

    :raises Invalid: one is; it is named, and so is the bound
    """
    for key in ("q", "full_text", "language", "sort"):
        _check_texts(key, params.get(key), characters)
    _check_texts("fields", params.get("fields"), FIELDS_CHARACTERS)
    _check_nest("filters", params.get("filters"), MOST_VALUES, VALUES_CHARACTERS)
    check_others(params, {"q", "full_text", "language", "sort", "fields", "filters", "sql"})


def check_others(params: Mapping[str, Any], known: Collection[str] = ()) -> None:
    """That no parameter but the ``known`` is larger than it may be, or a number that JSON has not.

    Core's answer to what it does not know can repeat it, and CKAN's own JSON has no NaN.

    :raises Invalid: one is; it is named, and so is the bound
    """
    for key in params.keys() - known:
        most = _LONG.get(key, (MOST_OTHERS, OTHERS_CHARACTERS))
        _check_nest(key[:OTHERS_CHARACTERS], params[key], *most, is_finite=True)


def no_more(key: str, found: int, most: int, what: str) -> None:
    """:raises Invalid: there are more than ``most``"""
    if found > most:
        raise Invalid({key: [f"more than {most:,} {what}"]})


def _check_texts(key: str, value: Any, most: int) -> None:
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    texts = value if isinstance(value, (list, tuple)) else [value]
    no_more(key, sum(len(text) for text in texts if isinstance(text, str)), most, "characters")


def _check_nest(
    key: str, value: Any, most_values: int, most_characters: int, *, is_finite: bool = False
) -> None:
    """Level by level: a nest of lists may be deeper than Python's stack."""
    level = [value]
    values = groups = characters = depth = 0
    while level:
        inside = sum(isinstance(item, (Mapping, list, tuple)) for item in level)
        groups, values = groups + inside, values + len(level) - inside
        characters += sum(len(item) for item in level if isinstance(item, str))
        no_more(key, values, most_values, "values")
        no_more(key, groups, most_values, "lists and objects")
        no_more(key, characters, most_characters, "characters")
        no_more(key, depth, DEEPEST, "levels of lists and objects")
        if is_finite and any(isinstance(item, float) and not math.isfinite(item) for item in level):
            raise Invalid({key: ["not a number, or too large to be one"]})
        level = [inner for item in level for inner in _inside(item)]
        depth += 1


def _inside(item: Any) -> list[Any]:
    if isinstance(item, Mapping):
        return [*item, *item.values()]
    return list(item) if isinstance(item, (list, tuple)) else []
