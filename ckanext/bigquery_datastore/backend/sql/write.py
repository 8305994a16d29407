"""A checked query as the text that BigQuery runs, proved by being read again. Pure.

Every name, text, number and word of the text is written here, and never as it came. The text is
then parsed as GoogleSQL: it must be the very tree that it was written from. What the parser and
the writer would see differently is refused, not run.
"""

from __future__ import annotations

import re
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.errors import SqlglotError

from ckanext.bigquery_datastore.backend.sql.parse import STUMBLES
from ckanext.bigquery_datastore.backend.sql.rules import NotAllowed, words
from ckanext.bigquery_datastore.backend.table.model import quote_name
from ckanext.bigquery_datastore.errors import Invalid

#: https://cloud.google.com/bigquery/quotas#query_jobs, with room for what an export adds
LONGEST = 900_000

#: Parts of a date or a time, as EXTRACT, the TRUNC functions and INTERVAL take them
#: (https://cloud.google.com/bigquery/docs/reference/standard-sql/timestamp_functions#extract),
#: and those of PostgreSQL's that BigQuery refuses by name.
UNITS = words(
    "MICROSECOND MICROSECONDS MILLISECOND MILLISECONDS SECOND MINUTE HOUR DAY DAYOFWEEK DAYOFYEAR "
    "WEEK ISOWEEK MONTH QUARTER YEAR ISOYEAR EPOCH DOW DOY ISODOW DECADE CENTURY MILLENNIUM "
    "DATE TIME"
)

#: Types that a value may be cast to; the names are sqlglot's.
TYPES = words(
    "BIGINT INT SMALLINT TINYINT DOUBLE FLOAT DECIMAL BIGDECIMAL TEXT VARCHAR CHAR NCHAR NVARCHAR "
    "BOOLEAN DATE TIME DATETIME TIMESTAMP TIMESTAMPTZ TIMESTAMPLTZ TIMESTAMPNTZ JSON JSONB BINARY "
    "VARBINARY INTERVAL"
)

# https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#escape_sequences
_ESCAPES = {
    **{char: f"\\{char}" for char in "\\'"},
    **dict(zip("\a\b\f\n\r\t\v", (f"\\{name}" for name in "abfnrtv"), strict=True)),
}
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_UNWRITABLE_NAME = re.compile(r"[\\`\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FUNCTION = re.compile(r"[A-Za-z_]+")
_KEYWORDS = re.compile(r"[A-Za-z]+( [A-Za-z]+)*")


def check_name(name: str) -> None:
    """Refuse a name that GoogleSQL could read as more than that."""
    if not name or _UNWRITABLE_NAME.search(name):
        raise Invalid({"query": [f"A name cannot hold these characters: {name[:100]!r}"]})


class _Writer(BigQuery.Generator):
    """sqlglot's writer of GoogleSQL, whose words are ours."""

    def identifier_sql(self, expression: exp.Identifier) -> str:
        check_name(expression.name)
        return quote_name(expression.name)

    def literal_sql(self, expression: exp.Literal) -> str:
        text = expression.name
        if not expression.is_string:
            if not _NUMBER.fullmatch(text):
                raise Invalid({"query": [f"Not a number: {text[:100]!r}"]})
            return text
        if _SURROGATE.search(text):
            raise Invalid({"query": ["A text cannot hold half of a character"]})
        return "'" + "".join(_ESCAPES.get(char, char) for char in text) + "'"

    def var_sql(self, expression: exp.Var) -> str:
        unit = expression.name.upper()
        if unit not in UNITS:
            raise Invalid({"query": [f"Not a part of a date or a time: {unit[:100]!r}"]})
        return unit

    def anonymous_sql(self, expression: exp.Anonymous) -> str:
        # sqlglot's own writer makes some, such as INSTR.
        if not _FUNCTION.fullmatch(expression.name):
            raise NotAllowed(f"Not authorized to call function {expression.name[:100]}")
        return super().anonymous_sql(expression)

    def datatype_sql(self, expression: exp.DataType) -> str:
        kind = expression.this
        if not isinstance(kind, exp.DataType.Type) or kind.name not in TYPES:
            raise Invalid({"query": ["Invalid query AST element: DataType of this name"]})
        return super().datatype_sql(expression)


def write(tree: exp.Query) -> str:
    """The text of a tree.

    :raises Invalid: it cannot be written, or would be read as something else
    """
    _check_words(tree)
    text = _text(tree)
    if len(text) > LONGEST:
        raise Invalid({"query": ["The query is too long to be said in GoogleSQL"]})
    if read(text) != tree:
        raise Invalid({"query": ["The query cannot be written as GoogleSQL"]})
    return text


def rewritten(tree: exp.Query) -> exp.Query:
    """A tree of PostgreSQL's dialect as one of GoogleSQL's: the one that is checked and run."""
    _check_words(tree)
    # sqlglot reads no LIMIT right after ROLLUP and its like.
    for select in tree.find_all(exp.Select):
        group = select.args.get("group")
        is_grouped_anew = group is not None and any(
            group.args.get(part) for part in ("rollup", "cube", "grouping_sets")
        )
        if is_grouped_anew and not select.args.get("having"):
            select.set("having", exp.Having(this=exp.true()))
    return read(_text(tree))


def read(text: str) -> exp.Query:
    """The one query of a text of GoogleSQL that was written here."""
    try:
        statements = sqlglot.parse(text, read="bigquery")
    except (SqlglotError, RecursionError, *STUMBLES) as err:
        raise Invalid({"query": ["The query cannot be written as GoogleSQL"]}) from err
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise Invalid({"query": ["Query is not a single statement"]})
    return statements[0]


def _text(tree: exp.Query) -> str:
    try:
        writer = _Writer(dialect="bigquery", comments=False, normalize_functions="upper")
        return writer.generate(tree)
    except RecursionError as err:
        raise Invalid({"query": ["The query is nested too deeply"]}) from err
    except (SqlglotError, *STUMBLES) as err:
        raise Invalid({"query": ["A function is called with the wrong arguments"]}) from err


def _check_words(tree: exp.Query) -> None:
    """Whatever is no name, text, number or unit, and yet written as it stands, is a keyword."""
    for node in tree.walk():
        if isinstance(node, (exp.Identifier, exp.Literal, exp.Var, exp.Anonymous)):
            continue
        for value in node.args.values():
            for word in value if isinstance(value, list) else [value]:
                _check_word(word)


def _check_word(word: Any) -> None:
    if isinstance(word, str) and word and not _KEYWORDS.fullmatch(word):
        raise Invalid({"query": [f"Invalid query AST element: {word[:100]!r}"]})
