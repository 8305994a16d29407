"""How the rows of a table lie: in ranges of ``_id``, and together by the columns of a key. Pure.

BigQuery bills what a statement reads, by column and by partition, and what a change touches by
partition alone. So tables that we make have a partition for every so many numbers: a page, or a
change of one row, reads one or two of them however large the table is.
https://cloud.google.com/bigquery/docs/partitioned-tables#integer_range
https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#partitioned_tables

How wide: a job may change 4,000 partitions, rows beyond the last range (``__UNPARTITIONED__``) and
without a number (``__NULL__``) being one each: with ``RANGES`` no job ever changes more. A job that
replaces a table spends one of 30,000 changes a day for each partition that it writes: a table that
is made with its rows gets ``AT_FIRST`` of them, can be loaded forty times a day, and grows to five
times its size. https://cloud.google.com/bigquery/quotas#partitioned_tables

BigQuery advises against partitions below 10 GB, as their number makes reading metadata slower. Of
that we have few, and what is saved by clustering instead cannot be told beforehand: blocks have no
documented size, and none is skipped in a table of less than 64 MB.
https://cloud.google.com/bigquery/docs/clustered-tables#when_to_use_clustering
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ckanext.bigquery_datastore.backend.table.model import ID, Partitions, Table, quote_name

RANGES = 3_998
AT_FIRST = 700
NARROWEST = 14_000

#: Ranges of ``_id`` that one statement names; beyond it, those that lie closest become one.
MOST_RANGES = 100

#: How far a width may be from the one that a table would get now.
_TOLERANCE = 4

_CLUSTERED = ("STRING", "INT64", "NUMERIC", "BOOL", "DATE", "DATETIME", "TIMESTAMP")


def partitions(rows: int = 0) -> Partitions:
    """The partitions of a table that is made with so many rows, numbered from 1."""
    width = max(NARROWEST, -(-rows // AT_FIRST))
    return Partitions(ID, 1, 1 + RANGES * width, width)


def fits(found: Partitions | None, rows: int) -> bool:
    """Whether a table of so many rows may keep the partitions that it has."""
    wanted = partitions(rows)
    return (
        found is not None
        and found.column == ID
        and found.start <= 1
        and rows < found.end
        and wanted.width <= _TOLERANCE * found.width
        and found.width <= _TOLERANCE * wanted.width
    )


def is_spread(table: Table) -> bool:
    """Whether the rows of a table lie in more than one partition, as far as is known."""
    known = table.partitions
    return (
        known is not None
        and known.column == ID
        and known.place(max(table.last_id, table.num_rows)) > 0
    )


def clustering(table: Table) -> list[str]:
    """Columns to keep rows together by: the key, then indexes, or else ``_id``. At most four.

    https://cloud.google.com/bigquery/docs/clustered-tables#limitations
    """
    names = [*table.primary_key, *(name for index in table.indexes for name in index)] or [ID]
    columns = [table.column(name) for name in dict.fromkeys(names)]
    fitting = [c.stored for c in columns if c and c.bq_type in _CLUSTERED and not c.type.document]
    return fitting[:4]


def clauses(partitions: Partitions | None, clustering: Sequence[str]) -> str:
    """``PARTITION BY … CLUSTER BY …`` of a CREATE TABLE statement, with a space before each."""
    said = ""
    if partitions is not None:
        said += (
            f" PARTITION BY RANGE_BUCKET({quote_name(partitions.column)}, GENERATE_ARRAY("
            f"{partitions.start}, {partitions.end}, {partitions.width}))"
        )
    if clustering:
        said += f" CLUSTER BY {', '.join(map(quote_name, clustering))}"
    return said


@dataclass(frozen=True)
class Range:
    """Numbers from ``first`` to ``last``, both included."""

    first: int
    last: int


def ranges(numbers: Iterable[int], partitions: Partitions) -> list[Range]:
    """Ranges that hold all of the numbers, and as few partitions as ``MOST_RANGES`` allow."""
    return joined((Range(number, number) for number in numbers), partitions)


def joined(found: Iterable[Range], partitions: Partitions) -> list[Range]:
    """Ranges as fewer ones: those in the same partition or in two that touch become one."""
    together: list[Range] = []
    for each in sorted(found, key=lambda found: found.first):
        last = together[-1] if together else None
        if last and partitions.place(each.first) - partitions.place(last.last) <= 1:
            together[-1] = Range(last.first, max(last.last, each.last))
        else:
            together.append(each)
    if len(together) <= MOST_RANGES:
        return together
    gaps = sorted(range(1, len(together)), key=lambda n: together[n - 1].last - together[n].first)
    cuts = [0, *sorted(gaps[: MOST_RANGES - 1]), len(together)]
    return [
        Range(together[first].first, together[after - 1].last) for first, after in pairwise(cuts)
    ]


def within(table: str, found: Sequence[Range]) -> str:
    """The condition that a row's number is in one of the ranges; ``table`` is its name.

    Plain numbers and the bare column: what BigQuery can leave partitions out by.
    https://cloud.google.com/bigquery/docs/querying-partitioned-tables#use_a_constant_filter_expression
    """
    column = f"{table}.{quote_name(ID)}"
    terms = [f"{column} BETWEEN {each.first} AND {each.last}" for each in found]
    return f"({' OR '.join(terms)})" if terms else "FALSE"


def place_sql(table: str, partitions: Partitions) -> str:
    """SQL for ``Partitions.place`` of a row's number; ``table`` is the table's name."""
    column = f"{table}.{quote_name(ID)}"
    lowest = partitions.start - partitions.width
    return (
        f"DIV(GREATEST(LEAST({column}, {partitions.end}), {lowest}) - {partitions.start}, "
        f"{partitions.width})"
    )
