"""BigQuery's SQL where DuckDB, and bqemulator's translation, give other text or none.

A statement's tree is changed before bqemulator translates it: what DuckDB would answer
differently becomes a call of a macro of ours. The macros work on DuckDB's own text of a
value, so that one macro fits every type. SEARCH lives in ``search``.

| BigQuery | what was wrong |
|---|---|
| CAST(x AS STRING), FORMAT('%t') | 1.0, 06.5+00, 1.500000000, '1 year 2 months' |
| FORMAT('%g') and the like | -0 |
| CAST(x AS INT64) | '2.5' was 3, and 2.5 was 2: halves go away from zero, texts are whole |
| SAFE_CAST(x AS NUMERIC) | three decimals |
| TO_JSON_STRING(x), PARSE_JSON(x) | NULL for null, numbers as they are (see ``documents``) |
| FORMAT_TIMESTAMP('%E*S', '%E3S', '%E4Y') and the like | the format element was left as it is |
| ST_ASTEXT(g) | 'POINT (1 2)' |
| CONTAINS_SUBSTR(row, x), SEARCH(row, x) | refused, unknown |
| JSON_VALUE(text, path) | an escaped pair of surrogates became one character |
| @name in a string literal; BYTES, JSON, NUMERIC parameters | replaced; bound as text |
| columns without a name | 'count_star()' and not f0_ |
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import sqlglot
from bqemulator.catalog.models import TableFieldSchema
from bqemulator.jobs import executor
from bqemulator.scripting import interpreter
from bqemulator.sql import inner_query, parameters
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.expressions import Expression  # type: ignore[attr-defined]

from .floats import MACROS as FLOAT_MACROS
from .floats import Floats, compared, floats_of
from .otherwise import CONCERNED as OTHERWISE
from .otherwise import MACROS as OTHERWISE_MACROS
from .otherwise import otherwise, widened
from .search import MACROS as SEARCH_MACROS
from .search import search_call

_CONCERNED = re.compile(
    r"\b(?:CAST|SAFE_CAST|TO_JSON_STRING|PARSE_JSON|JSON_VALUE|SEARCH|CONTAINS_SUBSTR|ST_ASTEXT|FORMAT)"
    rf"\s*\(|%E[*\d]|{OTHERWISE}",
    re.IGNORECASE,
)
# Seconds with all their digits, with so many, and the year in four digits.
_EXTENDED = re.compile(r"%E(?P<digits>\*|\d)S|%E4Y")

_FRACTION = (
    "regexp_replace(regexp_replace(regexp_replace(regexp_replace({0}, "
    r"'\.(\d)(\D|$)', '.\100\2', 'g'), '\.(\d\d)(\D|$)', '.\10\2', 'g'), "
    r"'\.(\d{{4}})(\D|$)', '.\100\2', 'g'), '\.(\d{{5}})(\D|$)', '.\10\2', 'g')"
)
_PART = r"coalesce(nullif(regexp_extract(t, '(-?\d+) {0}', 1), ''), '0')"
_CLOCK = r"regexp_extract(t, '(-?)(\d+):(\d+):(\d+)(\.\d+)?$', {0})"

MACROS = (
    "emu_trimmed(t) AS CASE WHEN contains(t, '.') THEN rtrim(rtrim(t, '0'), '.') ELSE t END",
    # As many digits as make it exact, but 15 or 17, as BigQuery's open source writes them.
    "emu_float_digits(x) AS CASE WHEN x = 0 THEN '0' "
    "WHEN try_cast(printf('%.15g', x) AS DOUBLE) = x THEN printf('%.15g', x) "
    "ELSE printf('%.17g', x) END",
    "emu_float(t) AS CASE WHEN t IN ('nan', '-nan') THEN 'nan' WHEN t IN ('inf', '-inf') THEN t "
    "ELSE emu_float_digits(try_cast(t AS DOUBLE)) END",
    "emu_unsigned_zero(x) AS x + 0e0",
    "emu_digits(x) AS CAST(x AS VARCHAR)",
    f"emu_fraction(t) AS {_FRACTION.format('t')}",
    "emu_interval(t) AS CASE WHEN t IS NOT NULL THEN concat("
    f"CASE WHEN {_PART.format('year')} || {_PART.format('month')} LIKE '%-%' THEN '-' END, "
    f"ltrim({_PART.format('year')}, '-'), '-', ltrim({_PART.format('month')}, '-'), ' ', "
    f"{_PART.format('day')}, ' ', "
    f"{_CLOCK.format(1)}, coalesce(try_cast({_CLOCK.format(2)} AS BIGINT), 0), ':', "
    f"coalesce(try_cast({_CLOCK.format(3)} AS BIGINT), 0), ':', "
    f"coalesce(try_cast({_CLOCK.format(4)} AS BIGINT), 0), "
    f"emu_fraction(rtrim({_CLOCK.format(5)}, '0'))) END",
    "emu_range(t) AS emu_fraction(replace(regexp_replace(replace(t, chr(39), ''), "
    r"'^\{start: (.*), end: (.*)\}$', '[\1, \2)'), 'NULL', 'UNBOUNDED'))",
    "emu_typed(t, k) AS CASE "
    "WHEN k IN ('DOUBLE', 'FLOAT') THEN emu_float(t) "
    "WHEN k LIKE 'DECIMAL%' AND k NOT LIKE '%[]' THEN emu_trimmed(t) "
    "WHEN k IN ('TIMESTAMP WITH TIME ZONE', 'TIMESTAMP', 'TIME') THEN emu_fraction(t) "
    "WHEN k = 'INTERVAL' THEN emu_interval(t) "
    "WHEN k LIKE 'STRUCT(\"start\"%' OR k LIKE 'STRUCT(start%' THEN emu_range(t) ELSE t END",
    "emu_text(x) AS emu_typed(CAST(x AS VARCHAR), typeof(x))",
    "emu_seconds(x) AS "
    r"regexp_extract(CAST(x AS VARCHAR), ':(\d\d(?:\.\d+)?)(?:[+-]\d\d(?::\d\d)?)?$', 1)",
    "emu_seconds_to(x, n) AS concat(regexp_extract(emu_seconds(x), '^\\d+'), '.', "
    "left(rpad(regexp_extract(emu_seconds(x), '\\.(\\d+)', 1), n, '0'), n))",
    "emu_year(x) AS lpad(CAST(year(x) AS VARCHAR), 4, '0')",
    "emu_json(x) AS coalesce(CASE "
    "WHEN typeof(x) IN ('DOUBLE', 'FLOAT') AND isfinite(try_cast(CAST(x AS VARCHAR) AS DOUBLE)) "
    "THEN emu_text(x) "
    "WHEN typeof(x) IN ('DOUBLE', 'FLOAT', 'INTERVAL') THEN '\"' || emu_text(x) || '\"' "
    "WHEN typeof(x) LIKE 'DECIMAL%' AND typeof(x) NOT LIKE '%[]' THEN "
    "emu_written(CAST(x AS VARCHAR), typeof(x)) "
    "WHEN typeof(x) = 'TIMESTAMP' THEN '\"' || replace(emu_text(x), ' ', 'T') || '\"' "
    "WHEN typeof(x) = 'BIGINT' AND abs(try_cast(CAST(x AS VARCHAR) AS HUGEINT)) > "
    "9007199254740992 THEN '\"' || CAST(x AS VARCHAR) || '\"' "
    "WHEN typeof(x) = 'TIMESTAMP WITH TIME ZONE' THEN "
    "'\"' || replace(regexp_replace(emu_text(x), '[+]00$', 'Z'), ' ', 'T') || '\"' "
    "WHEN typeof(x) = 'JSON' THEN emu_parsed(CAST(x AS VARCHAR), 'round') "
    "WHEN typeof(x) LIKE '%[]' OR typeof(x) LIKE 'STRUCT(%' THEN "
    "emu_written(CAST(to_json(x) AS VARCHAR), typeof(x)) "
    "WHEN typeof(x) = 'BLOB' THEN "
    "emu_written(CAST(to_json(CAST(x AS VARCHAR)) AS VARCHAR), 'BLOB') "
    "ELSE CAST(to_json(x) AS VARCHAR) END, 'null')",
    "emu_document(x) AS CAST(x AS JSON)",
    # A JSON text is read without knowledge of surrogates: each half of a pair is decoded alone.
    # https://github.com/google/zetasql/blob/master/zetasql/common/json_parser.cc (ParseHexDigits)
    "emu_halves(x) AS CASE WHEN typeof(x) = 'JSON' THEN CAST(x AS VARCHAR) ELSE regexp_replace("
    r"replace(CAST(x AS VARCHAR), '\\', '\u005c'), "
    r"'\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '\\ufffd', 'g') END",
    *(
        f"{name}(x) AS CASE WHEN typeof(x) = 'VARCHAR' THEN CASE WHEN regexp_matches(CAST(x AS "
        r"VARCHAR), '^\s*[-+]?(?:\d+|0[xX][0-9a-fA-F]+)\s*$') "
        f"THEN {cast}(CAST(x AS VARCHAR) AS BIGINT) WHEN x IS NULL THEN NULL ELSE {otherwise} END "
        f"WHEN typeof(x) IN ('DOUBLE', 'FLOAT') THEN "
        f"{cast}(round(try_cast(CAST(x AS VARCHAR) AS DOUBLE)) AS BIGINT) "
        f"WHEN typeof(x) LIKE 'DECIMAL%' THEN "
        f"{cast}(round(try_cast(CAST(x AS VARCHAR) AS DECIMAL(38, 9))) AS BIGINT) "
        f"ELSE {cast}(x AS BIGINT) END"
        for name, cast, otherwise in (
            ("emu_int", "CAST", "error('Bad int64 value: ' || CAST(x AS VARCHAR))"),
            ("emu_try_int", "TRY_CAST", "NULL"),
        )
    ),
    "emu_wkt(x) AS "
    r"regexp_replace(ST_AsText(x), '([A-Z]) \(', '\1(', 'g')",
    *FLOAT_MACROS,
    *SEARCH_MACROS,
    *OTHERWISE_MACROS,
)


def install(execute: Callable[[str], Any]) -> None:
    """Create the macros with ``execute``, and put the rewriting before bqemulator's."""
    for macro in MACROS:
        execute(f"CREATE OR REPLACE MACRO {macro}")
    original = inner_query.rewrite_and_translate_statement

    async def rewritten(bq_sql: str, **parts: Any) -> str:
        def fields_of(names: Sequence[str]) -> Sequence[TableFieldSchema] | None:
            path = [parts["project_id"], *names][-3:]
            meta = parts["ctx"].catalog.get_table(*path)
            return meta.schema_.fields if meta is not None else None

        sql: str = await original(rewrite(bq_sql, floats_of(bq_sql, fields_of)), **parts)
        return widened(sql)

    executor.rewrite_and_translate_statement = rewritten  # type: ignore[attr-defined]
    interpreter.rewrite_and_translate_statement = rewritten  # type: ignore[attr-defined]
    inner_query.rewrite_and_translate_statement = rewritten
    parameters._bind_named = bind_named
    parameters._SCALAR_CONVERTERS["BYTES"] = base64.b64decode


