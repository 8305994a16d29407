"""tabledata.list: a table's rows, page by page, in no order (BigQuery promises none).

All pages of a table show it in one order until it changes, which is never the stored one.
"""

from __future__ import annotations

import zlib
from typing import Any

import pyarrow as pa
from bqemulator.api.dependencies import AppContext
from bqemulator.storage.arrow_bridge import arrow_table_to_bq_rows

from ..errors import ApiError
from .disorder import shuffled
from .engine import TableName, quote_name

_PAGE = 10_000
# Larger tables are not read as a whole for each page: they begin somewhere else.
_SHUFFLED_ROWS = 10_000


def page(context: AppContext, name: TableName, query: dict[str, str]) -> dict[str, Any]:
    """The answer to ``query``, the request's parameters."""
    meta = context.catalog.get_table(name.project, name.dataset, name.table)
    if meta is None:
        raise ApiError("notFound", f"Not found: Table {name}")
    if meta.table_type != "TABLE":
        raise ApiError("invalid", f"Cannot list a table of type {meta.table_type}.")
    (total,) = context.engine.execute(f"SELECT COUNT(*) FROM {name.quoted}").fetchone() or (0,)
    first = int(query.get("pageToken") or query.get("startIndex") or 0)
    wanted = int(query.get("maxResults") or _PAGE)
    last = max(first, min(total, first + wanted))
    fields = [part.strip() for part in query.get("selectedFields", "").split(",")]
    columns = ", ".join(quote_name(field) for field in fields if field) or "*"
    found = _rows(context, f"SELECT {columns} FROM {name.quoted}", total, meta.etag, first, last)
    body: dict[str, Any] = {"kind": "bigquery#tableDataList", "totalRows": str(total)}
    body["rows"] = arrow_table_to_bq_rows(found)
    if last < total:
        body["pageToken"] = str(last)
    return body


def _rows(
    context: AppContext, select: str, total: int, seed: str, first: int, last: int
) -> pa.Table:
    if total <= _SHUFFLED_ROWS:
        return shuffled(context.engine.fetch_arrow(select), seed).slice(first, last - first)
    begin = 1 + zlib.crc32(seed.encode()) % (total - 1)
    start = (begin + first) % total
    before_end = min(last - first, total - start)
    pieces = [(before_end, start), (last - first - before_end, 0)]
    return pa.concat_tables(
        [
            context.engine.fetch_arrow(f"{select} LIMIT {rows} OFFSET {offset}")
            for rows, offset in pieces
        ]
    )
