"""A page of a whole table by the numbers of its rows, instead of by an OFFSET. Pure.

BigQuery reads and sorts all rows for ``LIMIT 100 OFFSET 5000000``. Where it is known how many rows
each range of ``_id`` has, the page is in one range or two, and no other is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ckanext.bigquery_datastore.backend.search.select import Select, T
from ckanext.bigquery_datastore.backend.table import layout
from ckanext.bigquery_datastore.backend.table.layout import Range
from ckanext.bigquery_datastore.backend.table.model import ID, Table, quote_name

#: What ranges a census counts in, for a table without partitions.
_PARTS = 1_000

#: A census reads ``_id`` of every row, once for each state of the table. Below this many bytes
#: there is not much to be saved.
CENSUS_BYTES = 100 * 1024**2


@dataclass(frozen=True)
class Counted:
    """How many rows have their number in a range."""

    range: Range
    rows: int


def is_by_number(select: Select) -> bool:
    """Whether a Select gives rows of a whole table, each once, in the order of their numbers."""
    order = select.order_by
    return (
        select.is_whole_table
        and select.limit is not None
        and not select.ranks
        and len(order) == 1
        and order[0].column == ID
        and select.table.kind == "TABLE"
        and not select.table.streaming_buffer
    )


def dense(table: Table) -> list[Counted] | None:
    """Every number from 1 to the highest one is in use: as many rows as numbers given out."""
    if not table.block or table.num_rows != table.last_id:
        return None
    return [Counted(Range(1, table.last_id), table.num_rows)]


def census_sql(table: Table) -> str:
    """A query for how many rows lie where: ``first``, ``last`` and ``found``, in order."""
    known = table.partitions
    if known is None or known.column != ID:
        known = replace(layout.partitions(), width=max(1, -(-table.num_rows // _PARTS)))
        known = replace(known, end=1 + layout.RANGES * known.width)
    number = f"{T}.{quote_name(ID)}"
    return (
        f"SELECT MIN({number}) AS first, MAX({number}) AS last, COUNT(*) AS found "
        f"FROM {table.sql_name} AS {T} GROUP BY {layout.place_sql(T, known)} ORDER BY first"
    )


def page(select: Select, counted: Sequence[Counted]) -> Select:
    """The same rows, looked for only where they are.

    Rows that were added since the table was counted are above all others: where the page reaches
    the end it has no upper bound.
    """
    assert select.limit is not None
    is_descending = select.order_by[0].descending
    skipped, wanted = select.offset, select.limit
    taken: list[Counted] = []
    for each in reversed(counted) if is_descending else counted:
        if not taken:
            if skipped >= each.rows:
                skipped -= each.rows
                continue
            wanted += skipped
        taken.append(each)
        wanted -= each.rows
        if wanted <= 0:
            break
    if not taken:
        top = max((each.range.last for each in counted), default=0)
        where = "FALSE" if is_descending else _between(top + 1, None)
        return replace(select, where=(where,), offset=skipped)
    first, last = taken[0].range.first, taken[-1].range.last
    if is_descending:
        first, last = taken[-1].range.first, taken[0].range.last
    is_open = not select.offset if is_descending else wanted > 0
    if last - first + 1 == sum(each.rows for each in taken):
        # No number is missing: the page's own are known.
        if is_descending:
            last -= skipped
            first = max(first, last - select.limit + 1)
        else:
            first += skipped
            last = min(last, first + select.limit - 1)
        skipped = 0
    where = _between(first, None if is_open else last)
    return replace(select, where=(where,), offset=skipped)


def _between(first: int, last: int | None) -> str:
    if last is None:
        return f"{T}.{quote_name(ID)} >= {first}"
    return layout.within(T, [Range(first, last)])
