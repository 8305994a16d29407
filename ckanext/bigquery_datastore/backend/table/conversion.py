"""SQL between a checked text and a value of a column's type, in both directions. Pure."""

from __future__ import annotations

from collections.abc import Callable

SqlOf = Callable[[str], str]


def cast(bq_type: str) -> SqlOf:
    return lambda sql: f"CAST({sql} AS {bq_type})"


def as_is(sql: str) -> str:
    return sql


#: From here on every FLOAT64 is a whole number, and one halfway between two of them is whole too.
_WHOLE = "9007199254740992"


def float_text(sql: str) -> str:
    """PostgreSQL's text: the fewest of 15, 16 and 17 digits that read back, an exponent from 1e15.

    What reads back because it is halfway between two floats does not count in PostgreSQL: half
    more, and half less, has to read back too. (NUMERIC ends at 1e29; beyond, one float in a
    billion is of that kind.) The nearest 16 digits of a power of two may not read back, where
    those above do: its neighbour below is nearer. Smaller numbers than 2.2e-308 keep 15 digits.
    https://github.com/postgres/postgres/blob/master/src/common/d2s.c

    BigQuery's own CAST never writes 16 digits, and all its texts take the sign from -0 (it is as
    it is in GoogleSQL's RoundTripDoubleToString: https://github.com/google/googlesql). SAFE_CAST,
    because the largest numbers do not fit any more once they are rounded.
    """

    def written(form: str) -> str:
        return f"FORMAT('{form}', {sql})"

    def reads_back(text: str, value: str = sql) -> str:
        return f"SAFE_CAST({text} AS FLOAT64) = {value}"

    def is_nearest(form: str) -> str:
        more, less = (
            reads_back(f"CAST(SAFE_CAST({written(form)} AS NUMERIC) {half} AS STRING)")
            for half in ("+ NUMERIC '0.5'", "- NUMERIC '0.5'")
        )
        return f"IF(ABS({sql}) < 1e28, {more} AND {less}, {reads_back(written(form))})"

    digits = f"FORMAT('%.15e', ABS({sql}))"
    above = (
        f"CONCAT(SUBSTR({digits}, 1, 16), "
        f"TRANSLATE(SUBSTR({digits}, 17, 1), '0123456789', '123456789x'), SUBSTR({digits}, 18))"
    )
    return (
        f"CASE WHEN IS_NAN({sql}) THEN 'NaN' "
        f"WHEN IS_INF({sql}) THEN IF({sql} > 0, 'Infinity', '-Infinity') "
        f"WHEN {sql} = 0 THEN IF(IEEE_DIVIDE(1, {sql}) < 0, '-0', '0') "
        f"WHEN ABS({sql}) < {_WHOLE} AND {reads_back(written('%.15g'))} THEN {written('%.15g')} "
        f"WHEN ABS({sql}) < 1e15 AND {reads_back(written('%.16g'))} THEN {written('%.16g')} "
        f"WHEN ABS({sql}) < {_WHOLE} AND {reads_back(written('%.15e'))} THEN {written('%.15e')} "
        f"WHEN ABS({sql}) >= {_WHOLE} AND {is_nearest('%.15g')} THEN {written('%.15g')} "
        f"WHEN ABS({sql}) >= {_WHOLE} AND {is_nearest('%.15e')} THEN {written('%.15e')} "
        f"WHEN {reads_back(above, f'ABS({sql})')} THEN CONCAT(IF({sql} < 0, '-', ''), {above}) "
        f"WHEN ABS({sql}) < 1e15 THEN {written('%.17g')} ELSE {written('%.16e')} END"
    )


def document(sql: str) -> str:
    return f"IFNULL({sql}, 'null')"


def json_text(sql: str) -> str:
    # TO_JSON_STRING makes the text 'null' of a NULL.
    return f"IF({sql} IS NULL, NULL, TO_JSON_STRING({sql}))"


def formatted(function: str, pattern: str) -> SqlOf:
    return lambda sql: f"{function}('{pattern}', {sql})"
