"""Jobs as BigQuery keeps them: an id once, RUNNING for a while, then DONE for ever.

bqemulator runs a job inside ``jobs.insert``. Here a job has a thread, a chosen run
time and a record on disk:

- an id is taken once per project, whatever became of its job, also after a restart;
- ``emulator_run_seconds`` among the job's labels ("120", "500ms", "1m"), or the
  default of the admin API, is how long it stays RUNNING; without either it is DONE
  at once;
- it can be cancelled and timed out (``jobTimeoutMs``);
- a job that was not DONE when the emulator ended is DONE with ``backendError``
  when it starts again.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from bqemulator.domain.errors import DomainError

from ..errors import ApiError, Stopped
from ..faults import Faults, Rule
from .engine import Engine

JOB_ID = re.compile(r"[a-zA-Z0-9_-]{1,1024}")
_RUN_LABEL, _SHARDS_LABEL = "emulator_run_seconds", "emulator_shards"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_TIMELINE_STEPS = 20
_KEPT_RESULTS = 300


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
    state: str = "PENDING"
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    statistics: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] | None = None
    rows: pa.Table | None = None
    schema: list[dict[str, Any]] | None = None
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


@dataclass
class Defaults:
    """What the admin API can set for the jobs to come, by statement type ("" is any)."""

    run_seconds: dict[str, float] = field(default_factory=dict)
    shards: int | None = None


class Jobs:
    """All jobs of this emulator, by project and id."""

    def __init__(self, data: Path, engine: Engine, faults: Faults) -> None:
        self._engine = engine
        self._faults = faults
        self._lock = threading.Lock()
        self._jobs: dict[tuple[str, str], Job] = {}
        self._with_rows: list[Job] = []
        self.defaults = Defaults()
        self._closed = False
        self.refused: list[dict[str, Any]] = []
        self._store = sqlite3.connect(data / "jobs.sqlite", check_same_thread=False)
        self._store.execute("PRAGMA journal_mode = WAL")
        self._store.execute("PRAGMA synchronous = NORMAL")
        self._store.execute(
            "CREATE TABLE IF NOT EXISTS job (project TEXT, id TEXT, record TEXT, "
            "PRIMARY KEY (project, id))"
        )
        self._recall()

    def _recall(self) -> None:
        for (record,) in self._store.execute("SELECT record FROM job").fetchall():
            job = Job(**json.loads(record))
            if job.state != "DONE":
                job.state, job.ended = "DONE", time.time()
                job.error = ApiError(
                    "backendError", "The emulator ended while this job ran."
                ).result()
                self._keep(job)
            job.finished.set_result(None)
            self._jobs[job.project, job.id] = job

    def _keep(self, job: Job) -> None:
        names = (
            "project id location kind configuration user statement_type run_seconds shards "
            "state created started ended statistics error"
        )
        record = {name: getattr(job, name) for name in names.split()}
        with self._lock:
            self._store.execute(
                "INSERT OR REPLACE INTO job VALUES (?, ?, ?)",
                (job.project, job.id, json.dumps(record, default=str)),
            )
            self._store.commit()

    def add(self, job: Job) -> None:
        """Take the job's id for it. Raises ApiError ``duplicate`` when it was ever taken."""
        labels = job.configuration.get("labels") or {}
        default = self.defaults.run_seconds
        job.run_seconds = default.get(job.statement_type, default.get("", 0.0))
        if _RUN_LABEL in labels:
            job.run_seconds = seconds_of(labels[_RUN_LABEL])
        job.shards = int(labels[_SHARDS_LABEL]) if _SHARDS_LABEL in labels else self.defaults.shards
        with self._lock:
            taken = self._jobs.get((job.project, job.id))
            if taken is None:
                self._jobs[job.project, job.id] = job
        if taken is not None:
            self.refused.append(
                {"jobReference": job.reference, "statementType": job.statement_type}
            )
            raise ApiError("duplicate", f"Already Exists: Job {taken.name}")
        kind = job.statement_type or job.kind.upper()
        job.fault = self._faults.take("job", statement_type=kind)
        self._keep(job)

    def get(self, project: str, job_id: str, location: str | None) -> Job:
        """The job. Raises ApiError ``notFound``, also when it is in another location."""
        job = self._jobs.get((project, job_id))
        if job is None or not _is_there(job, location):
            where = f"{project}:{location}.{job_id}" if location else f"{project}:{job_id}"
            raise ApiError("notFound", f"Not found: Job {where}")
        return job

    def all(self) -> list[Job]:
        """Every job, the newest first."""
        return sorted(self._jobs.values(), key=lambda job: job.created, reverse=True)

    def remove(self, job: Job) -> None:
        """Forget what is known of a job; its id stays taken."""
        job.rows = None

    def start(self, job: Job, work: Callable[[Job], None]) -> None:
        """Run ``work`` for the job in a thread of its own, with a session of its own."""
        threading.Thread(target=self._run, args=(job, work), name=job.id, daemon=True).start()

    def _run(self, job: Job, work: Callable[[Job], None]) -> None:
        job.started, job.state = time.time(), "RUNNING"
        limit = threading.Timer(max(0.0, job.deadline - time.time()), job.interrupt)
        limit.daemon = True
        if job.deadline != float("inf"):
            limit.start()
        try:
            with self._engine.session() as session:
                job._connection = session.connection
                work(job)
        except Exception as error:  # noqa: BLE001 - a job's thread must end as a DONE job
            job.error = _as_error(job, error).result()
        finally:
            limit.cancel()
            job._connection = None
            if job.file is not None:
                job.file.unlink(missing_ok=True)
            job.ended, job.state = time.time(), "DONE"
            self._forget_old_rows(job)
            if not self._closed:
                self._keep(job)
            job.finished.set_result(None)

    def _forget_old_rows(self, job: Job) -> None:
        if job.rows is None:
            return
        with self._lock:
            self._with_rows.append(job)
            while len(self._with_rows) > _KEPT_RESULTS:
                self._with_rows.pop(0).rows = None

    def close(self) -> None:
        """Stop what runs; the next start finds it unfinished, as after a crash."""
        self._closed = True
        for job in self._jobs.values():
            if job.state != "DONE":
                job.cancel()


def _as_error(job: Job, error: Exception) -> ApiError:
    """What a job's end by ``error`` is called; whatever a stop caused is the stop."""
    try:
        job.check()
    except Stopped as stopped:
        return stopped
    if isinstance(error, ApiError):
        return error
    if isinstance(error, DomainError):
        return ApiError.of(error)
    return ApiError("internalError", f"{type(error).__name__}: {error}")


def _is_there(job: Job, location: str | None) -> bool:
    """BigQuery finds a job without its location only in the US and EU multi-regions."""
    if not location:
        return job.location in ("US", "EU")
    return location.upper() == job.location.upper()


def seconds_of(text: str) -> float:
    """ "120", "500ms", "90s" or "2m" in seconds (a label may not hold a dot)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", str(text).strip())
    if not found:
        raise ApiError("invalid", f"{_RUN_LABEL}: {text!r} is not like 120, 500ms or 2m.")
    return float(found[1]) * _UNITS[found[2] or "s"]


def new_id() -> str:
    """An id for a job that came without one."""
    return f"job_{uuid.uuid4().hex}"


def counts(jobs: Iterable[Job]) -> dict[str, int]:
    """How many jobs there are of each statement type, or kind where there is none."""
    found: dict[str, int] = {}
    for job in jobs:
        key = job.statement_type or job.kind.upper()
        found[key] = found.get(key, 0) + 1
    return found
