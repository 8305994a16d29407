"""A large table's export in several jobs: each a range of ``_id``, sorted, all of one moment. Pure.

BigQuery sorts the whole of a result on one worker in the end, which is slow over tens of millions
of rows, and then fails for want of memory (``resourcesExceeded``). Ranges of ``_id`` that are whole
partitions are read once each, sorted side by side, and their files joined in the ranges' order.
https://cloud.google.com/bigquery/docs/best-practices-performance-output#optimize_queries_that_use_the_order_by_clause

All jobs read the table as it was when the attempt was claimed, which is after the revision that the
plan knows of. https://cloud.google.com/bigquery/docs/access-historical-data
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ckanext.bigquery_datastore.backend.search.select import Select, T
from ckanext.bigquery_datastore.backend.table.model import ID, Table, quote_name
from ckanext.bigquery_datastore.dump.attempt import Attempt, folder_of, job_id_of
from ckanext.bigquery_datastore.dump.plan import DumpPlan

#: What one job sorts. A table that is no larger is exported by one.
SLICE_BYTES = 1024**3

#: Jobs that one export may have.
MOST = 200


@dataclass(frozen=True)
class Slice:
    """One job of an export: its id, its SELECT, and how the names of its files begin."""

    job_id: str
    sql: str
    files: str


def slices(plan: DumpPlan, attempt: Attempt) -> list[Slice]:
    """The jobs that an attempt is made of, in the order of their rows. Most have one."""
    job_id, files = job_id_of(plan, attempt), f"{folder_of(plan, attempt)}part-"
    select = plan.select
    conditions = _conditions(plan.table) if attempt.ordered and _may_be_cut(plan) else []
    if len(conditions) < 2 or not isinstance(select, Select):
        return [Slice(job_id, plan.select_sql(attempt.ordered), files)]
    return [
        Slice(
            f"{job_id}_{number}",
            replace(
                plan, select=replace(select, where=(condition,), as_of=attempt.created)
            ).select_sql(),
            f"{files}{number:04d}-",
        )
        for number, condition in enumerate(conditions)
    ]


def _may_be_cut(plan: DumpPlan) -> bool:
    """Whether it is the whole table in the order of its numbers, which nobody but us asked for."""
    select, table = plan.select, plan.table
    return (
        isinstance(select, Select)
        and select.is_whole_table
        and select.limit is None
        and not select.offset
        and plan.is_ordered_by_default
        and [order.column for order in select.order_by] == [ID]
        and table.kind == "TABLE"
        and not table.streaming_buffer
    )


def _conditions(table: Table) -> list[str]:
    """Conditions of which each row meets one: ranges of numbers, of whole partitions."""
    partitions = table.partitions
    wanted = min(-(-table.num_bytes // SLICE_BYTES), MOST)
    if partitions is None or partitions.column != ID or wanted < 2:
        return []
    # Where rows are added by others, the highest number is not known: as many as rows, at least.
    used = partitions.place(max(table.last_id, table.num_rows)) + 1
    starts = sorted({used * number // wanted for number in range(1, wanted)} - {0})
    cuts = [partitions.start + start * partitions.width for start in starts]
    column = f"{T}.{quote_name(ID)}"
    ends: Sequence[int | None] = [None, *cuts, None]
    found = []
    for first, after in pairwise(ends):
        terms = [
            *([f"{column} >= {first}"] if first is not None else []),
            *([f"{column} < {after}"] if after is not None else []),
        ]
        # Rows without a number are sorted last.
        last = f" OR {column} IS NULL" if after is None else ""
        found.append(f"{' AND '.join(terms)}{last}")
    return found
