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
import hashlib
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from google.cloud import bigquery

from ckanext.bigquery_datastore.dump import assemble, export
from ckanext.bigquery_datastore.dump.footers import merged_footer
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.storage import (
    OBJECT_LIMIT,
    ComposeRefused,
    Gone,
    Headers,
    Store,
    StoredObject,
    Taken,
)
from ckanext.bigquery_datastore.dump.sweep import sweep
from ckanext.bigquery_datastore.errors import ExportFailed, NotReachable, OutsideError
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
_ASSEMBLY_SECONDS = 6

# For the tidying of one that came with little patience. What is not deleted is left to a sweep.
_TIDY_SECONDS = 2

# BigQuery stops a job after job_timeout_seconds by itself, but "might not always succeed"
# (https://cloud.google.com/bigquery/docs/reference/rest/v2/Job): whoever still looks then asks it.
_CANCEL_SECONDS = 60

_POLL_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


@dataclass(frozen=True)
class Ready:
    """The file: one object, or, where no one object can exist, several that are to be joined.

    ``cached`` is false for whoever published it; ``metadata`` is that of the published object.
    """

    objects: tuple[StoredObject, ...]
    cached: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(found.size for found in self.objects)

    @property
    def crc32c(self) -> str | None:
        """The file's checksum as Cloud Storage has it: base64; None where it is in parts."""
        return self.objects[0].crc32c if len(self.objects) == 1 else None

    @property
    def rows(self) -> int | None:
        rows = self.metadata.get("rows")
        return None if rows is None else int(rows)

    @property
    def ordered(self) -> bool:
        """Whether the rows are in the order of the plan; not where they were too many to sort."""
        return self.metadata.get("ordered", "True") == "True"


# Finished files by their name in the bucket, as this process heard of them a moment ago.
FILES: Recent[Ready] = Recent()


@dataclass(frozen=True)
class Running:
    """Not yet. ``progress`` of the phase is from 0 to 1, or None where it is not known."""

    phase: str
    progress: float | None
    started: dt.datetime


@dataclass(frozen=True)
class _Attempt:
    """The claim on an export. ``number`` counts from 1; ``ordered`` as in DumpPlan.select_sql."""

    generation: int
    created: dt.datetime
    number: int = 1
    ordered: bool = True


