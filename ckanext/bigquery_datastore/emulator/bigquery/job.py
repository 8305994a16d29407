"""One job as BigQuery tells of it: its state, its progress, how it is stopped."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ..errors import Stopped
from ..faults import Rule

_TIMELINE_STEPS = 20


@dataclass
class Job:
    """One job, from its insertion on. Times are seconds since the epoch."""

    project: str
    id: str
    location: str
    kind: str  # query, load, extract, copy
    configuration: dict[str, Any]
    user: str = "emulator@local.iam.gserviceaccount.com"
    statement_type: str = ""
    run_seconds: float = 0.0
    shards: int | None = None
    is_as_stored: bool = False
    state: str = "PENDING"
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    statistics: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] | None = None
    rows: pa.Table | None = None
    schema: list[dict[str, Any]] | None = None
    is_short: bool = False  # no job for those who ask BigQuery's API
    file: Path | None = None  # an uploaded file to load
    finished: Future[None] = field(default_factory=Future)
    fault: Rule | None = None
    _wake: threading.Event = field(default_factory=threading.Event)
    _cancelled: bool = False
    _connection: duckdb.DuckDBPyConnection | None = None

    @property
    def name(self) -> str:
        """``project:location.id``, as in BigQuery's messages."""
        return f"{self.project}:{self.location}.{self.id}"

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the configuration that belongs to the job's kind."""
        found: dict[str, Any] = self.configuration.setdefault(self.kind, {})
        return found

    @property
    def share_done(self) -> float:
        """How much of the chosen run time has passed, 0 to 1."""
        if self.started is None:
            return 0.0
        if self.run_seconds <= 0:
            return 1.0 if self.state == "DONE" else 0.0
        return min(1.0, (time.time() - self.started) / self.run_seconds)

    @property
    def deadline(self) -> float:
        """When ``jobTimeoutMs`` ends the job; infinity without one."""
        allowed = int(self.configuration.get("jobTimeoutMs") or 0)
        return (self.started or self.created) + allowed / 1000 if allowed else float("inf")

    def cancel(self) -> None:
        """Ask the job to stop; it will as soon as it looks."""
        self._cancelled = True
        self._wake.set()
        self.interrupt()

    def interrupt(self) -> None:
        """Break off what DuckDB does for the job."""
        if self._connection is not None and self.state != "DONE":
            self._connection.interrupt()

    def check(self) -> None:
        """Raise Stopped if the job was cancelled or has run for too long."""
        if self._cancelled:
            raise Stopped("Job execution was cancelled: User requested cancellation")
        if time.time() > self.deadline:
            seconds = int(self.configuration["jobTimeoutMs"]) / 1000
            raise Stopped(f"Job execution was cancelled: Job timed out after {seconds:g}s")

    def wait_until(self, share: float) -> None:
        """Let ``share`` (0 to 1) of the run time pass. Raises Stopped, or what was injected."""
        if self.fault is not None and share >= self.fault.share:
            self._wait_until(self.fault.share)
            raise self.fault.error
        self._wait_until(share)

    def _wait_until(self, share: float) -> None:
        self.check()
        until = (self.started or self.created) + self.run_seconds * share
        while (left := min(until, self.deadline + 0.001) - time.time()) > 0:
            self._wake.wait(left)
            self.check()
        self.check()

    def resource(self) -> dict[str, Any]:
        """The job as ``jobs.get`` shows it."""
        status: dict[str, Any] = {"state": self.state}
        if self.error:
            status |= {"errorResult": self.error, "errors": [self.error]}
        return {
            "kind": "bigquery#job",
            "etag": f"{self.state}-{self.created:.6f}",
            "id": self.name,
            "selfLink": f"/bigquery/v2/projects/{self.project}/jobs/{self.id}",
            "user_email": self.user,
            "jobReference": self.reference,
            "configuration": self.configuration,
            "statistics": self._statistics(),
            "status": status,
        }

    @property
    def reference(self) -> dict[str, str]:
        """The job's name as BigQuery's requests and answers carry it."""
        return {"projectId": self.project, "jobId": self.id, "location": self.location}

    def _statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = {"creationTime": str(int(self.created * 1000))}
        if self.started is not None:
            found["startTime"] = str(int(self.started * 1000))
        if self.ended is not None:
            found["endTime"] = str(int(self.ended * 1000))
            found["finalExecutionDurationMs"] = str(int((self.ended - self.created) * 1000))
        found |= self.statistics
        if self.kind == "query" and self.started is not None:
            found["query"] = {**found.get("query", {}), **self._progress()}
        return found

    def _progress(self) -> dict[str, Any]:
        """``timeline`` up to now; an export's counts stay zero until the job is DONE."""
        ended = self.ended or time.time()
        share = 1.0 if self.state == "DONE" else self.share_done
        steps = max(1, int(share * _TIMELINE_STEPS))
        total = 100
        timeline = []
        for step in range(1, steps + 1):
            completed = int(total * share * step / steps)
            timeline.append(
                {
                    "elapsedMs": str(int((ended - (self.started or ended)) * 1000 * step / steps)),
                    "totalSlotMs": str(completed * 10),
                    "pendingUnits": str(total - completed),
                    "completedUnits": str(completed),
                    "activeUnits": "0" if completed == total else "1",
                }
            )
        found: dict[str, Any] = {"timeline": timeline}
        if self.statement_type:
            found["statementType"] = self.statement_type
        if self.statement_type == "EXPORT_DATA" and self.state != "DONE":
            found["exportDataStatistics"] = {"fileCount": "0", "rowCount": "0"}
        return found
