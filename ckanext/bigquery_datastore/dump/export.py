"""BigQuery's part of a dump: one export job per attempt, submitted, adopted, watched.

A job's id follows from the attempt, so whoever submits it second gets a Conflict and watches the
job that is there (https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid). A job id
is burnt by its first use, also when the job fails.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from google.api_core import exceptions as gexc
from google.cloud import bigquery
from google.cloud.bigquery.job.base import _AsyncJob

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend.job import PASSING_REASONS
from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.query import parameter_list
from ckanext.bigquery_datastore.backend.table.model import Table
from ckanext.bigquery_datastore.dump.formats import Format
from ckanext.bigquery_datastore.errors import (
    BadRequest,
    BigQueryDatastoreError,
    ExportFailed,
    NotReachable,
    PermissionMissing,
    TooLarge,
)

TOO_EXPENSIVE_REASON = "bytesBilledLimitExceeded"
SORT_TOO_LARGE_REASONS = frozenset({"resourcesExceeded"})
STOPPED_REASONS = frozenset({"stopped", "timeout"})


@dataclass(frozen=True)
class Limits:
    """What one export may cost, and how large its files may be together. Bytes, seconds.

    ``jobs_at_once``: of its jobs, as many run at the same time.
    """

    maximum_bytes_billed: int | None
    timeout_seconds: int
    labels: Mapping[str, str]
    most_bytes: int | None = None
    jobs_at_once: int = 4


@dataclass(frozen=True)
class Failure:
    """Why a job ended without its files, in BigQuery's words."""

    reason: str
    message: str

    def error(self, *, of_sql: bool = False) -> BigQueryDatastoreError:
        """The failure as an error for a person; ``of_sql``: who has written the query."""
        if self.reason == TOO_EXPENSIVE_REASON:
            return TooLarge(
                "The export would cost more than this site allows "
                f"(ckanext.bigquery_datastore.maximum_bytes_billed). {self.message} "
                "Fewer columns (fields=…) read fewer bytes."
            )
        if self.reason == "accessDenied":
            return PermissionMissing(f"BigQuery may not run the export: {self.message}")
        if self.reason in SORT_TOO_LARGE_REASONS:
            return TooLarge(
                "BigQuery has not enough memory for this export. Without sort and distinct, or "
                f"with fewer rows (filters=…), it may have. {self.message}"
            )
        if self.reason in ("quotaExceeded", *PASSING_REASONS):
            return NotReachable(f"BigQuery cannot run the export now: {self.message}")
        if self.reason in STOPPED_REASONS:
            if of_sql:
                return TooLarge(
                    "The query takes longer than this site allows "
                    "(ckanext.bigquery_datastore.dump_sql_timeout_seconds)."
                )
            return ExportFailed(
                "The export was stopped before it ended: by hand, or after the "
                "job_timeout_seconds of this site."
            )
        if of_sql:
            return BadRequest(f"sql: {self.message}")
        return ExportFailed(f"BigQuery could not export the table: {self.message}")


@dataclass(frozen=True)
class Job:
    """An export job as it was last seen.

    ``done`` alone does not mean success: see ``failure``. ``progress`` is from 0 to 1, or None
    while BigQuery has not planned the work; ``file_count`` and ``row_count`` are known once done.
    ``seconds`` is how long it took, or has been taking.
    """

    id: str
    done: bool
    failure: Failure | None = None
    ended: dt.datetime | None = None
    progress: float | None = None
    file_count: int | None = None
    row_count: int | None = None
    bytes_billed: int = 0
    seconds: float = 0.0


def statement(select: str, uri: str, options: Mapping[str, str | bool]) -> str:
    """An EXPORT DATA statement. ``uri`` has one ``*``, in its file name."""
    rendered = ", ".join(
        f"{name}={_literal(value)}" for name, value in {"uri": uri, **options}.items()
    )
    return f"EXPORT DATA OPTIONS ({rendered}) AS\n{select}"


def submit(
    client: bigquery.Client,
    job_id: str,
    sql: str,
    parameters: Sequence[Parameter],
    limits: Limits,
) -> Job:
    """Start the job, or watch the one that has this id already.

    :raises TooLarge: BigQuery would bill more bytes than allowed; nothing was run
    """
    job_config = bigquery.QueryJobConfig(
        query_parameters=parameter_list(parameters),
        labels=dict(limits.labels),
        job_timeout_ms=limits.timeout_seconds * 1000,
        use_legacy_sql=False,
    )
    if limits.maximum_bytes_billed:
        check_cost(client, sql, parameters, limits.maximum_bytes_billed)
        job_config.maximum_bytes_billed = limits.maximum_bytes_billed
    try:
        with _starting(client):
            # job_retry=None: otherwise the client runs the whole export again under another id.
            job = client.query(
                sql, job_config=job_config, job_id=job_id, job_retry=None, **clients.budget()
            )
    except gexc.Conflict:
        # Another process's, or our own: a retried insert whose first answer was lost.
        return watch(client, job_id) or Job(job_id, done=False)
    return _seen(job)


