"""Where a large table's export is cut into slices (see ``slices``). Pure."""

from __future__ import annotations

from ckanext.bigquery_datastore.backend.search.select import Select
from ckanext.bigquery_datastore.backend.table.model import ID
from ckanext.bigquery_datastore.dump.plan import DumpPlan

#: What one job sorts. A table that is no larger is exported by one.
SLICE_BYTES = 1024**3

#: Jobs that one export may have. The cuts are kept in the claim's metadata, which has 8 KiB.
MOST = 200


def cuts(plan: DumpPlan) -> tuple[int, ...]:
    """The numbers at which the slices after the first one begin: ends of whole partitions.

    Worked out once, by who claims the export: what BigQuery tells of a table's rows and bytes may
    follow a change of it late, and slices of two minds would leave rows out.
    """
    table, partitions = plan.table, plan.table.partitions
    wanted = min(-(-table.num_bytes // SLICE_BYTES), MOST)
    if partitions is None or partitions.column != ID or wanted < 2 or not _may_be_cut(plan):
        return ()
    # Where rows are added by others, the highest number is not known: as many as rows, at least.
    used = partitions.place(max(table.last_id, table.num_rows)) + 1
    starts = sorted({used * number // wanted for number in range(1, wanted)} - {0})
    return tuple(partitions.start + start * partitions.width for start in starts)


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
