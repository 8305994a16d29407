"""The jobs of one attempt: started, adopted, watched, and told of as if they were one.

Which jobs an attempt has follows from the plan and the attempt alone, and so do their ids: every
process that takes an export further finds those that are there, and starts what is missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from google.cloud import bigquery

from ckanext.bigquery_datastore.dump import export
from ckanext.bigquery_datastore.dump.attempt import Attempt, job_id_of
from ckanext.bigquery_datastore.dump.export import Job, Limits
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.slices import Slice, slices
from ckanext.bigquery_datastore.dump.storage import side_by_side

log = logging.getLogger(__name__)

# BigQuery stops a job after job_timeout_seconds by itself, but "might not always succeed"
# (https://cloud.google.com/bigquery/docs/reference/rest/v2/Job): whoever still looks then asks it.
_CANCEL_SECONDS = 60

_POLL_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


@dataclass(frozen=True)
class Work:
    """What an attempt has to be done at BigQuery."""

    client: bigquery.Client
    bucket: str
    limits: Limits
    plan: DumpPlan
    attempt: Attempt

    @property
    def only_job(self) -> str | None:
        """The id of the attempt's job, where it has one alone."""
        found = slices(self.plan, self.attempt)
        return found[0].job_id if len(found) == 1 else None

    def until(self, moment: float) -> Job:
        """The jobs as one, waited for until a moment of ``time.monotonic``; started where nobody
        has."""
        wanted = slices(self.plan, self.attempt)
        seen: dict[str, Job] = {}
        tries = 0
        while True:
            self._look(wanted, seen)
            together = joined(job_id_of(self.plan, self.attempt), wanted, seen)
            if together.done or time.monotonic() >= moment:
                break
            pause = _POLL_SECONDS[min(tries, len(_POLL_SECONDS) - 1)]
            time.sleep(max(0.0, min(pause, moment - time.monotonic())))
            tries += 1
        self._stop_what_is_in_vain(together, seen)
        return together

    def _look(self, wanted: Sequence[Slice], seen: dict[str, Job]) -> None:
        """Look at each job that is not known to have ended; start the next, as many as may run."""
        open_ = [each for each in wanted if not _has_ended(seen.get(each.job_id))]
        started = [each for each in open_ if each.job_id in seen] or open_[:1]
        if not seen and len(wanted) > 1:
            started = open_  # of another process, maybe
        look = side_by_side if len(started) > 1 else map
        found = look(self._watched, started)
        for each, job in zip(started, found, strict=True):
            if job is not None:
                seen[each.job_id] = job
        if any(job.failure for job in seen.values()):
            return
        running = sum(not job.done for job in seen.values())
        for each in open_:
            if running >= self.limits.jobs_at_once:
                break
            if each.job_id not in seen:
                seen[each.job_id] = self._start(each, wanted)
                running += not seen[each.job_id].done

    def _watched(self, each: Slice) -> Job | None:
        return export.watch(self.client, each.job_id)

    def _start(self, each: Slice, wanted: Sequence[Slice]) -> Job:
        plan = self.plan
        uri = f"gs://{self.bucket}/{each.files}*.{plan.stored.extension}"
        limits = replace(self.limits, labels={**plan.labels, **self.limits.labels})
        if plan.by_extract:
            return export.extract(self.client, each.job_id, plan.table, uri, plan.stored, limits)
        if len(wanted) > 1 and each is wanted[0] and limits.maximum_bytes_billed:
            # All of them together, before one is run.
            whole = plan.select_sql(self.attempt.ordered)
            export.check_cost(self.client, whole, plan.parameters, limits.maximum_bytes_billed)
        sql = export.statement(each.sql, uri, plan.stored.options)
        return export.submit(self.client, each.job_id, sql, plan.parameters, limits)

    def _stop_what_is_in_vain(self, together: Job, seen: Mapping[str, Job]) -> None:
        for job in seen.values():
            if together.failure is None:
                stop_late(self.client, job, self.limits)
            elif not job.done:
                export.cancel(self.client, job.id)


def stop_late(client: bigquery.Client, job: Job, limits: Limits) -> None:
    """Cancel a job that BigQuery has not stopped when its time was over."""
    if not job.done and job.seconds > limits.timeout_seconds + _CANCEL_SECONDS:
        log.warning("Job %s runs for %.0f seconds, and is cancelled", job.id, job.seconds)
        export.cancel(client, job.id)


def _has_ended(job: Job | None) -> bool:
    return job is not None and job.done


def joined(id: str, wanted: Sequence[Slice], seen: Mapping[str, Job]) -> Job:
    """Jobs as one: done when all are, or one has failed; what they count is added up."""
    found = [seen[each.job_id] for each in wanted if each.job_id in seen]
    if len(wanted) == 1 and found:
        return found[0]
    failed = next((job for job in found if job.failure), None)
    if failed is not None:
        return replace(failed, id=id)
    known = [job.progress for job in found if job.progress is not None]
    counted = all(job.row_count is not None for job in found)
    return Job(
        id=id,
        done=len(found) == len(wanted) and all(job.done for job in found),
        ended=max((job.ended for job in found if job.ended), default=None),
        progress=(
            sum(1.0 if job.done else job.progress or 0.0 for job in found) / len(wanted)
            if known or any(job.done for job in found)
            else None
        ),
        file_count=sum(job.file_count or 0 for job in found),
        row_count=sum(job.row_count or 0 for job in found) if counted else None,
        bytes_billed=sum(job.bytes_billed for job in found),
        seconds=max((job.seconds for job in found), default=0.0),
    )
