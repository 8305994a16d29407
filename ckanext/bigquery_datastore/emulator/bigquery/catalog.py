"""bqemulator's catalogue, whose new tables and views inherit their dataset's expiration.

"If you set the expiration when the table is created, the dataset's default table expiration is
ignored": https://cloud.google.com/bigquery/docs/managing-tables#updating_a_tables_expiration_time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from bqemulator.catalog.duckdb_repository import DuckDBCatalogRepository
from bqemulator.catalog.models import TableMeta

from .engine import TableName
from .tables import now


class Catalog(DuckDBCatalogRepository):
    """The catalogue, and what of it has expired."""

    def inherited(self, name: TableName) -> datetime | None:
        """When a table that is made now expires, if nothing is said of it."""
        dataset = self.get_dataset(name.project, name.dataset)
        lives = dataset.default_table_expiration_ms if dataset is not None else None
        return now() + timedelta(milliseconds=int(lives)) if lives else None

    def is_partitioned(self, name: TableName) -> bool:
        """Whether there is such a table, and it lies in partitions."""
        found = self.get_table(name.project, name.dataset, name.table)
        return found is not None and bool(found.range_partitioning or found.time_partitioning)

    def create_table(self, table: TableMeta) -> TableMeta:
        name = TableName(table.project_id, table.dataset_id, table.table_id)
        if table.expiration_time is None and (moment := self.inherited(name)):
            table = table.model_copy(update={"expiration_time": moment})
        return super().create_table(table)

    def expired(self) -> list[TableMeta]:
        """The tables whose time is over, and which are still there."""
        moment = now()
        return [
            meta
            for meta in list(self._cache._tables.values())
            if meta.expiration_time is not None and meta.expiration_time <= moment
        ]
