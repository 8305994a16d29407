"""An export's life: claim, export, assemble, publish, tidy.

The engine keeps no state. What has been done is read off BigQuery (the job) and Cloud Storage (the
objects) at every turn, each step may be done twice without harm, and any process can take an
export one step further. A killed process leaves nothing to repair.

    dumps/<resource>/<format>/<revision>/<key>/data.<ext>     its existence is the publication
                                               attempt        who creates it has claimed the export;
                                                              its generation G names the attempt
                                               <G>/part-…     what BigQuery writes
                                               <G>/head, tree-…, footer
"""

from __future__ import annotations

import datetime as dt
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from google.cloud import bigquery

from ckanext.bigquery_datastore.backend.job import PASSING_REASONS
from ckanext.bigquery_datastore.dump import assemble, bom, export, parts
from ckanext.bigquery_datastore.dump.attempt import (
    Attempt,
    claim,
    claim_as,
    folder_of,
    now,
)
from ckanext.bigquery_datastore.dump.footers import merged_footer
from ckanext.bigquery_datastore.dump.objects import OBJECT_LIMIT, Headers, StoredObject
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.state import ASSEMBLE, EXPORT, Ready, Running
from ckanext.bigquery_datastore.dump.storage import ComposeRefused, Gone, Store
from ckanext.bigquery_datastore.dump.sweep import is_to_be_renewed, sweep
from ckanext.bigquery_datastore.dump.work import Work, stop_late
from ckanext.bigquery_datastore.errors import ExportFailed, NotReachable, OutsideError, TooLarge
from ckanext.bigquery_datastore.recent import Recent

log = logging.getLogger(__name__)

# A job that failed for a reason that may pass is tried again at once, as often as this.
MAX_ATTEMPTS = 3

# A job that failed for good is tried again when somebody asks after this many seconds.
FAILURE_TTL = 60

# How often one request takes up an export anew, because another process was quicker or a job
# failed, before it says that it cannot be done now.
MAX_TURNS = 10

# What joining and tidying may well take. A request that has waited for the job, and has less than
# this left, leaves it to the next one; one that came with little patience does it all the same.
ASSEMBLY_SECONDS = 6

# For the tidying of one that came with little patience. What is not deleted is left to a sweep.
_TIDY_SECONDS = 2


def _all_may(plan: DumpPlan) -> None:
    """For who counts nothing."""


def _not_counted(plan: DumpPlan, billed: int, size: int) -> None:
    """For who has no budget."""


