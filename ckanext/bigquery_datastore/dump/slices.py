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
from ckanext.bigquery_datastore.backend.table.model import ID, quote_name
from ckanext.bigquery_datastore.dump.attempt import Attempt, folder_of, job_id_of
from ckanext.bigquery_datastore.dump.plan import DumpPlan


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
    if not attempt.cuts or not isinstance(select, Select):
        return [Slice(job_id, plan.select_sql(attempt.ordered), files)]
    return [
        Slice(
            f"{job_id}_{number}",
            replace(
                plan, select=replace(select, where=(condition,), as_of=attempt.created)
            ).select_sql(),
            f"{files}{number:04d}-",
        )
        for number, condition in enumerate(_conditions(attempt.cuts))
    ]


def _conditions(cuts: Sequence[int]) -> list[str]:
    """Conditions of which each row meets one."""
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