@dataclass(frozen=True)
class Engine:
    """What an export is done with; ``ro`` looks, ``rw`` works."""

    bigquery: bigquery.Client
    ro: Store
    rw: Store
    limits: export.Limits
    url_lifetime: dt.timedelta
    recent: Recent[Ready]

    def advance(self, plan: DumpPlan, until: float) -> Ready | Running:
        """Take the export as far as it goes until ``until`` (of ``time.monotonic``).

        :raises BigQueryDatastoreError: the export failed; nothing is left half-written
        """
        if plan.mark:
            return self._marked(plan, until)
        is_patient = time.monotonic() + 2 * _ASSEMBLY_SECONDS < until
        for turn in range(MAX_TURNS):
            time.sleep(0.1 * turn)
            if ready := self.look_up(plan):
                return ready
            attempt = self._claim(plan)
            if attempt is None:
                continue  # somebody else is claiming: look again
            job = self._export(plan, attempt, until)
            if not job.done:
                return Running("export", job.progress, attempt.created)
            if job.failure:
                self._try_again(plan, attempt, job)
                continue
            if is_patient and until - time.monotonic() < _ASSEMBLY_SECONDS:
                return Running("assemble", None, attempt.created)
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
        if "parts" not in found.metadata:
            return Ready((found,), metadata=found.metadata)
        parts = _in_order(self.ro.list(found.metadata["parts"]))
        return Ready(parts, metadata=found.metadata)

    def _marked(self, plan: DumpPlan, until: float) -> Ready | Running:
        """The file behind its byte order mark: nobody pays for an export twice for three bytes."""
        if ready := self.look_up(plan):
            return ready
        state = self.advance(plan.unmarked, until)
        if isinstance(state, Running):
            return state
        try:
            return self._put_before(plan, plan.mark, state)
        except Gone as err:
            if ready := self.look_up(plan):
                return ready
            raise NotReachable("The file was replaced just now. Try again in a moment.") from err

    def _put_before(self, plan: DumpPlan, mark: bytes, file: Ready) -> Ready:
        first = self._once(f"{plan.prefix}mark", mark)
        in_parts = replace(file, objects=(first, *file.objects))
        if len(file.objects) > 1 or in_parts.size > OBJECT_LIMIT:
            return in_parts
        headers = replace(plan.headers, metadata=file.metadata)
        try:
            found = self.rw.compose(plan.target, in_parts.objects, headers)
        except ComposeRefused as err:
            log.warning("%s stays in parts: %s", plan.target, err)
            return in_parts
        self.rw.delete([first])
        return replace(file, objects=(found,))

    # claim

    def _claim(self, plan: DumpPlan) -> _Attempt | None:
        """The attempt that is under way, or a new one; None where another process was quicker."""
        found = self.ro.find(plan.attempt)
        if found is not None:
            return _attempt(found)
        return self._claim_as(plan, _Attempt(0, _now()))

    def _claim_as(self, plan: DumpPlan, wanted: _Attempt) -> _Attempt | None:
        """Claim by compare-and-swap: ``wanted.generation`` is what may be replaced."""
        headers = Headers(
            "application/octet-stream",
            metadata={"number": str(wanted.number), "ordered": str(wanted.ordered)},
        )
        try:
            return _attempt(self.rw.create(plan.attempt, b"", headers, wanted.generation))
        except Taken:
            return None

    def _try_again(self, plan: DumpPlan, attempt: _Attempt, job: export.Job) -> None:
        """Claim a new attempt after a failed one.

        :raises BigQueryDatastoreError: there is no point in one now
        """
        failure = job.failure or export.Failure("", "")
        age = (_now() - (job.ended or attempt.created)).total_seconds()
        following = replace(attempt, number=attempt.number + 1)
        if failure.reason in export.SORT_TOO_LARGE_REASONS and plan.may_be_unordered(
            attempt.ordered
        ):
            log.warning("Job %s: too large to be sorted, exporting unsorted", job.id)
            following = replace(following, ordered=False)
        elif age > FAILURE_TTL:
            following = replace(following, number=1)
        elif failure.reason not in export.TRANSIENT_REASONS or attempt.number >= MAX_ATTEMPTS:
            raise failure.error()
        log.warning("Job %s failed (%s), trying again", job.id, failure.reason)
        self._claim_as(plan, following)

    # export

    def _export(self, plan: DumpPlan, attempt: _Attempt, until: float) -> export.Job:
        """The attempt's job, waited for until ``until``; started where nobody has."""
        job_id = _job_id(plan, attempt)
        job = export.watch(self.bigquery, job_id) or self._start(plan, attempt, job_id)
        tries = 0
        while not job.done and time.monotonic() < until:
            pause = _POLL_SECONDS[min(tries, len(_POLL_SECONDS) - 1)]
            time.sleep(max(0.0, min(pause, until - time.monotonic())))
            job = export.watch(self.bigquery, job_id) or job
            tries += 1
        if not job.done and job.seconds > self.limits.timeout_seconds + _CANCEL_SECONDS:
            log.warning("Job %s runs for %.0f seconds, and is cancelled", job.id, job.seconds)
            export.cancel(self.bigquery, job_id)
        return job

    def _start(self, plan: DumpPlan, attempt: _Attempt, job_id: str) -> export.Job:
        uri = f"gs://{self.rw.bucket}/{_folder(plan, attempt)}part-*.{plan.stored.extension}"
        limits = replace(self.limits, labels={**plan.labels, **self.limits.labels})
        if plan.by_extract:
            return export.extract(self.bigquery, job_id, plan.table, uri, plan.stored, limits)
        sql = export.statement(plan.select_sql(attempt.ordered), uri, plan.stored.options)
        return export.submit(self.bigquery, job_id, sql, plan.parameters, limits)

    # assemble, publish, tidy

    def _assemble(self, plan: DumpPlan, attempt: _Attempt, job: export.Job) -> Ready:
        folder = _folder(plan, attempt)
        parts = self.rw.list(f"{folder}part-")
        if len(parts) != job.file_count:
            if ready := self.look_up(plan):
                return ready
            # Lifecycle rules or a person removed files: the job cannot be used any more.
            lost = export.Failure(
                "internalError", f"{job.file_count} files were written, {len(parts)} are there."
            )
            self._try_again(plan, attempt, replace(job, failure=lost))
            raise Gone(folder)
        sources = self._sources(plan, folder, parts)
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
            log.info(
                "Exported %s: job %s, %d bytes billed, %s rows, %d shards, %.1f s, %d bytes",
                plan.target,
                job.id,
                job.bytes_billed,
                job.row_count,
                len(parts),
                job.seconds,
                ready.size,
            )
        return ready

    def _sources(
        self, plan: DumpPlan, folder: str, parts: Sequence[StoredObject]
    ) -> Sequence[StoredObject]:
        """What the file is made of, in order: head, shards with bytes, footer."""
        if plan.stored.footer:
            kept, footer = merged_footer(self.rw, parts, plan.footer_metadata, **plan.footer_marks)
            return [*kept, self._once(f"{folder}footer", footer)]
        filled = [part for part in parts if part.size]
        if plan.head or not filled:
            return [self._once(f"{folder}head", plan.head), *filled]
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
            return self._publish_parts(plan, folder, sources, headers)
        if found.size != size and found.metadata.get("job") == headers.metadata["job"]:
            raise ExportFailed(f"Cloud Storage joined {size} bytes into {found.size}.")
        is_ours = found.metadata.get("publisher") == headers.metadata["publisher"]
        return Ready((found,), cached=not is_ours, metadata=found.metadata)

    def _publish_parts(
        self, plan: DumpPlan, folder: str, sources: Sequence[StoredObject], headers: Headers
    ) -> Ready:
        """Publish a file that cannot be one object: an empty one whose metadata tells of the parts.

        :raises Gone: another process has published first
        """
        try:
            marked = replace(headers, metadata={**headers.metadata, "parts": folder})
            self.rw.create(plan.target, b"", marked)
        except Taken as err:
            raise Gone(folder) from err
        return Ready(_in_order(sources), cached=False, metadata=marked.metadata)

    def _tidy(self, plan: DumpPlan, attempt: _Attempt, ready: Ready, until: float) -> None:
        """Delete what is not needed any more. The file is published: a failure here is no error."""
        if time.monotonic() > until:
            return
        try:
            if ready.objects[0].name == plan.target:
                self.rw.delete(self.rw.list(_folder(plan, attempt)), until)
            sweep(self.rw, plan.family, self.url_lifetime, until)
        except OutsideError as err:
            log.warning("Left for a later sweep: %s", err)

    def _once(self, name: str, data: bytes) -> StoredObject:
        """A small object of the assembly; another process may have written the same bytes."""
        try:
            return self.rw.create(name, data, Headers("application/octet-stream"))
        except Taken:
            found = self.rw.find(name)
            if found is None:
                raise Gone(name) from None
            return found


_ROLES = ("head", "part-", "footer")


def _in_order(found: Sequence[StoredObject]) -> tuple[StoredObject, ...]:
    """The objects that make a file, as they follow one another; others left out."""

    def role(item: StoredObject) -> int:
        name = item.name.rpartition("/")[2]
        return next((i for i, start in enumerate(_ROLES) if name.startswith(start)), -1)

    parts = [item for item in found if item.size and role(item) >= 0]
    return tuple(sorted(parts, key=lambda item: (role(item), item.name)))


def _attempt(found: StoredObject) -> _Attempt:
    return _Attempt(
        generation=found.generation,
        created=found.created,
        number=int(found.metadata.get("number", 1)),
        ordered=found.metadata.get("ordered", "True") == "True",
    )


def _folder(plan: DumpPlan, attempt: _Attempt) -> str:
    return f"{plan.prefix}{attempt.generation}/"


def _job_id(plan: DumpPlan, attempt: _Attempt) -> str:
    """https://cloud.google.com/bigquery/docs/reference/rest/v2/JobReference"""
    digest = hashlib.sha256(plan.prefix.encode()).hexdigest()[:32]
    return f"ckan_dump_{digest}_{attempt.generation}"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
