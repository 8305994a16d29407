"""A checksum over the rows of a table, in the SQL of both sides. Pure.

The sum of a number for each row, so that no order counts. The number is the beginning of the MD5
of the row's text: each value's length and text, one after the other, or a letter for NULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ckanext.bigquery_datastore.backend.table.model import quote_name
from ckanext.bigquery_datastore.migrate import kinds
from ckanext.bigquery_datastore.migrate.kinds import Kind

#: Groups of rows by which the first one that differs is looked for, each time.
GROUPS = 500

# Fifteen digits are positive in 64 bits on either side; the sum of them is a decimal number.
_DIGITS = 15


@dataclass(frozen=True)
class Part:
    """A column: its quoted name in PostgreSQL and in BigQuery, and how its values cross over."""

    pg: str
    bq: str
    kind: Kind


@dataclass(frozen=True)
class Sum:
    """What a side says of its rows. ``total`` is the text of a number."""

    rows: int
    total: str


def pg_row(texts: Sequence[str]) -> str:
    """PostgreSQL's number of a row of these texts."""
    # || and not concat(), which takes a hundred.
    each = [f"coalesce(char_length({text})::text || ':' || ({text}), 'N')" for text in texts]
    return f"('x' || substr(md5({' || '.join(each)}), 1, {_DIGITS}))::bit({_DIGITS * 4})::bigint"


def pg_select(texts: Sequence[str], source: str, group: str = "") -> str:
    """The query of a Sum over the texts of each row of ``source``, or of one for each group.

    :param group: SQL of a group's number, which then comes first
    """
    values = f"count(*), coalesce(sum({pg_row(texts)}), 0)::text"
    if not group:
        return f"SELECT {values} FROM {source}"
    return f"SELECT {group}, {values} FROM {source} GROUP BY 1 ORDER BY 1"


def pg_canons(parts: Sequence[Part]) -> list[str]:
    """PostgreSQL's SQL for the texts by which rows are compared."""
    return [kinds.pg_canon(part.kind, part.pg) for part in parts]


def bq_row(parts: Sequence[Part], source: str) -> str:
    """A source of rows ``(n, v)``: the number of a row and what is summed up."""
    each = ", ".join(
        f"IFNULL(CONCAT(CAST(LENGTH(t{place}) AS STRING), ':', t{place}), 'N')"
        for place in range(len(parts))
    )
    digest = f"SUBSTR(TO_HEX(MD5(CONCAT({each}))), 1, {_DIGITS})"
    return (
        f"(SELECT n, CAST(CAST(CONCAT('0x', {digest}) AS INT64) AS NUMERIC) AS v "
        f"FROM ({bq_texts(parts, source)}))"
    )


def bq_texts(parts: Sequence[Part], source: str) -> str:
    """BigQuery's query of the same texts: columns ``n`` (the row's number), ``t0``, ``t1`` …"""
    plain = ", ".join(
        f"{part.kind.bq_plain(part.bq)} AS c{place}" for place, part in enumerate(parts)
    )
    texts = ", ".join(
        f"{kinds.bq_canon(part.kind, f'c{place}')} AS t{place}" for place, part in enumerate(parts)
    )
    return f"SELECT n, {texts} FROM (SELECT {quote_name('_id')} AS n, {plain} FROM {source})"


def bq_select(parts: Sequence[Part], source: str, group: str = "") -> str:
    """As ``pg_select``; columns ``g`` (of a group), ``c`` and ``s``."""
    values = "COUNT(*) AS c, CAST(IFNULL(SUM(v), 0) AS STRING) AS s"
    selected = f"{group} AS g, {values}" if group else values
    grouped = " GROUP BY g ORDER BY g" if group else ""
    return f"SELECT {selected} FROM {bq_row(parts, source)}{grouped}"


def width(least: int, most: int) -> int:
    """How many numbers one group has."""
    return max(1, -(-(most - least + 1) // GROUPS))


def first_difference(
    one: Sequence[tuple[int, int, str]], other: Sequence[tuple[int, int, str]]
) -> int | None:
    """The first group that differs, of two lists of ``(group, rows, total)``."""
    left = {group: (rows, total) for group, rows, total in one}
    right = {group: (rows, total) for group, rows, total in other}
    differing = (
        group for group in left.keys() | right.keys() if left.get(group) != right.get(group)
    )
    return min(differing, default=None)
