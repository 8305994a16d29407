"""The functions that a query may call: what they take, what comes back, how GoogleSQL says it.

A row is a signature of PostgreSQL's. Of equals, the one that PostgreSQL prefers stands first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from ckanext.bigquery_datastore.backend.sql.postgres import casts, moments
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import (
    GOOGLE,
    INTEGERS,
    UNKNOWN,
    Value,
    becomes,
    cast,
    coerced,
    refused,
    unified,
)
from ckanext.bigquery_datastore.backend.sql.postgres.matching import (
    cut_out,
    literal_of,
    regexp_like,
    regexp_replace,
)
from ckanext.bigquery_datastore.backend.sql.postgres.template import say

_DELIMITERS = r""" \t\n\r\f\v!"#$%&\'()*+,\\-./:;<=>?@[]^_`{|}~«»“”„‘’‚–—…·"""
_BY_FLOAT = (
    "{} of a numeric cannot be said in GoogleSQL with PostgreSQL's digits: cast it to float8"
)


@dataclass(frozen=True)
class Row:
    """``says`` is a text of GoogleSQL, or the sentence of a refusal where ``refuses``."""

    takes: tuple[str, ...]
    gives: str
    says: str
    refuses: bool = False


def _row(signature: str, gives: str, says: str) -> tuple[str, Row]:
    name, _, kinds = signature.partition(" ")
    return name, Row(tuple(kinds.split()), gives, says)


def _digits(name: str) -> tuple[str, Row]:
    return name, Row(("numeric",), "numeric", _BY_FLOAT.format(name), refuses=True)


_ROWS = (
    # Texts
    _row("upper text", "text", "UPPER(@a)"),
    _row("lower text", "text", "LOWER(@a)"),
    _row("initcap text", "text", f"INITCAP(@a, '{_DELIMITERS}')"),
    _row("length text", "int4", "LENGTH(@a)"),
    _row("char_length text", "int4", "LENGTH(@a)"),
    _row("character_length text", "int4", "LENGTH(@a)"),
    _row("octet_length text", "int4", "BYTE_LENGTH(@a)"),
    _row("bit_length text", "int4", "BYTE_LENGTH(@a) * 8"),
    _row("reverse text", "text", "REVERSE(@a)"),
    _row("repeat text int4", "text", "REPEAT(@a, GREATEST(@b, 0))"),
    _row("replace text text text", "text", "REPLACE(@a, @b, @c)"),
    _row("translate text text text", "text", "TRANSLATE(@a, @b, @c)"),
    _row("strpos text text", "int4", "IF(@b = '', LEAST(LENGTH(@a) + 1, 1), STRPOS(@a, @b))"),
    _row("starts_with text text", "bool", "STARTS_WITH(@a, @b)"),
    _row("lpad text int4", "text", "LPAD(@a, GREATEST(@b, 0))"),
    _row("rpad text int4", "text", "RPAD(@a, GREATEST(@b, 0))"),
    _row(
        "lpad text int4 text",
        "text",
        "IF(@c = '', LEFT(@a, GREATEST(@b, 0)), LPAD(@a, GREATEST(@b, 0), IF(@c = '', ' ', @c)))",
    ),
    _row(
        "rpad text int4 text",
        "text",
        "IF(@c = '', LEFT(@a, GREATEST(@b, 0)), RPAD(@a, GREATEST(@b, 0), IF(@c = '', ' ', @c)))",
    ),
    _row("btrim text", "text", "TRIM(@a, ' ')"),
    _row("btrim text text", "text", "TRIM(@a, @b)"),
    _row("ltrim text", "text", "LTRIM(@a, ' ')"),
    _row("ltrim text text", "text", "LTRIM(@a, @b)"),
    _row("rtrim text", "text", "RTRIM(@a, ' ')"),
    _row("rtrim text text", "text", "RTRIM(@a, @b)"),
    _row("ascii text", "int4", "UNICODE(@a)"),
    _row("chr int4", "text", "CHR(@a)"),
    _row("md5 text", "text", "TO_HEX(MD5(@a))"),
    # Numbers
    *(_row(f"abs {kind}", kind, "ABS(@a)") for kind in ("float8", *INTEGERS, "numeric")),
    _row("ceil float8", "float8", "CEIL(@a)"),
    _row("ceil numeric", "numeric", "CEIL(@a)"),
    _row("ceiling float8", "float8", "CEIL(@a)"),
    _row("ceiling numeric", "numeric", "CEIL(@a)"),
    _row("floor float8", "float8", "FLOOR(@a)"),
    _row("floor numeric", "numeric", "FLOOR(@a)"),
    _row("round float8", "float8", casts.HALF_EVEN),
    _row("round numeric", "numeric", "ROUND(@a)"),
    _row("round numeric int4", "numeric", "ROUND(@a, @b)"),
    _row("trunc float8", "float8", "TRUNC(@a)"),
    _row("trunc numeric", "numeric", "TRUNC(@a)"),
    _row("trunc numeric int4", "numeric", "TRUNC(@a, @b)"),
    _row("sign float8", "float8", "SIGN(@a)"),
    _row("sign numeric", "numeric", "SIGN(@a)"),
    *(_row(f"mod {kind} {kind}", kind, "MOD(@a, @b)") for kind in (*INTEGERS, "numeric")),
    _row("sqrt float8", "float8", "SQRT(@a)"),
    _row("cbrt float8", "float8", "CBRT(@a)"),
    _row("exp float8", "float8", "EXP(@a)"),
    _row("ln float8", "float8", "LN(@a)"),
    _row("log float8", "float8", "LOG10(@a)"),
    _row("log10 float8", "float8", "LOG10(@a)"),
    _row("power float8 float8", "float8", "POW(@a, @b)"),
    _row("pow float8 float8", "float8", "POW(@a, @b)"),
    *(_digits(name) for name in ("sqrt", "exp", "ln", "log", "log10")),
    *(
        (name, Row(("numeric", "numeric"), "numeric", _BY_FLOAT.format(name), refuses=True))
        for name in ("log", "power", "pow", "div")
    ),
    _row("pi", "float8", "ACOS(-1)"),
    _row("degrees float8", "float8", "@a / 0.017453292519943295"),
    _row("radians float8", "float8", "@a * 0.017453292519943295"),
    *(
        _row(f"{name} float8", "float8", f"{name.upper()}(@a)")
        for name in ("sin", "cos", "tan", "asin", "acos", "atan")
    ),
    _row("atan2 float8 float8", "float8", "ATAN2(@a, @b)"),
    # Moments
    _row("now", "timestamptz", "CURRENT_TIMESTAMP()"),
)

