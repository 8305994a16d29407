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

    BigQuery's own CAST never writes 16 digits, and takes the sign from -0 (it is as it is in
    GoogleSQL's RoundTripDoubleToString: https://github.com/google/googlesql). SAFE_CAST, because
    the largest numbers do not fit any more once they are rounded.
    """

    def written(form: str) -> str:
        return f"FORMAT('{form}', {sql})"

    def if_exact(form: str) -> str:
        return f"WHEN SAFE_CAST({written(form)} AS FLOAT64) = {sql} THEN {written(form)}"

    return (
        f"CASE WHEN IS_NAN({sql}) THEN 'NaN' "
        f"WHEN IS_INF({sql}) THEN IF({sql} > 0, 'Infinity', '-Infinity') {if_exact('%.15g')} "
        f"WHEN ABS({sql}) >= 1e15 THEN CASE {if_exact('%.15e')} ELSE {written('%.16e')} END "
        f"{if_exact('%.16g')} ELSE {written('%.17g')} END"
    )


def document(sql: str) -> str:
    return f"IFNULL({sql}, 'null')"


def json_text(sql: str) -> str:
    # TO_JSON_STRING makes the text 'null' of a NULL.
    return f"IF({sql} IS NULL, NULL, TO_JSON_STRING({sql}))"


def formatted(function: str, pattern: str) -> SqlOf:
    return lambda sql: f"{function}('{pattern}', {sql})"
