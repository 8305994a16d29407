"""How often a table's metadata may change in ten seconds: five times, fifty if it is partitioned.

https://cloud.google.com/bigquery/quotas#standard_tables ("Maximum rate of table metadata update
operations per table") and #partitioned_tables: tables.insert, tables.patch and tables.update, ALTER
TABLE, and jobs that load into, copy to or overwrite a table. DML counts as well, and is not held
back by it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from ..errors import ApiError
from .engine import TableName

MOST = 5
MOST_PARTITIONED = 50
SECONDS = 10.0


class UpdateQuota:
    """The latest changes of each table."""

    def __init__(self, is_partitioned: Callable[[TableName], bool]) -> None:
        self.is_enforced = True  # a switch
        self._is_partitioned = is_partitioned
        self._times: dict[TableName, deque[float]] = {}
        self._lock = threading.Lock()

    def count(self, name: TableName) -> None:
        """Note a change, which is never refused."""
        with self._lock:
            self._latest(name).append(time.monotonic())

    def take(self, name: TableName) -> None:
        """Note a change. Raises ApiError ``rateLimitExceeded`` where there were too many."""
        most = MOST_PARTITIONED if self._is_partitioned(name) else MOST
        with self._lock:
            latest = self._latest(name)
            if self.is_enforced and len(latest) >= most:
                raise ApiError(
                    "rateLimitExceeded",
                    "Exceeded rate limits: too many table update operations for this table. For "
                    "more information, see https://cloud.google.com/bigquery/docs/"
                    "troubleshoot-quotas",
                )
            latest.append(time.monotonic())

    def _latest(self, name: TableName) -> deque[float]:
        """The changes of the last ten seconds; the quota is that of the name, dropped or not."""
        found, since = self._times.setdefault(name, deque()), time.monotonic() - SECONDS
        while found and found[0] <= since:
            found.popleft()
        return found