def rewrite(sql: str, floats: Floats | None = None) -> str:
    """``sql`` (one statement of BigQuery) with calls of our macros; untouched if none is needed."""
    if floats is None and not _CONCERNED.search(sql):
        return sql
    try:
        tree = sqlglot.parse_one(sql, read="bigquery")
    except SqlglotError:
        return sql
    if isinstance(tree, exp.Command):
        return sql
    changed = _from_below(tree.copy(), _rewritten)
    if floats is not None:
        changed = _from_below(changed, partial(compared, floats=floats))
    return changed.sql(dialect="bigquery") if changed != tree else sql


def _from_below(tree: Any, change: Callable[[Any], Expression]) -> Any:
    """Each node changed after those in it (``transform`` leaves out what is in a changed one)."""
    for node in reversed(list(tree.dfs())):
        new = change(node)
        if new is not node:
            tree = new if node is tree else tree
            node.replace(new)
    return tree


def _call(name: str, *arguments: Expression) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def _rewritten(node: Expression) -> Expression:
    if (found := otherwise(node)) is not None:
        # Its own parts are still to be looked at, itself is not.
        for part in list(found.iter_expressions()):
            part.replace(part.transform(_rewritten) if part != node else _inside(part))
        return found
    if isinstance(node, (exp.Cast, exp.TryCast)):
        return _cast(node)
    if isinstance(node, exp.ParseJSON):
        mode = "round" if "round" in str(node.args.get("expression")) else "exact"
        if isinstance(node.parent, exp.SafeFunc):
            mode = f"safe {mode}"
        text = _call("emu_parsed", node.this, exp.Literal.string(mode))
        return _call("emu_document", text)
    if isinstance(node, exp.SafeFunc) and node.this.name == "emu_document":
        return node.this.copy()
    if isinstance(node, exp.JSONFormat):
        return _call("emu_json", node.this)
    if isinstance(node, exp.JSONExtractScalar):
        node.set("this", _call("emu_halves", node.this))
        return node
    if isinstance(node, exp.Anonymous):
        if node.name.upper() == "ST_ASTEXT":
            return _call("emu_wkt", *node.expressions)
        return search_call(node) or node
    if isinstance(node, exp.Contains) and isinstance(node.this, exp.Lower):
        return _call("emu_contains", node.this.this, node.expression.this)
    if isinstance(node, exp.TimeToStr) and _EXTENDED.search(node.args["format"].name):
        return _with_extended(node)
    if isinstance(node, exp.Format):
        return _formatted(node)
    return node