TABLE: dict[str, list[Row]] = {}
for _name, _found in _ROWS:
    TABLE.setdefault(_name, []).append(_found)


def call(name: str, values: Sequence[Value]) -> Value:
    """A function of the table, or one of those below, with its arguments.

    :raises Invalid: it does not take such, or cannot be said
    """
    if name in _BY_HAND:
        return _BY_HAND[name](values)
    row = _chosen(TABLE.get(name, []), values)
    if row is None:
        given = ", ".join(value.native for value in values)
        raise refused(f"function {name}({given}) does not exist")
    if row.refuses:
        raise refused(row.says)
    parts = {
        letter: _given(value, kind)
        for letter, value, kind in zip("abcd", values, row.takes, strict=False)
    }
    return Value(say(row.says, **parts), row.gives)


def _given(value: Value, kind: str) -> exp.Expr:
    """An argument. Of an integer, ROUND and others would make a float in BigQuery."""
    tree = coerced(value, kind)
    return cast(tree, kind) if kind == "numeric" and value.kind in INTEGERS else tree


def _chosen(rows: Sequence[Row], values: Sequence[Value]) -> Row | None:
    """PostgreSQL's rule 10.2: the most that are given as they are taken; of equals, the first."""
    kinds = [value.kind for value in values]
    rows = [row for row in rows if len(row.takes) == len(kinds)]
    rows = [row for row in rows if all(map(becomes, kinds, row.takes))]
    return max(rows, key=lambda row: sum(map(_is_same, kinds, row.takes)), default=None)


def _is_same(kind: str, wanted: str) -> bool:
    return kind == wanted


# --- what is no row: any number of arguments, or literals that are read here ---------------------


def _concat(values: Sequence[Value]) -> Value:
    texts = [_or_nothing(value) for value in values]
    return Value(exp.Concat(expressions=texts, safe=False, coalesce=False), "text")


def _or_nothing(value: Value) -> exp.Expr:
    text = casts.to_text(value, casts.OUTPUTS)
    return text if value.quoted is not None else say("IFNULL(@a, '')", a=text)


def _concat_ws(values: Sequence[Value]) -> Value:
    if len(values) < 2:
        raise refused("function concat_ws with so few arguments does not exist")
    texts = [casts.to_text(value, casts.OUTPUTS) for value in values[1:]]
    array = exp.Array(expressions=texts)
    separator = coerced(values[0], "text")
    return Value(say("ARRAY_TO_STRING(@a, @b)", a=array, b=separator), "text")


def _coalesce(values: Sequence[Value]) -> Value:
    kind = unified(list(values), "COALESCE")
    first, *rest = [coerced(value, kind) for value in values]
    return Value(exp.Coalesce(this=first, expressions=rest), kind)


def _nullif(values: Sequence[Value]) -> Value:
    from ckanext.bigquery_datastore.backend.sql.postgres.comparisons import compare

    one, other = _exactly(values, 2, "nullif")
    if one.kind == UNKNOWN:
        one = Value(coerced(one, "text"), "text")
    same = compare("=", one, other)
    return Value(say("IF(@a, NULL, @b)", a=same.tree, b=one.tree), one.kind)


