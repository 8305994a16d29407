"""Functions of regular expressions, which are read here and have to be literals. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres import patterns
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import Value, becomes, coerced, refused
from ckanext.bigquery_datastore.backend.sql.postgres.template import say


def text_of(value: Value, function: str) -> exp.Expr:
    if not becomes(value.kind, "text"):
        raise refused(f"function {function} takes no {value.native} here")
    return coerced(value, "text")


def literal_of(value: Value, what: str) -> str:
    if value.quoted is None:
        raise refused(f"{what} can only be a literal here")
    return value.quoted


def _regular(value: Value, flags: Value | None = None) -> tuple[patterns.Pattern, bool]:
    ignores_case, is_global = patterns.flags(literal_of(flags, "Flags") if flags else "")
    pattern = patterns.regular(literal_of(value, "A regular expression"), ignores_case)
    return pattern, is_global


_LENGTHS = (
    "What this regular expression matches can have more than one length, of which PostgreSQL and "
    "BigQuery take different ones: write it without alternatives and without *?, +?, ??"
)


def cut_out(text: Value, pattern: Value) -> Value:
    """``substring(x from 're')``: the first group, or the whole."""
    found, _ = _regular(pattern)
    if found.ambiguous:
        raise refused(_LENGTHS)
    re2 = exp.Literal.string(patterns.first_group_only(found.text))
    a = text_of(text, "substring")
    return Value(say("REGEXP_EXTRACT(@a, @b)", a=a, b=re2), "text")


def regexp_replace(values: Sequence[Value]) -> Value:
    """The first match alone, unless flag ``g`` is given: with what is before and after it."""
    if len(values) not in (3, 4):
        raise refused("function regexp_replace takes three or four arguments here")
    found, is_global = _regular(values[1], values[3] if len(values) == 4 else None)
    if found.ambiguous:
        raise refused(_LENGTHS)
    a, text = text_of(values[0], "regexp_replace"), literal_of(values[2], "A replacement")
    if is_global:
        re2, new = found.text, patterns.replacement(text)
    else:
        prefix = "(?is)" if found.text.startswith("(?is)") else "(?s)"
        body = found.text.removeprefix(prefix)
        if found.groups > 6:
            raise refused("A regular expression with so many groups cannot be said in GoogleSQL")
        re2 = f"{prefix}^(.*?)({body})(.*)$"
        new = f"\\1{patterns.replacement(text, 2)}\\{found.groups + 3}"
    b, c = exp.Literal.string(re2), exp.Literal.string(new)
    return Value(say("REGEXP_REPLACE(@a, @b, @c)", a=a, b=b, c=c), "text")


def regexp_like(values: Sequence[Value]) -> Value:
    if len(values) not in (2, 3):
        raise refused("function regexp_like takes two or three arguments")
    found, is_global = _regular(values[1], values[2] if len(values) == 3 else None)
    if is_global:
        raise refused('regexp_like() does not support the "global" option')
    a, b = text_of(values[0], "regexp_like"), exp.Literal.string(found.text)
    return Value(say("REGEXP_CONTAINS(@a, @b)", a=a, b=b), "bool")
