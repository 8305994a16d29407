"""Texts of GoogleSQL with places to fill, such as ``SUBSTR(@a, @b)``, as trees. Pure."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar

import sqlglot
from sqlglot import exp

from ckanext.bigquery_datastore.errors import Invalid

#: Nodes that stand by themselves wherever they are put, though sqlglot derives them from those
#: that do not.
_ATOMS = (exp.Paren, exp.Neg, exp.Dot)

#: Operators to sqlglot, functions in GoogleSQL.
_CALLS = (exp.IntDiv, exp.Mod, exp.Pow, exp.RegexpLike)

#: Nodes that all texts of a query may have: copies of copies grow without end.
MOST_NODES = 100_000

_spent: ContextVar[list[int] | None] = ContextVar("nodes that were made", default=None)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Refuse, within, what would be made of more than ``MOST_NODES``."""
    token = _spent.set([0])
    try:
        yield
    finally:
        _spent.reset(token)


def say(text: str, **parts: exp.Expr) -> exp.Expr:
    """The tree of a text, each ``@name`` replaced by the part of that name, however often."""
    tree = _parsed(text).copy()
    places = list(tree.find_all(exp.Parameter))
    _spend(len(places))
    for name, times in Counter(place.name for place in places).items():
        if times > 1:
            _spend(times * sum(1 for _ in parts[name].walk()))
    for place in places:
        part = parts[place.name]
        filled = part.copy() if _encloses(place.parent) else apart(part)
        if place is tree:
            return filled
        place.replace(filled)
    return tree


def _spend(nodes: int) -> None:
    spent = _spent.get()
    if spent is not None:
        spent[0] += nodes
        if spent[0] > MOST_NODES:
            raise Invalid({"query": ["The query is too long to be said in GoogleSQL"]})


def apart(tree: exp.Expr) -> exp.Expr:
    """A copy that can be an operand: in parentheses where an operator would tear it."""
    tears = isinstance(tree, (exp.Binary, exp.Unary, exp.Between, exp.In, exp.Is, exp.Like))
    tears = tears and not isinstance(tree, _CALLS)
    is_negative = isinstance(tree, exp.Neg) and not isinstance(tree.this, exp.Literal)
    if (tears and not isinstance(tree, _ATOMS)) or is_negative:
        return exp.Paren(this=tree.copy())
    return tree.copy()


def _encloses(parent: exp.Expr | None) -> bool:
    """Whether what is put there has its own commas or parentheses around it."""
    return (
        parent is None
        or isinstance(parent, _CALLS)
        or (
            isinstance(parent, (exp.Func, exp.Paren, exp.Anonymous, exp.Distinct))
            and not isinstance(parent, (exp.Binary, exp.Unary, exp.Between, exp.In))
        )
    )


@functools.cache
def _parsed(text: str) -> exp.Expr:
    # Not by itself: some functions have the names of statements.
    return sqlglot.parse_one(f"SELECT {text}", read="bigquery").expressions[0].pop()