def _most(function: str) -> Callable[[Sequence[Value]], Value]:
    """GREATEST or LEAST, which leave NULL out: each argument stands in for those that are not."""

    def found(values: Sequence[Value]) -> Value:
        kind = unified(list(values), function)
        if kind not in GOOGLE:
            raise refused(f"{function} of {kind} cannot be said in GoogleSQL")
        trees = [coerced(value, kind) for value in values]
        if kind == "float8" and function == "LEAST":
            numbers = [say("IF(IS_NAN(@a), NULL, @a)", a=tree) for tree in trees]
            least, any_ = _of_some("LEAST", numbers), _of_some("GREATEST", trees)
            return Value(say("COALESCE(@a, @b)", a=least, b=any_), kind)
        return Value(_of_some(function, trees), kind)

    return found


def _of_some(function: str, trees: Sequence[exp.Expr]) -> exp.Expr:
    if len(trees) == 1:
        return trees[0]
    if len(trees) > 20:
        raise refused(f"{function} of more than 20 values cannot be said in GoogleSQL")
    places = [
        exp.Coalesce(
            this=tree.copy(), expressions=[o.copy() for m, o in enumerate(trees) if m != n]
        )
        for n, tree in enumerate(trees)
    ]
    kind = exp.Greatest if function == "GREATEST" else exp.Least
    return kind(this=places[0], expressions=places[1:], ignore_nulls=False)


def _side(function: str) -> Callable[[Sequence[Value]], Value]:
    """``left(x, n)``, ``right(x, n)``: of a negative number, all but so many."""

    def found(values: Sequence[Value]) -> Value:
        text, number = _exactly(values, 2, function.lower())
        a, b = _typed(text, "text", function), _typed(number, "int4", function)
        if isinstance(b, exp.Literal):
            return Value(say(f"{function}(@a, @b)", a=a, b=b), "text")
        length = "IF(@b < 0, GREATEST(LENGTH(@a) + @b, 0), @b)"
        return Value(say(f"{function}(@a, {length})", a=a, b=b), "text")

    return found


def _typed(value: Value, kind: str, function: str) -> exp.Expr:
    if not becomes(value.kind, kind):
        raise refused(f"function {function.lower()} takes no {value.native} here")
    return coerced(value, kind)


def _substr(values: Sequence[Value]) -> Value:
    """Counted from 1; what is before the first character counts, too. Of a pattern, its match."""
    if len(values) == 2 and (values[1].quoted is not None):
        return cut_out(values[0], values[1])
    if len(values) not in (2, 3):
        raise refused("function substr takes two or three arguments")
    a, b = _typed(values[0], "text", "substr"), _typed(values[1], "int4", "substr")
    is_inside = isinstance(b, exp.Literal) and int(b.name) > 0
    start = b if is_inside else say("GREATEST(@a, 1)", a=b)
    if len(values) == 2:
        return Value(say("SUBSTR(@a, @b)", a=a, b=start), "text")
    c = _typed(values[2], "int4", "substr")
    if isinstance(c, exp.Neg):
        raise refused("negative substring length not allowed")
    if is_inside:
        return Value(say("SUBSTR(@a, @b, @c)", a=a, b=start, c=c), "text")
    length = say("GREATEST(@b + @c - @d, 0)", b=b, c=c, d=start)
    return Value(say("SUBSTR(@a, @b, @c)", a=a, b=start, c=length), "text")


def _exactly(values: Sequence[Value], number: int, name: str) -> Sequence[Value]:
    if len(values) != number:
        raise refused(f"function {name} takes {number} arguments")
    return values


def _date_part(values: Sequence[Value]) -> Value:
    name, value = _exactly(values, 2, "date_part")
    return moments.date_part(literal_of(name, "A field"), value)


def _date_trunc(values: Sequence[Value]) -> Value:
    if len(values) not in (2, 3):
        raise refused("function date_trunc takes two or three arguments")
    zone = values[2] if len(values) == 3 else None
    return moments.date_trunc(literal_of(values[0], "A unit"), values[1], zone)


_BY_HAND: dict[str, Callable[[Sequence[Value]], Value]] = {
    "concat": _concat,
    "concat_ws": _concat_ws,
    "coalesce": _coalesce,
    "nullif": _nullif,
    "greatest": _most("GREATEST"),
    "least": _most("LEAST"),
    "left": _side("LEFT"),
    "right": _side("RIGHT"),
    "substr": _substr,
    "substring": _substr,
    "regexp_replace": regexp_replace,
    "regexp_like": regexp_like,
    "date_part": _date_part,
    "date_trunc": _date_trunc,
}

NAMES = frozenset({*TABLE, *_BY_HAND})