def _inside(node: Expression) -> Expression:
    for part in list(node.iter_expressions()):
        part.replace(part.transform(_rewritten))
    return node


def _cast(node: exp.Cast | exp.TryCast) -> Expression:
    kind, is_plain = node.to.this, not node.args.get("format")
    if kind == exp.DataType.Type.TEXT and is_plain:
        return _call("emu_text", node.this)
    if kind == exp.DataType.Type.BIGINT and is_plain:
        return _call("emu_try_int" if isinstance(node, exp.TryCast) else "emu_int", node.this)
    if kind == exp.DataType.Type.DOUBLE and _has_decimals(node.this):
        # DuckDB rounds twice on this way, by its text once.
        node.set("this", _call("emu_digits", node.this))
        return node
    is_decimal = kind == exp.DataType.Type.DECIMAL and not node.to.expressions
    if is_decimal and isinstance(node, exp.TryCast):
        # Of a plain CAST the parameters would be taken away again, and a macro would hide from
        # bqemulator that a division has decimals.
        node.set("to", exp.DataType.build("NUMERIC(38, 9)", dialect="bigquery"))
    return node


def _has_decimals(node: Expression) -> bool:
    return isinstance(node, (exp.Add, exp.Sub, exp.Cast, exp.TryCast)) and any(
        kind.this == exp.DataType.Type.DECIMAL for kind in node.find_all(exp.DataType)
    )