@dataclass(frozen=True)
class Engine:
    """What an export is done with; ``ro`` looks, ``rw`` works.

    One that does not join leaves the phase ASSEMBLE to another. ``may_begin`` is asked before an
    export is claimed, and raises where it may not be; ``made`` hears of each file, once: the bytes
    that were billed for it, and those that it has.
    """

    bigquery: bigquery.Client
    ro: Store
    rw: Store
    limits: export.Limits
    url_lifetime: dt.timedelta
    recent: Recent[Ready]
    joins: bool = True
    may_begin: Callable[[DumpPlan], None] = _all_may
    made: Callable[[DumpPlan, int, int], None] = _not_counted

    def begin(self, plan: DumpPlan) -> Ready | Running:
        """Look up, claim, start: short calls alone, and nothing that has to be waited for.

        :raises BigQueryDatastoreError: as ``advance``
        """
        return replace(self, joins=False).advance(plan, time.monotonic())

    def look_again(self, plan: DumpPlan, state: Running, at_least: float) -> Ready | Running:
        """Look at a job that was running; where it has ended, take the export to its end.

        :param at_least: as in ``advance``
        """
        job = export.watch(self.bigquery, state.job) if state.job else None
        if job is None or job.done:
            return self.advance(plan, time.monotonic(), at_least)
        stop_late(self.bigquery, job, self.limits)
        return replace(state, progress=job.progress)

    def advance(
        self, plan: DumpPlan, until: float, at_least: float = ASSEMBLY_SECONDS
    ) -> Ready | Running:
        """Take the export as far as it goes until ``until`` (of ``time.monotonic``).

        :param at_least: seconds that Cloud Storage has in all, however soon ``until`` is

        :raises BigQueryDatastoreError: the export failed; nothing is left half-written
        """
        storage_until = max(until, time.monotonic() + at_least)
        within = replace(self, ro=self.ro.within(storage_until), rw=self.rw.within(storage_until))
        return within._marked(plan, until) if plan.mark else within._advance(plan, until)

    def _advance(self, plan: DumpPlan, until: float) -> Ready | Running:
        is_patient = time.monotonic() + 2 * ASSEMBLY_SECONDS < until
        for turn in range(MAX_TURNS):
            time.sleep(0.1 * turn)
            if ready := self.look_up(plan):
                return ready
            attempt = claim(self.ro, self.rw, plan, self.may_begin)
            if attempt is None:
                continue  # somebody else is claiming: look again
            self._check_size(attempt.refused or 0)
            work = Work(self.bigquery, self.rw.bucket, self.limits, plan, attempt)
            job = work.until(until)
            if not job.done:
                return Running(EXPORT, job.progress, attempt.created, work.only_job)
            if job.failure:
                self._try_again(plan, attempt, job)
                continue
            if not self.joins or (is_patient and until - time.monotonic() < ASSEMBLY_SECONDS):
                return Running(ASSEMBLE, None, attempt.created, parts=job.file_count)
            try:
                ready = self._assemble(plan, attempt, job)
            except Gone:
                log.info("Looking anew: another process works on %s", plan.target)
                continue
            self._tidy(
                plan,
                attempt,
                ready,
                until if is_patient else max(until, time.monotonic() + _TIDY_SECONDS),
            )
            return ready
        raise NotReachable("The export's files change all the time. Try again in a moment.")

    def look_up(self, plan: DumpPlan) -> Ready | None:
        """The finished file, where there is one."""
        return self.recent.get(plan.target, lambda: self._look(plan))

    def _look(self, plan: DumpPlan) -> Ready | None:
        found = self.ro.find(plan.target)
        if found is None:
            return None
        if is_to_be_renewed(found, self.url_lifetime):
            try:
                found = self.rw.renew(found)
            except Gone:
                return None
            except OutsideError as err:
                log.warning("%s is not renewed, and may be swept: %s", plan.target, err)
        if "parts" not in found.metadata:
            return Ready((found,), metadata=found.metadata)
        if ready := parts.look_up(self.ro, found):
            return ready
        log.warning("%s has lost parts, and is exported anew", plan.target)
        parts.discard(self.rw, found)
        return None

    def _marked(self, plan: DumpPlan, until: float) -> Ready | Running:
        """The file behind its byte order mark: nobody pays for an export twice for three bytes."""
        if ready := self.look_up(plan):
            return ready
        state = self._advance(plan.unmarked, until)
        if isinstance(state, Running):
            return state
        if not self.joins:
            return Running(ASSEMBLE, None, state.objects[0].created)
        try:
            return bom.put_before(self.rw, plan, plan.mark, state)
        except Gone as err:
            if ready := self.look_up(plan):
                return ready
            raise NotReachable("The file was replaced just now. Try again in a moment.") from err

    def _try_again(self, plan: DumpPlan, attempt: Attempt, job: export.Job) -> None:
        """Claim a new attempt after a failed one.

        :raises BigQueryDatastoreError: there is no point in one now
        """
        failure = job.failure or export.Failure("", "")
        age = (now() - (job.ended or attempt.created)).total_seconds()
        following = replace(attempt, number=attempt.number + 1)
        if self._is_too_large_to_sort(job, failure) and plan.may_be_unordered(attempt.ordered):
            log.warning("Job %s: too large to be sorted, exporting unsorted", job.id)
            following = replace(following, ordered=False)
        elif age > FAILURE_TTL:
            following = replace(following, number=1)
        elif failure.reason not in PASSING_REASONS or attempt.number >= MAX_ATTEMPTS:
            raise failure.error(of_sql=plan.is_sql)
        log.warning("Job %s failed (%s), trying again", job.id, failure.reason)
        claim_as(self.rw, plan, following)

    def _is_too_large_to_sort(self, job: export.Job, failure: export.Failure) -> bool:
        """For want of memory, or of time; a job that somebody stopped before is not meant."""
        if failure.reason in export.SORT_TOO_LARGE_REASONS:
            return True
        ran_out = job.seconds >= self.limits.timeout_seconds
        return failure.reason in export.STOPPED_REASONS and ran_out

    # assemble, publish, tidy

    def _assemble(self, plan: DumpPlan, attempt: Attempt, job: export.Job) -> Ready:
        folder = folder_of(plan, attempt)
        shards = self.rw.list(f"{folder}part-")
        if len(shards) != job.file_count:
            if ready := self.look_up(plan):
                return ready
            # Lifecycle rules or a person removed files: the job cannot be used any more.
            lost = export.Failure(
                "internalError", f"{job.file_count} files were written, {len(shards)} are there."
            )
            self._try_again(plan, attempt, replace(job, failure=lost))
            raise Gone(folder)
        self._refuse_larger(plan, attempt, shards)
        sources = self._sources(plan, folder, shards)
        headers = replace(
            plan.headers,
            metadata={
                "revision": plan.revision,
                "job": job.id,
                "ordered": str(attempt.ordered),
                # Of those who assemble at the same time, one publishes: this tells which.
                "publisher": uuid.uuid4().hex,
                **({} if job.row_count is None else {"rows": str(job.row_count)}),
            },
        )
        ready = self._publish(plan, folder, sources, headers)
        if not ready.cached:
            self.made(plan, job.bytes_billed, ready.size)
            log.info(
                "Exported %s: job %s, %d bytes billed, %s rows, %d shards, %.1f s, %d bytes",
                plan.target,
                job.id,
                job.bytes_billed,
                job.row_count,
                len(shards),
                job.seconds,
                ready.size,
            )
        return ready

    def _refuse_larger(
        self, plan: DumpPlan, attempt: Attempt, shards: Sequence[StoredObject]
    ) -> None:
        """Delete what is larger than allowed, and note it: it is not exported and billed again.

        :raises TooLarge: it was so
        """
        size = sum(part.size for part in shards)
        try:
            self._check_size(size)
        except TooLarge:
            claim_as(self.rw, plan, replace(attempt, refused=size))
            self.rw.delete(shards)
            raise

    def _check_size(self, size: int) -> None:
        if self.limits.most_bytes is not None and size > self.limits.most_bytes:
            raise TooLarge(
                f"The result has {size:,} bytes; this site allows {self.limits.most_bytes:,} "
                "(ckanext.bigquery_datastore.dump_sql_result_bytes). Ask for fewer rows or columns."
            )

    def _sources(
        self, plan: DumpPlan, folder: str, shards: Sequence[StoredObject]
    ) -> Sequence[StoredObject]:
        """What the file is made of, in order: head, shards with bytes, footer."""
        if plan.stored.footer:
            kept, footer = merged_footer(self.rw, shards, plan.footer_metadata, **plan.footer_marks)
            return [*kept, parts.once(self.rw, f"{folder}footer", footer)]
        filled = [part for part in shards if part.size]
        if plan.head or not filled:
            return [parts.once(self.rw, f"{folder}head", plan.head), *filled]
        return filled

    def _publish(
        self, plan: DumpPlan, folder: str, sources: Sequence[StoredObject], headers: Headers
    ) -> Ready:
        size = sum(source.size for source in sources)
        try:
            if size > OBJECT_LIMIT:
                raise ComposeRefused(f"{size} bytes are more than one object can hold.")
            found = assemble.compose_all(self.rw, folder, plan.target, sources, headers)
        except ComposeRefused as err:
            log.warning("%s stays in parts: %s", plan.target, err)
            return parts.publish(self.rw, plan, folder, sources, headers)
        if found.size != size and found.metadata.get("job") == headers.metadata["job"]:
            raise ExportFailed(f"Cloud Storage joined {size} bytes into {found.size}.")
        is_ours = found.metadata.get("publisher") == headers.metadata["publisher"]
        return Ready((found,), cached=not is_ours, metadata=found.metadata)

    def _tidy(self, plan: DumpPlan, attempt: Attempt, ready: Ready, until: float) -> None:
        """Delete what is not needed any more. The file is published: a failure here is no error."""
        if time.monotonic() > until:
            return
        try:
            if ready.objects[0].name == plan.target:
                self.rw.delete(self.rw.list(folder_of(plan, attempt)), until)
            sweep(self.rw, plan.swept, self.url_lifetime, until)
        except OutsideError as err:
            log.warning("Left for a later sweep: %s", err)
