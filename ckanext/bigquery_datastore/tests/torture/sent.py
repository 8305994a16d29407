"""SQL that reached BigQuery: where in it a visitor's words stand, as Google's parser reads it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from ckanext.bigquery_datastore.backend.table.model import stored_names
from ckanext.bigquery_datastore.tests.backend.sql import googlesql
from ckanext.bigquery_datastore.tests.torture.marked import BEGIN, END

_GIVEN = re.compile(f"{BEGIN}(.*?){END}", re.DOTALL)

# What the extension says to BigQuery, by the words that a statement begins with.
_MEANT = {
    "SELECT": {"QueryStatement"},
    "WITH": {"QueryStatement"},
    "(": {"QueryStatement"},
    "EXPORT": {"ExportDataStatement"},
    "INSERT": {"InsertStatement"},
    "MERGE": {"MergeStatement"},
    "UPDATE": {"UpdateStatement"},
    "DELETE": {"DeleteStatement"},
    "TRUNCATE": {"TruncateStatement"},
    "ALTER": {"AlterTableStatement"},
    "CREATE": {"CreateTableStatement", "CreateViewStatement"},
}


@dataclass(frozen=True)
class Read:
    """A statement's kinds, its quoted names, its texts, and its names without quotes."""

    kinds: list[str]
    names: list[str]
    texts: list[str]
    bare: list[str]


def read(sql: str) -> Read:
    found = Read([], [], [], [])
    for kind, node in googlesql.nodes(sql):
        if re.fullmatch("AST.+StatementProto", kind):
            found.kinds.append(kind.removeprefix("AST").removesuffix("Proto"))
        elif kind == "ASTIdentifierProto":
            (found.names if node.is_quoted else found.bare).append(node.id_string)
        elif kind == "ASTStringLiteralProto":
            found.texts.append(node.string_value)
    return found


def given_in(*texts: str) -> set[str]:
    """What stands between the marks."""
    return {found for text in texts for found in _GIVEN.findall(text)}


def fault(sql: str, given: Collection[str]) -> str:
    """What is wrong with a statement that holds a visitor's words; nothing where all is well."""
    try:
        found = read(sql)
    except googlesql.Unreadable as err:
        return f"no single statement: {err}"
    first = (re.match(r"\w+|\(", sql.strip()) or [""])[0].upper()
    if set(found.kinds) - _MEANT.get(first, set()):
        return f"more than was meant: {found.kinds}"
    placed = [*found.names, *found.texts]
    for mark in (BEGIN, END):
        # What is in neither is in a comment, or is read as SQL.
        if sql.count(mark) != sum(value.count(mark) for value in placed):
            return f"{mark} is outside of quotes"
    for value in placed:
        inside = _GIVEN.findall(value)
        if not value.count(BEGIN) == value.count(END) == len(inside):
            return f"a text is cut into pieces: {value!r}"
    wrong = [text for name in found.names for text in _GIVEN.findall(name)]
    wrong = [text for text in wrong if text not in given and text not in _stored(given)]
    wrong += [
        text for value in found.texts for text in _GIVEN.findall(value) if not _is_of(text, given)
    ]
    return f"not as given: {wrong!r}" if wrong else ""


def _stored(given: Collection[str]) -> set[str]:
    return {stored_names([f"{BEGIN}{text}{END}"])[0][len(BEGIN) : -len(END)] for text in given}


def _is_of(text: str, given: Collection[str]) -> bool:
    """Whether a text was given, as it is or as a part of JSON or a pattern."""
    return text in given or any(
        text in (json.dumps(known)[1:-1], json.dumps(known, ensure_ascii=False)[1:-1])
        for known in given
    )


def kinds(statements: Collection[str]) -> Counter[str]:
    return Counter((sql.split(None, 1) or [""])[0].upper() for sql in statements)