def _with_extended(node: exp.TimeToStr) -> Expression:
    """A format with ``%E*S``, ``%E3S`` or ``%E4Y`` as its pieces, ours beside DuckDB's."""
    moment = node.this.this if isinstance(node.this, exp.Func) else node.this
    form = node.args["format"].name
    pieces: list[Expression] = []
    end = 0
    for found in _EXTENDED.finditer(form):
        pieces += _plain_piece(node, form[end : found.start()])
        pieces.append(_extended_piece(moment, found["digits"]))
        end = found.end()
    return exp.Concat(expressions=[*pieces, *_plain_piece(node, form[end:])])


def _plain_piece(node: exp.TimeToStr, text: str) -> list[Expression]:
    if "%" not in text:
        return [exp.Literal.string(text)] if text else []
    piece = node.copy()
    piece.set("format", exp.Literal.string(text))
    return [piece]


def _extended_piece(moment: Expression, digits: str | None) -> Expression:
    if digits is None:
        return _call("emu_year", moment)
    if digits == "*":
        return _call("emu_seconds", moment)
    return _call("emu_seconds_to", moment, exp.Literal.number(digits))


_FORMATTED = {"t": "emu_text", **dict.fromkeys("eEfFgG", "emu_unsigned_zero")}


def _formatted(node: exp.Format) -> Expression:
    """FORMAT with ``%t``: the value's text in place of it; a zero has no sign."""
    form = node.this
    if not isinstance(form, exp.Literal):
        return node
    found = re.findall(r"%%|%[-+ #0']*[\d*]*(?:\.[\d*]+)?[a-zA-Z]", form.name)
    kinds = [kind for kind in found if kind != "%%"]
    values = [
        _call(_FORMATTED[kind[-1]], value) if kind[-1] in _FORMATTED else value
        for kind, value in zip(kinds, node.expressions, strict=False)
    ]
    changed = node.copy()
    changed.set("this", exp.Literal.string(form.name.replace("%t", "%s")))
    changed.set("expressions", values)
    return changed


