"""What BigQuery would bill for a statement, in bytes, by the pages of its documentation.

- The columns that are read, by the sizes of their values; nothing for what nobody looks at
  (https://cloud.google.com/bigquery/pricing#on_demand_pricing).
- UPDATE, DELETE and MERGE: that, and all columns of what they change: of the table, or of its
  partitions that are not left out
  (https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#on-demand_query_size_calculation).
- Partitions by ranges of a number are left out by what the statement says of that number.
- Blocks of a clustered table are left out by what it says of the first columns of the clustering.
  Nobody outside Google knows the blocks: here they have 64 MB, below which clustering does not
  pay (https://cloud.google.com/bigquery/docs/clustered-tables#when_to_use_clustering), and each
  run of equal keys costs one more than it fills. BigQuery knows them only as the statement runs:
  a dry run and ``maximumBytesBilled`` go by the table without that
  (https://cloud.google.com/bigquery/docs/best-practices-costs#perform-dry-run).

Assumed, and not documented: a table that is named twice is read once; rows outside all ranges
(``__UNPARTITIONED__``) and without a number are never left out; a field of a STRUCT is read with
all of it, and a WITH with all that it selects. Tables partitioned by time are counted whole.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import sqlglot
from bqemulator.api.dependencies import AppContext
from bqemulator.catalog.models import TableMeta
from cachetools import LRUCache
from sqlglot import exp
from sqlglot.errors import SqlglotError

from .conditions import Condition, Parameters, Read, about, constants_of, joined, may_hold, sql_of
from .engine import TableName, quote_name
from .partitioning import bucket_of
from .sizes import MEGABYTE, billed, value_size

BLOCK_BYTES = 64 * MEGABYTE
_KEPT = 2_000


@dataclass(frozen=True)
class Cost:
    """Bytes of a statement: read, to be paid, and the most it may have to pay."""

    processed: int
    billed: int
    most_processed: int
    most_billed: int


@dataclass(frozen=True)
class _Bucket:
    """A partition (``first`` is its lowest number), or all of a table, or what is in none."""

    first: int | None
    whole: int
    columns: int
    matched: int


class Meter:
    """Counts bytes over one catalogue. Every table counts as ``factor`` times its bytes."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self.factor = 1.0
        self._counted: LRUCache[object, list[_Bucket]] = LRUCache(_KEPT)
        self._lock = threading.Lock()

    def scaled(self, size: int) -> int:
        """Bytes as they count."""
        return round(size * self.factor)

    def cost(self, project: str, reads: Iterable[Read], parameters: Parameters) -> Cost:
        """The cost of a statement that reads so."""
        processed, most = [], []
        for name, of_table in by_table(project, reads).items():
            meta = self._context.catalog.get_table(name.project, name.dataset, name.table)
            if meta is None or meta.table_type == "VIEW" or not meta.schema_.fields:
                continue
            sizes = self._sizes(meta, name, of_table, parameters)
            processed.append(sizes[0])
            most.append(sizes[1])
        return Cost(sum(processed), billed(processed), sum(most), billed(most))

    def _sizes(
        self, meta: TableMeta, name: TableName, reads: list[Read], parameters: Parameters
    ) -> tuple[int, int]:
        """Bytes that are read of a table, and what they would be without its clustering."""
        columns = _columns(meta, reads)
        condition = _any_of([read.condition for read in reads])
        is_changed = any(read.is_changed for read in reads)
        matching, runs = self._clustered(meta, condition, parameters)
        ranges = meta.range_partitioning
        found = most = 0.0
        for bucket in self._buckets(meta, name, columns, matching):
            if ranges and bucket.first is not None:
                last = bucket.first + ranges.interval - 1
                of_number = about(condition, (ranges.field,))
                if not may_hold(of_number, parameters, bucket.first, last):
                    continue
            share = 1.0
            if matching and bucket.whole:
                blocks = math.ceil(bucket.matched * self.factor / BLOCK_BYTES) + runs
                share = min(1.0, blocks * BLOCK_BYTES / (bucket.whole * self.factor))
            changed = bucket.whole if is_changed else 0
            found += bucket.columns * share + changed
            most += bucket.columns + changed
        return round(found * self.factor), round(most * self.factor)

    def _clustered(
        self, meta: TableMeta, condition: Condition | None, parameters: Parameters
    ) -> tuple[str, int]:
        """DuckDB's SQL for the rows that the clustering leads to, and in how many runs they lie."""
        if meta.clustering is None:
            return "", 0
        parts, runs = [], 1
        for column in meta.clustering.fields:
            found = about(condition, (column,))
            sql = sql_of(found, parameters) if found is not None else ""
            if found is None or not sql:
                break
            parts.append(sql)
            runs *= max(1, constants_of(found, parameters))
        return " AND ".join(f"({part})" for part in parts), runs

    def _buckets(
        self, meta: TableMeta, name: TableName, columns: Collection[str], matching: str
    ) -> list[_Bucket]:
        ranges = meta.range_partitioning
        if ranges is None and not matching and len(columns) == len(meta.schema_.fields):
            return [_Bucket(None, meta.num_bytes, meta.num_bytes, 0)]
        key = (name, meta.etag, tuple(sorted(columns)), ranges, matching)
        with self._lock:
            if (known := self._counted.get(key)) is not None:
                return known
        sizes = {f.name: value_size(f, quote_name(f.name)) for f in meta.schema_.fields}
        whole = " + ".join(sizes.values())
        read = " + ".join(sizes[column] for column in columns) or "0"
        bucket = bucket_of(ranges) if ranges else "NULL"
        rows = self._context.engine.connection.execute(
            f"SELECT {bucket} AS bucket, coalesce(sum({whole}), 0), "
            f"coalesce(sum({read}), 0), coalesce(sum({whole}) FILTER ({matching or 'FALSE'}), 0) "
            f"FROM {name.quoted} GROUP BY bucket"
        ).fetchall()
        found = [_Bucket(row[0], int(row[1]), int(row[2]), int(row[3])) for row in rows]
        with self._lock:
            self._counted[key] = found
        return found


