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
    because the largest numbers do not fit any more once they are rounded. UNNEST gives short
    names to what is asked for often.
    """

    def reads_back(text: str, value: str) -> str:
        return f"SAFE_CAST({text} AS FLOAT64) = {value}"

    def is_near(text: str, value: str) -> str:
        more, less = (
            reads_back(f"SAFE_CAST({text} AS NUMERIC) {little}", value)
            for little in ("+ NUMERIC '0.05'", "- NUMERIC '0.05'")
        )
        return f"IF(v.size < 1e28, {more} AND {less}, {reads_back(text, value)})"

    above = (
        "CONCAT(SUBSTR(v.b, 1, 16), TRANSLATE(SUBSTR(v.b, 17, 1), '0123456789', '123456789x'), "
        "SUBSTR(v.b, 18))"
    )
    return (
        f"IF({sql} = 0, IF(IEEE_DIVIDE(1, {sql}) < 0, '-0', '0'), "
        "(SELECT CASE WHEN IS_NAN(v.x) THEN 'NaN' "
        "WHEN IS_INF(v.x) THEN IF(v.x < 0, '-Infinity', 'Infinity') "
        f"WHEN v.size < 1e15 AND {reads_back('v.a', 'v.x')} THEN v.a "
        f"WHEN v.size < 1e15 AND {reads_back('v.b', 'v.size')} THEN FORMAT('%.16g', v.x) "
        f"WHEN v.size < 1e15 THEN IF({reads_back(above, 'v.size')}, "
        f"CONCAT(v.sign, {above}), FORMAT('%.17g', v.x)) "
        f"WHEN {is_near('v.a', 'v.x')} THEN v.a "
        f"WHEN {is_near('v.b', 'v.size')} THEN CONCAT(v.sign, v.b) "
        f"WHEN {reads_back(above, 'v.size')} THEN CONCAT(v.sign, {above}) "
        f"ELSE FORMAT('%.16e', v.x) END FROM UNNEST([STRUCT({sql} AS x, ABS({sql}) AS size, "
        f"IF({sql} < 0, '-', '') AS sign, FORMAT('%.15g', {sql}) AS a, "
        f"FORMAT('%.15e', ABS({sql})) AS b)]) AS v))"
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
