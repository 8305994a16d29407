"""SQL between a checked text and a value of a column's type, in both directions. Pure."""

from __future__ import annotations

from collections.abc import Callable

SqlOf = Callable[[str], str]


def cast(bq_type: str) -> SqlOf:
    return lambda sql: f"CAST({sql} AS {bq_type})"


def as_is(sql: str) -> str:
    return sql


def float_text(sql: str) -> str:
    """PostgreSQL's text: the fewest of 15, 16 and 17 digits that read back, an exponent from 1e15.

    What reads back because it is halfway between two floats does not count in PostgreSQL: a little
    more, and a little less, has to read back too. (NUMERIC ends at 1e29; beyond, one float in a
    billion is of that kind.) The nearest 16 digits of a power of two may not read back, where
    those above do: its neighbour below is nearer. Smaller numbers than 2.2e-308 keep 15 digits.
    https://github.com/postgres/postgres/blob/master/src/common/d2s.c

    BigQuery's own CAST never writes 16 digits, and all its texts take the sign from -0 (it is as
    it is in GoogleSQL's RoundTripDoubleToString: https://github.com/google/googlesql). SAFE_CAST,
    because the largest numbers do not fit any more once they are rounded. One expression, which
    may hold aggregates, and looks no further than it has to: of most floats 15 digits read back.
    """
    return (
        f"IF({sql} = 0, IF(IEEE_DIVIDE(1, {sql}) < 0, '-0', '0'), "
        f"{_float_case(**_float_parts(sql))})"
    )


def _float_parts(sql: str) -> dict[str, str]:
    return {
        "x": sql,
        "size": f"ABS({sql})",
        "sign": f"IF({sql} < 0, '-', '')",
        "a": f"FORMAT('%.15g', {sql})",
        "b": f"FORMAT('%.15e', ABS({sql}))",
    }


def _float_case(x: str, size: str, sign: str, a: str, b: str) -> str:
    def reads_back(text: str, value: str) -> str:
        return f"SAFE_CAST({text} AS FLOAT64) = {value}"

    def is_near(text: str, value: str) -> str:
        more, less = (
            reads_back(f"SAFE_CAST({text} AS NUMERIC) {little}", value)
            for little in ("+ NUMERIC '0.05'", "- NUMERIC '0.05'")
        )
        return f"IF({size} < 1e28, {more} AND {less}, {reads_back(text, value)})"

    above = (
        f"CONCAT(SUBSTR({b}, 1, 16), TRANSLATE(SUBSTR({b}, 17, 1), '0123456789', '123456789x'), "
        f"SUBSTR({b}, 18))"
    )
    return (
        f"CASE WHEN IS_NAN({x}) THEN 'NaN' "
        f"WHEN IS_INF({x}) THEN IF({x} < 0, '-Infinity', 'Infinity') "
        f"WHEN {size} < 1e15 AND {reads_back(a, x)} THEN {a} "
        f"WHEN {size} < 1e15 AND {reads_back(b, size)} THEN FORMAT('%.16g', {x}) "
        f"WHEN {size} < 1e15 THEN IF({reads_back(above, size)}, "
        f"CONCAT({sign}, {above}), FORMAT('%.17g', {x})) "
        f"WHEN {is_near(a, x)} THEN {a} "
        f"WHEN {is_near(b, size)} THEN CONCAT({sign}, {b}) "
        f"WHEN {reads_back(above, size)} THEN CONCAT({sign}, {above}) "
        f"ELSE FORMAT('%.16e', {x}) END"
    )


def document(sql: str) -> str:
    return f"IFNULL({sql}, 'null')"


def parse_json(sql: str) -> str:
    """Numbers are floats beyond 64 bits; without the mode those with more digits are refused.
    https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions#parse_json
    """
    return f"PARSE_JSON({sql}, wide_number_mode=>'round')"


def json_text(sql: str) -> str:
    # TO_JSON_STRING makes the text 'null' of a NULL.
    return f"IF({sql} IS NULL, NULL, TO_JSON_STRING({sql}))"


def formatted(function: str, pattern: str) -> SqlOf:
    return lambda sql: f"{function}('{pattern}', {sql})"