def _columns(meta: TableMeta, reads: Iterable[Read]) -> list[str]:
    """The columns that are read, in the table's order."""
    wanted = [read.columns for read in reads]
    named = {name.lower() for columns in wanted for name in columns or ()}
    every = None in wanted
    return [field.name for field in meta.schema_.fields if every or field.name.lower() in named]


def _any_of(conditions: Sequence[Condition | None]) -> Condition | None:
    """What holds of a row that any of several reads wants."""
    different = list(dict.fromkeys(conditions))
    return different[0] if len(different) == 1 else joined(False, different)


def by_table(project: str, reads: Iterable[Read]) -> dict[TableName, list[Read]]:
    """The reads of each table."""
    found: dict[TableName, list[Read]] = {}
    for read in reads:
        *_, owner, dataset, table = [project, *read.table.split(".")]
        found.setdefault(TableName(owner, dataset, table), []).append(read)
    return found


def whole_tables(project: str, sql: str) -> list[Read]:
    """A statement that GoogleSQL has not looked at, as if it read all of each table it names."""
    try:
        trees = [tree for tree in sqlglot.parse(sql, read="bigquery") if tree is not None]
    except SqlglotError:
        return []
    changes = (exp.Update, exp.Delete, exp.Merge)
    found: dict[str, Read] = {}
    for tree in trees:
        changed = tree.this if isinstance(tree, changes) else None
        made = tree.find(exp.Table) if isinstance(tree, (exp.Insert, exp.Create)) else None
        for table in tree.find_all(exp.Table):
            if table is made or not (table.db and table.name):
                continue
            path = ".".join((table.catalog or project, table.db, table.name))
            known = found.get(path)
            is_changed = table is changed or (known is not None and known.is_changed)
            found[path] = Read(path, None, None, is_changed)
    return list(found.values())
