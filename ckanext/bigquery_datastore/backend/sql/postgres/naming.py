"""What PostgreSQL calls an output that nobody named
(FigureColname in src/backend/parser/parse_target.c). Pure.
"""

from __future__ import annotations

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres.casts import TARGETS

NAMELESS = "?column?"

_NAMES: dict[type[exp.Expr], str] = {
    exp.AtTimeZone: "timezone",
    exp.CurrentDate: "current_date",
    exp.CurrentTimestamp: "current_timestamp",
    exp.Exists: "exists",
    exp.Extract: "extract",
    exp.Interval: "interval",
    exp.Localtimestamp: "localtimestamp",
    exp.StrPosition: "position",
    exp.Substring: "substring",
}
_TRIMS = {"LEADING": "ltrim", "TRAILING": "rtrim"}


def name_of(node: exp.Expr) -> str:
    return _found(node)[0]


def _found(node: exp.Expr) -> tuple[str, bool]:
    """The name, and whether it is one that goes before that of a type or a CASE."""
    if isinstance(node, (exp.Window, exp.Filter, exp.Paren)):
        return _found(node.this)
    if isinstance(node, exp.Column):
        return node.name, True
    if isinstance(node, exp.Anonymous):
        return node.name.lower(), True
    if isinstance(node, exp.Trim):
        return _TRIMS.get(node.text("position").upper(), "btrim"), True
    if isinstance(node, exp.Case):
        default = node.args.get("default")
        name, is_strong = _found(default) if default is not None else ("", False)
        return (name, True) if is_strong else ("case", False)
    if isinstance(node, exp.Cast):
        name, is_strong = _found(node.this)
        return (name, True) if is_strong else (_type_name(node.to), False)
    if isinstance(node, exp.Subquery):
        query = node.unnest()
        outputs = query.selects if isinstance(query, exp.Query) else []
        return (outputs[0].alias or name_of(outputs[0]), True) if outputs else (NAMELESS, False)
    if type(node) in _NAMES:
        return _NAMES[type(node)], not isinstance(node, exp.Interval)
    return NAMELESS, False


def _type_name(to: exp.DataType) -> str:
    if to.this == exp.DataType.Type.VARCHAR:
        return "varchar"
    return TARGETS.get(to.this, NAMELESS) if isinstance(to.this, exp.DataType.Type) else NAMELESS