# -- parameters ----------------------------------------------------------------------------

_NAMED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[@$](\w+)")
_CASTS = {
    "BIGNUMERIC": "CAST(? AS DECIMAL(38, 18))",
    "NUMERIC": "CAST(? AS DECIMAL(38, 9))",
    "JSON": "CAST(? AS JSON)",
    "GEOGRAPHY": "ST_GeomFromText(?)",
    "FLOAT64": "CAST(? AS DOUBLE)",
    "INT64": "CAST(? AS BIGINT)",
}


def bind_named(sql: str, given: list[dict[str, Any]]) -> tuple[str, list[Any]]:
    """``sql`` with ``?`` for each ``@name`` outside of quotes, and the values in that order."""
    by_name = {str(parameter["name"]).lower(): parameter for parameter in given}
    values: list[Any] = []

    def place(found: re.Match[str]) -> str:
        parameter = by_name.get((found[1] or "").lower())
        if parameter is None:
            return found[0]
        value = parameters._extract_value(parameter)
        values.append(value)
        kind = str(parameter.get("parameterType", {}).get("type", "")).upper()
        if value is not None and kind in _CASTS:
            return _CASTS[kind]
        return str(parameters._placeholder_for(value, parameter))

    return _NAMED.sub(place, sql), values


# -- names of columns ----------------------------------------------------------------------


def column_names(sql: str, found: list[str]) -> list[str]:
    """The names of a SELECT's columns as BigQuery gives them: f0_, f1_ ... where none is given."""
    try:
        tree = sqlglot.parse_one(sql, read="bigquery")
    except SqlglotError:
        return found
    while isinstance(tree, exp.SetOperation):
        tree = tree.this
    if not isinstance(tree, exp.Select) or len(tree.expressions) != len(found):
        return found
    names, unnamed = [], 0
    for column, known in zip(tree.expressions, found, strict=True):
        if isinstance(column, exp.Star) or column.is_star:
            return found
        name = _name_of(column, known)
        if not name:
            name, unnamed = f"f{unnamed}_", unnamed + 1
        names.append(name)
    return names


def _name_of(column: Expression, known: str) -> str:
    if isinstance(column, (exp.Alias, exp.Column)):
        # As it is written: bqemulator writes some names in small letters.
        return column.output_name or known
    return column.expression.name if isinstance(column, exp.Dot) else ""
