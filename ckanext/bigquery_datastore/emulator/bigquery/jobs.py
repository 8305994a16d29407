"""Jobs as BigQuery keeps them: an id once, RUNNING for a while, then DONE for ever.

bqemulator runs a job inside ``jobs.insert``. Here a job has a thread, a chosen run
time and a record on disk:

- an id is taken once per project, whatever became of its job, also after a restart;
- ``emulator_run_seconds`` among the job's labels ("120", "500ms", "1m"), or the
  default of the admin API, is how long it stays RUNNING; without either it is DONE
  at once;
- ``emulator_order`` = ``stored`` among them gives rows as they are stored where no order is asked
  for, for tests that count on it;
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bqemulator.domain.errors import DomainError

from ..errors import ApiError, Stopped
from ..faults import Faults
from .engine import Engine
from .job import Job

JOB_ID = re.compile(r"[a-zA-Z0-9_-]{1,1024}")
_RUN_LABEL, _SHARDS_LABEL = "emulator_run_seconds", "emulator_shards"
_ORDER_LABEL = "emulator_order"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_KEPT_RESULTS = 300


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
        job.is_as_stored = labels.get(_ORDER_LABEL) == "stored"
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
        if job is None or job.is_short or not _is_there(job, location):
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
