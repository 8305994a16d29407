"""Texts of GoogleSQL with places to fill, such as ``SUBSTR(@a, @b)``, as trees. Pure."""

from __future__ import annotations

import functools
from collections import Counter

import sqlglot
from sqlglot import exp

from ckanext.bigquery_datastore.errors import Invalid

#: Nodes that stand by themselves wherever they are put, though sqlglot derives them from those
#: that do not.
_ATOMS = (exp.Paren, exp.Neg, exp.Dot)

#: Operators to sqlglot, functions in GoogleSQL.
_CALLS = (exp.IntDiv, exp.Mod, exp.Pow, exp.RegexpLike)

#: Nodes that a part may have which stands in a text more than once, all copies counted.
MOST_NODES = 5_000


def say(text: str, **parts: exp.Expr) -> exp.Expr:
    """The tree of a text, each ``@name`` replaced by the part of that name, however often."""
    tree = _parsed(text).copy()
    places = list(tree.find_all(exp.Parameter))
    for name, times in Counter(place.name for place in places).items():
        if times > 1 and times * sum(1 for _ in parts[name].walk()) > MOST_NODES:
            raise Invalid({"query": ["An expression is too long to be said in GoogleSQL"]})
    for place in places:
        part = parts[place.name]
        filled = part.copy() if _encloses(place.parent) else apart(part)
        if place is tree:
            return filled
        place.replace(filled)
    return tree


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
