"""Statements for BigQuery, run within a budget of time and money.

Reads go through ``jobs.query`` (one request for a short answer). A write gets a job id of
ours, so that a request which is repeated after a lost answer is the same job and not a
second one; it is tried again as a new job only for the reasons that BigQuery names as
passing (https://cloud.google.com/bigquery/docs/error-messages), never by its words.
"""

from __future__ import annotations

import concurrent.futures
import logging
import time
import uuid
from collections.abc import Iterable
from typing import Any

import requests
from google.api_core import exceptions as gexc
from google.cloud import bigquery
from google.cloud.bigquery.table import Row, RowIterator

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError

log = logging.getLogger(__name__)

READ_SECONDS = 60.0
WRITE_SECONDS = 120.0
ATTEMPTS = 4

_PASSING_REASONS = {
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "rateLimitExceeded",
    "tableUnavailable",
}

# Tries again are ours to decide: the library would run a failed job anew (under another id).
_NO_JOB_RETRY: dict[str, Any] = {"job_retry": None}


class TookTooLong(BigQueryDatastoreError):
    """A statement was given up (and cancelled) after its time."""


class Refused(BigQueryDatastoreError):
    """BigQuery refuses the statement: the message is BigQuery's."""


def parameter_list(
    parameters: Iterable[Parameter],
) -> list[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter]:
    """The parameters as the client library takes them."""
    return [
        bigquery.ArrayQueryParameter(parameter.name, parameter.type, list(parameter.value))
        if isinstance(parameter.value, tuple)
        else bigquery.ScalarQueryParameter(parameter.name, parameter.type, parameter.value)
        for parameter in parameters
    ]


def job_config(
    parameters: Iterable[Parameter], seconds: float, *, dry_run: bool = False
) -> bigquery.QueryJobConfig:
    """What every statement carries: its values, and the site's limits and labels."""
    built = bigquery.QueryJobConfig(
        query_parameters=parameter_list(parameters),
        labels=config.job_labels(),
        dry_run=dry_run,
        use_query_cache=not dry_run,
    )
    # The client library would send an unset limit as the text "None".
    if config.maximum_bytes_billed() is not None:
        built.maximum_bytes_billed = config.maximum_bytes_billed()
    if not dry_run:
        built.job_timeout_ms = int(seconds * 1000)
    return built


def read(
    client: bigquery.Client,
    sql: str,
    parameters: Iterable[Parameter] = (),
    *,
    seconds: float = READ_SECONDS,
) -> list[Row]:
    """The rows of a query.

    :raises TookTooLong: after ``seconds``
    :raises Refused: BigQuery cannot run it so
    """
    return list(iterate(client, sql, parameters, seconds=seconds))


def iterate(
    client: bigquery.Client,
    sql: str,
    parameters: Iterable[Parameter] = (),
    *,
    seconds: float = READ_SECONDS,
) -> RowIterator:
    """The result of a query, with its ``schema``; see ``read``."""
    with clients.told("a search", gexc.BadRequest, gexc.NotFound, gexc.GatewayTimeout):
        try:
            return client.query_and_wait(
                sql,
                job_config=job_config(parameters, seconds),
                api_timeout=clients.CALL_SECONDS + seconds,
                wait_timeout=seconds,
                retry=clients.budget(seconds)["retry"],
                **_NO_JOB_RETRY,
            )
        except (concurrent.futures.TimeoutError, gexc.GatewayTimeout, requests.Timeout) as err:
            raise TookTooLong("Search took too long") from err
        except (gexc.BadRequest, gexc.NotFound) as err:
            if reasons(err) & {"stopped", "timeout"}:
                raise TookTooLong("Search took too long") from err
            raise Refused(_message(err)) from err


def write(
    client: bigquery.Client,
    sql: str,
    parameters: Iterable[Parameter] = (),
    *,
    seconds: float = WRITE_SECONDS,
) -> int:
    """Run a statement (or a script) that changes data, exactly once; the rows it touched.

    :raises TookTooLong: after ``seconds``; the job is cancelled and nothing is changed
    :raises Refused: BigQuery cannot run it so
    """
    parameters = list(parameters)
    deadline = time.monotonic() + seconds
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _one_job(client, sql, parameters, deadline)
        except gexc.GoogleAPICallError as err:
            if not reasons(err) & _PASSING_REASONS or attempt == ATTEMPTS:
                if isinstance(err, (gexc.BadRequest, gexc.NotFound)):
                    raise Refused(_message(err)) from err
                with clients.told("a change of data"):
                    raise
            log.info("BigQuery asks to try again: %s", _message(err))
            time.sleep(min(2.0**attempt / 4, max(0.0, deadline - time.monotonic())))
    raise AssertionError("unreachable")


def _one_job(
    client: bigquery.Client, sql: str, parameters: list[Parameter], deadline: float
) -> int:
    left = max(1.0, deadline - time.monotonic())
    job_id = f"ckan_{uuid.uuid4().hex}"
    expected = (gexc.GoogleAPICallError,)
    with clients.told("a change of data", *expected):
        try:
            job: Any = client.query(
                sql,
                job_id=job_id,
                job_config=job_config(parameters, left),
                **_NO_JOB_RETRY,
                **clients.budget(),
            )
        except gexc.Conflict:
            # Our own first request arrived, its answer did not.
            job = client.get_job(job_id, location=client.location, **clients.budget())
        try:
            job.result(timeout=left, retry=clients.budget(left)["retry"], **_NO_JOB_RETRY)
        except (concurrent.futures.TimeoutError, requests.Timeout) as err:
            if not _cancelled(client, job):
                return int(job.num_dml_affected_rows or 0)
            raise TookTooLong("Query took too long") from err
        return int(job.num_dml_affected_rows or 0)


def _cancelled(client: bigquery.Client, job: Any) -> bool:
    """Stop a job, and tell whether it ended without its change."""
    job.cancel(**clients.budget())
    for _ in range(20):
        job = client.get_job(job.job_id, location=job.location, **clients.budget())
        if job.state == "DONE":
            return job.error_result is not None
        time.sleep(0.5)
    return True


def dry_run(
    client: bigquery.Client, sql: str, parameters: Iterable[Parameter] = ()
) -> bigquery.QueryJob:
    """The statement, planned and not run: its columns and the tables it reads. Free.

    :raises Refused: BigQuery cannot run it so
    """
    with clients.told("a search", gexc.BadRequest, gexc.NotFound):
        try:
            return client.query(
                sql,
                job_config=job_config(parameters, READ_SECONDS, dry_run=True),
                **_NO_JOB_RETRY,
                **clients.budget(),
            )
        except (gexc.BadRequest, gexc.NotFound) as err:
            raise Refused(_message(err)) from err


def reasons(err: gexc.GoogleAPICallError) -> set[str]:
    """The names that BigQuery gives to what went wrong."""
    return {error.get("reason", "") for error in err.errors or () if isinstance(error, dict)}


def _message(err: gexc.GoogleAPICallError) -> str:
    messages = [error.get("message", "") for error in err.errors or () if isinstance(error, dict)]
    return next(filter(None, messages), "") or str(err.message)
