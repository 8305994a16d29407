"""What a view reads, by the text of its query; and whether it gives other rows by itself. Pure."""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

_LONGEST = 256 * 1024  # https://cloud.google.com/bigquery/quotas#view_limits

# With one of these, or in one of these namespaces, the same tables may give other rows a moment
# later, or rows come from elsewhere. A column of such a name does no harm: then it is not known.
# https://cloud.google.com/bigquery/docs/cached-results#cache-exceptions
_PASSING_WORDS = (
    "CURRENT_DATE CURRENT_DATETIME CURRENT_TIME CURRENT_TIMESTAMP SYSTEM_TIME "
    "SESSION_USER RAND GENERATE_UUID TABLESAMPLE AEAD KEYS ANONYMIZATION "
    "DIFFERENTIAL_PRIVACY EXTERNAL_QUERY EXTERNAL_OBJECT_TRANSFORM OBJ ML AI "
    "VECTOR_SEARCH APPENDS CHANGES INFORMATION_SCHEMA __TABLES__ __TABLES_SUMMARY__ "
    "GRAPH_TABLE"
)
_PASSING = frozenset(_PASSING_WORDS.split())

# How sqlglot's builders of functions stumble.
_STUMBLES = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)


def named(text: str, project: str) -> set[str] | None:
    """The tables and views that a view's query names, as project.dataset.table.

    None where they cannot be told, or where the same rows in them do not give the same result.
    """
    if len(text) > _LONGEST:
        return None
    try:
        tokens = sqlglot.tokenize(text, read="bigquery")
        trees = sqlglot.parse(text, read="bigquery")
    except (SqlglotError, *_STUMBLES):
        return None
    words = {
        word.upper()
        for token in tokens
        if token.token_type != TokenType.STRING
        for word in token.text.split(".")
    }
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Query) or words & _PASSING:
        return None
    inner = {cte.alias for cte in tree.find_all(exp.CTE)}
    found = set()
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier) or "*" in table.name:
            return None
        if table.db:
            found.add(f"{table.catalog or project}.{table.db}.{table.name}")
        elif table.name not in inner:
            return None
    return found
