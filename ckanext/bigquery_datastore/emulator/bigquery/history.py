"""FOR SYSTEM_TIME AS OF: a table as it was, where that is known.

A table that has not changed since is read as it is. For older states the ``history`` switch keeps a
copy of each state from then on; without it BigQuery's own words for a time that is out of reach are
given, never rows of another moment.
https://cloud.google.com/bigquery/docs/access-historical-data
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from bqemulator.catalog.models import SnapshotMeta
from bqemulator.domain.errors import InvalidQueryError
from bqemulator.domain.events import TableDataChanged
from bqemulator.versioning.snapshots import SnapshotManager

_WINDOW = timedelta(days=7)


class History(SnapshotManager):
    """bqemulator's snapshots, taken of whole states where the switch says so."""

    keeps = False

    def record_change(self, project_id: str, dataset_id: str, table_id: str) -> None:
        """Tell whoever listens; the session has noted the change by itself (see ``keep``)."""
        self._events.publish(TableDataChanged(project_id, dataset_id, table_id))

    def keep(self, project_id: str, dataset_id: str, table_id: str) -> None:
        """Keep the state that a change has made."""
        if self.keeps:
            self.capture(project_id, dataset_id, table_id)

    def resolve_time_travel(
        self, project_id: str, dataset_id: str, table_id: str, target: datetime
    ) -> SnapshotMeta | None:
        """Where the rows of that moment are; None where they are the table's own."""
        now = self._clock.now()
        target = target if target.tzinfo else target.replace(tzinfo=timezone.utc)
        name = f"{project_id}:{dataset_id}.{table_id}"
        if target > now:
            raise InvalidQueryError(
                f"Invalid snapshot time {target.isoformat()} for table {name}. Cannot read future "
                "snapshot."
            )
        meta = self._catalog.get_table(project_id, dataset_id, table_id)
        kept = [
            snapshot
            for snapshot in self._catalog.list_snapshots_for_table(project_id, dataset_id, table_id)
            if snapshot.snapshot_time <= target
        ]
        newest = max(kept, key=lambda snapshot: snapshot.snapshot_time, default=None)
        if self.keeps and newest is not None:
            # Not the table itself: a change of it may be under way.
            return newest
        if meta is None or meta.last_modified_time <= target:
            return None
        if newest is None or target < now - _WINDOW or target < meta.creation_time:
            raise InvalidQueryError(
                f"Invalid snapshot time {target.isoformat()} for table {name}. Cannot read before "
                f"{meta.last_modified_time.isoformat()}."
            )
        return newest
