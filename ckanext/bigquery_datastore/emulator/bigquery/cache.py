"""Results that are given again, for nothing, as long as no table has changed.

https://cloud.google.com/bigquery/docs/cached-results: the same text and parameters, the same
user, no table of its own for the result, nothing that answers differently each time.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from bqemulator.catalog.models import TableMeta
from cachetools import LRUCache

from .job import Job

_ANOTHER_EACH_TIME = re.compile(
    r"\b(CURRENT_\w+|RAND|GENERATE_UUID|SESSION_USER|TABLESAMPLE|INFORMATION_SCHEMA|ERROR)\b",
    re.IGNORECASE,
)
_KEPT = 100


class Results:
    """The last results of queries."""

    def __init__(self) -> None:
        self._kept: LRUCache[str, tuple[pa.Table, Any]] = LRUCache(_KEPT)
        self._lock = threading.Lock()

    def key(self, job: Job, sql: str, tables: Iterable[TableMeta | None]) -> str | None:
        """What the job's result is kept under; None where it is not kept."""
        settings, tables = job.settings, list(tables)
        if (
            job.statement_type != "SELECT"
            or settings.get("useQueryCache") is False
            or settings.get("destinationTable")
            or None in tables
            or _ANOTHER_EACH_TIME.search(sql)
        ):
            return None
        etags = [meta.etag for meta in tables if meta is not None]
        return json.dumps([job.user, sql, settings.get("queryParameters"), etags])

    def give(self, key: str | None, job: Job) -> bool:
        """Let the job have a result that is kept; whether there is one."""
        with self._lock:
            found = self._kept.get(key) if key is not None else None
        if found is not None:
            job.rows, job.schema = found
            job.statistics["totalBytesProcessed"] = "0"
            job.statistics["query"].update(
                totalBytesProcessed="0", totalBytesBilled="0", cacheHit=True
            )
        return found is not None

    def keep(self, key: str | None, job: Job) -> None:
        if key is not None and job.rows is not None:
            with self._lock:
                self._kept[key] = (job.rows, job.schema)