def extract(
    client: bigquery.Client,
    job_id: str,
    table: Table,
    uri: str,
    format_: Format,
    limits: Limits,
) -> Job:
    """Like :func:`submit`, but by an extract job, which costs nothing.

    Whole tables only: https://cloud.google.com/bigquery/docs/exporting-data
    """
    job_config = bigquery.ExtractJobConfig(
        destination_format=format_.extract_format,
        compression=str(format_.options.get("compression", "NONE")),
        labels=dict(limits.labels),
        job_timeout_ms=limits.timeout_seconds * 1000,
    )
    try:
        with _starting(client):
            job = client.extract_table(
                bigquery.TableReference.from_string(table.full_id),
                uri,
                job_id=job_id,
                job_config=job_config,
                **clients.budget(),
            )
    except gexc.Conflict:
        return watch(client, job_id) or Job(job_id, done=False)
    return _seen(job)


@contextmanager
def _starting(client: bigquery.Client) -> Iterator[None]:
    """A dataset that BigQuery cannot find is most often in another location than it looks in."""
    try:
        with clients.told("the start of an export", gexc.Conflict, gexc.NotFound):
            yield
    except gexc.NotFound as err:
        raise PermissionMissing(
            f"BigQuery cannot start the export: {clients.reason(err)}. Is the dataset in the "
            f"location {client.location} (ckanext.bigquery_datastore.location)?"
        ) from err


def watch(client: bigquery.Client, job_id: str) -> Job | None:
    """The job as it is now; None where there is none of this id."""
    try:
        with clients.told("the state of an export", gexc.NotFound):
            return _seen(client.get_job(job_id, **clients.budget()))
    except gexc.NotFound:
        return None


def cancel(client: bigquery.Client, job_id: str) -> None:
    """Ask BigQuery to stop a job, which it then does, or not."""
    try:
        with clients.told("the end of an export", gexc.NotFound):
            client.cancel_job(job_id, **clients.budget())
    except gexc.NotFound:
        return


def check_cost(
    client: bigquery.Client, sql: str, parameters: Sequence[Parameter], limit: int
) -> None:
    """A dry run is free, and a job refused for its cost still burns its id."""
    job_config = bigquery.QueryJobConfig(query_parameters=parameter_list(parameters), dry_run=True)
    with clients.told("an estimate of an export's cost"):
        dry_run = client.query(sql, job_config=job_config, job_retry=None, **clients.budget())
    if (dry_run.total_bytes_processed or 0) > limit:
        raise TooLarge(
            f"This export would read {dry_run.total_bytes_processed:,} bytes of BigQuery tables; "
            f"this site allows {limit:,} bytes an export "
            "(ckanext.bigquery_datastore.maximum_bytes_billed). "
            "Fewer columns (fields=…) read fewer bytes."
        )


def _seen(job: _AsyncJob) -> Job:
    statistics = job._properties.get("statistics", {})
    query = statistics.get("query", {})
    exported = query.get("exportDataStatistics", {})
    counts = statistics.get("extract", {}).get("destinationUriFileCounts")
    file_count = sum(map(int, counts)) if counts else _int(exported.get("fileCount"))
    done = job.state == "DONE"
    failure = None
    if done and job.error_result:
        failure = Failure(job.error_result.get("reason", ""), job.error_result.get("message", ""))
    return Job(
        id=str(job.job_id),
        done=done,
        failure=failure,
        ended=job.ended,
        progress=_progress(query.get("timeline")),
        file_count=file_count if done else None,
        row_count=_int(exported.get("rowCount")) if done else None,
        bytes_billed=_int(query.get("totalBytesBilled")) or 0,
        seconds=_seconds(job),
    )


def _seconds(job: _AsyncJob) -> float:
    if not job.created:
        return 0.0
    return ((job.ended or dt.datetime.now(dt.timezone.utc)) - job.created).total_seconds()


def _progress(timeline: Sequence[Mapping[str, str]] | None) -> float | None:
    """Completed units of work in all that are known; BigQuery may revise the latter."""
    if not timeline:
        return None
    last = timeline[-1]
    completed = int(last.get("completedUnits", 0))
    total = completed + int(last.get("pendingUnits", 0)) + int(last.get("activeUnits", 0))
    return completed / total if total else None


def _int(value: str | int | None) -> int | None:
    return None if value is None else int(value)


def _literal(value: str | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\t", "\\t")
    return f"'{escaped}'"
