"""One job of BigQuery's, from its submission to its end, whatever is heard of it in between.

A job has an id of ours. An error, or silence, at any call tells nothing about the job: it may
never have arrived, it may run, it may have ended well. So whatever happens the job is asked for by
its id, and only what it says itself counts. Submitting it once more under the same id is safe:
BigQuery takes an id once. https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.errors import Busy

log = logging.getLogger(__name__)

# A cancelled job ends within seconds; how long to listen for it beyond its own time.
SETTLE_SECONDS = 60.0
PAUSE_SECONDS = 0.5

# https://cloud.google.com/bigquery/docs/error-messages: failures that a new job may not meet.
PASSING_REASONS = frozenset(
    {
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "jobRateLimitExceeded",
        "rateLimitExceeded",
        "tableUnavailable",
    }
)
ATTEMPTS = 4
# Three of them are longer than the ten seconds over which changes of a table are counted.
THROTTLED_PAUSE_SECONDS = 4.0

UNKNOWN = (
    "BigQuery does not say what became of a change of data: it may still be made. Look at the "
    "table before you repeat it."
)

# A statement that reads nothing, is billed for nothing and changes nothing.
NOTHING = "SELECT 'in the place of a change that was never sent'"

# Sends the job with this id.
Submit = Callable[[str], Any]


def ended(
    client: bigquery.Client, submit: Submit, deadline: float, job_id: str | None = None
) -> Any:
    """The job, DONE: with its error or without. It is cancelled at ``deadline`` (monotonic).

    :param job_id: where it follows from the work: then a job that is there already is taken
    :raises NotReachable: Google tells not even a minute later what became of it
    :raises GoogleAPICallError: Google refuses to take it, and has not taken it
    """
    job_id = job_id or f"ckan_{uuid.uuid4().hex}"
    job = _submitted(client, submit, job_id, deadline)
    while job.state != "DONE" and time.monotonic() < deadline:
        left = max(0.5, deadline - time.monotonic())
        try:
            job.result(timeout=left, retry=clients.budget(left)["retry"], **_unrepeated(job))
        except clients.FAILURES:
            job = _asked(client, job_id) or _paused(job)
    return job if job.state == "DONE" else _cancelled(client, job)


def completed(
    client: bigquery.Client, submit: Submit, deadline: float, name: str | None = None
) -> Any:
    """The last job, DONE: where one ends for a reason that passes, another is submitted.

    :param name: how the ids of the jobs begin, where they follow from the work
    :raises NotReachable, GoogleAPICallError: as ``ended``
    """
    for attempt in range(1, ATTEMPTS + 1):
        done = ended(client, submit, deadline, _numbered(name, attempt) if name else None)
        reason = (done.error_result or {}).get("reason")
        is_last = attempt == ATTEMPTS or time.monotonic() >= deadline
        if reason not in PASSING_REASONS or is_last:
            return done
        log.info("BigQuery asks to try again: %s", done.error_result.get("message"))
        pause = THROTTLED_PAUSE_SECONDS if reason == "rateLimitExceeded" else 2.0**attempt / 4
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
    raise AssertionError("unreachable")


def succeeded(client: bigquery.Client, submit: Submit, deadline: float) -> Any:
    """The same, of a job that has done its work.

    :raises GoogleAPICallError: why it could not; nothing of it was done
    """
    done = completed(client, submit, deadline)
    if done.error_result is not None:
        raise done.exception()
    return done


def _numbered(name: str, attempt: int) -> str:
    return f"{name}_{attempt}"


def looked_at(client: bigquery.Client, submit: Submit, name: str, seconds: float) -> Any | None:
    """The job of this name once it has done its work; None while it is at work. Submitted here,
    unless it is there.

    :param seconds: for how long it may be watched
    :raises GoogleAPICallError: why it could not, or why Google does not take it
    """
    until = time.monotonic() + seconds
    job: Any = None
    for attempt in range(1, ATTEMPTS + 1):
        job_id = _numbered(name, attempt)
        job = _known(client, job_id) or _submitted(client, submit, job_id, until)
        while job.state != "DONE" and time.monotonic() < until:
            time.sleep(min(PAUSE_SECONDS, max(0.0, until - time.monotonic())))
            job = _asked(client, job_id) or job
        if job.state != "DONE":
            return None
        if job.error_result is None:
            return job
        if job.error_result.get("reason") not in PASSING_REASONS:
            break
    raise job.exception()


def has_succeeded(client: bigquery.Client, name: str, deadline: float) -> bool:
    """Whether a job of this name has done its work; one that is at work is waited for."""
    for attempt in range(1, ATTEMPTS + 1):
        job_id = _numbered(name, attempt)
        job = _known(client, job_id)
        if job is None:
            return False
        while job.state != "DONE" and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)
            job = _asked(client, job_id) or job
        if job.state != "DONE":
            raise Busy(UNKNOWN)
        if job.error_result is None:
            return True
    return False


def settled(client: bigquery.Client, name: str, deadline: float) -> None:
    """Have nothing run under a name any more that another process used, and that nobody will use.

    A job is waited for. Where there is none, its request may be on the way: BigQuery takes an id
    once, so one that does nothing takes its place.

    :raises Busy: at the ``deadline`` (monotonic)
    """

    def submit(job_id: str) -> bigquery.QueryJob:
        return client.query(NOTHING, job_id=job_id, job_retry=None, **clients.budget())

    for attempt in range(1, ATTEMPTS + 1):
        job_id = _numbered(name, attempt)
        job = _submitted(client, submit, job_id, deadline)
        while job.state != "DONE":
            if time.monotonic() >= deadline:
                raise Busy(UNKNOWN)
            time.sleep(PAUSE_SECONDS)
            job = _asked(client, job_id) or job
        is_passing = (job.error_result or {}).get("reason") in PASSING_REASONS
        if job.query == NOTHING or not is_passing:
            return


def _known(client: bigquery.Client, job_id: str) -> Any | None:
    """The job of this id; None where there is none.

    :raises NotReachable: nothing is heard
    """
    with clients.told("a job", gexc.NotFound):
        try:
            return client.get_job(job_id, location=client.location, **clients.budget())
        except gexc.NotFound:
            return None


def _unrepeated(job: Any) -> dict[str, Any]:
    """The library would run a failed query anew, under another id."""
    return {"job_retry": None} if isinstance(job, bigquery.QueryJob) else {}


def _submitted(client: bigquery.Client, submit: Submit, job_id: str, deadline: float) -> Any:
    is_doubtful = False
    while True:
        try:
            return submit(job_id)
        except clients.FAILURES as err:
            # Conflict: a request of ours arrived, its answer did not.
            is_doubtful = is_doubtful or clients.is_transient(err) or isinstance(err, gexc.Conflict)
            try:
                return client.get_job(job_id, location=client.location, **clients.budget())
            except clients.FAILURES as silence:
                is_doubtful = is_doubtful or clients.is_transient(silence)
            if not is_doubtful:
                raise
            if time.monotonic() >= deadline:
                if clients.is_throttled(err):
                    raise
                raise Busy(UNKNOWN) from err
        time.sleep(PAUSE_SECONDS)


def _asked(client: bigquery.Client, job_id: str) -> Any | None:
    """The job as BigQuery tells it, or None where nothing is heard of it now."""
    try:
        return client.get_job(job_id, location=client.location, **clients.budget())
    except clients.FAILURES:
        return None


def _paused(job: Any) -> Any:
    time.sleep(PAUSE_SECONDS)
    return job


def _cancelled(client: bigquery.Client, job: Any) -> Any:
    """The job after its end, which is asked for here; it may have come before that."""
    until = time.monotonic() + SETTLE_SECONDS
    is_asked_for = False
    while time.monotonic() < until:
        if not is_asked_for:
            try:
                job.cancel(**clients.budget())
                is_asked_for = True
            except clients.FAILURES:
                pass  # said again, after a look at the job
        job = _asked(client, job.job_id) or job
        if job.state == "DONE":
            return job
        time.sleep(PAUSE_SECONDS)
    raise Busy(UNKNOWN)
