"""Statements for BigQuery, run within a budget of time and money.

Reads go through ``jobs.query`` (one request for a short answer). A write is a job whose end is
known before anything is said (``job``). It is tried again as a new job only when it has ended for
one of the reasons that BigQuery names as passing, never by its words
(https://cloud.google.com/bigquery/docs/error-messages).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import requests
from google.api_core import exceptions as gexc
from google.cloud import bigquery
from google.cloud.bigquery.table import Row, RowIterator

from ckanext.bigquery_datastore import clients, config, spending
from ckanext.bigquery_datastore.backend import job
from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError, TooLarge

READ_SECONDS = 60.0
WRITE_SECONDS = 120.0

# Tries again are ours to decide: the library would run a failed job anew (under another id).
_NO_JOB_RETRY: dict[str, Any] = {"job_retry": None}


class TookTooLong(BigQueryDatastoreError):
    """A statement was given up (and cancelled) after its time."""

    is_for_visitors = True


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


@dataclass(frozen=True)
class Purpose:
    """What a statement is for: the most bytes it may be billed for, and what costs less."""

    name: str
    limit: Callable[[], int | None]
    option: str
    cheaper: str

    def refusal(self, err: gexc.GoogleAPICallError) -> TooLarge:
        """What is said where BigQuery refuses a statement for its cost; it has not run."""
        needed = max(map(int, re.findall(r"\d+", message(err))), default=0)
        return TooLarge(
            f"This {self.name} would be billed for {needed:,} bytes of BigQuery tables; this site "
            f"allows {self.limit() or 0:,} bytes for one ({self.option}). {self.cheaper}"
        )


SEARCH = Purpose(
    "search",
    config.search_maximum_bytes_billed,
    config.SEARCH_MAXIMUM_BYTES_BILLED,
    "Fewer columns (fields=…) read fewer bytes, and so does a page in the order of _id. The whole "
    "table can be downloaded: /datastore/dump/<resource_id>.",
)
WRITE = Purpose(
    "change",
    config.write_maximum_bytes_billed,
    config.WRITE_MAXIMUM_BYTES_BILLED,
    "Many records in one request cost as much as one record. `ckan bigquery load` replaces the "
    "whole table, and is billed for the new rows alone.",
)


def purpose_of(client: bigquery.Client) -> Purpose:
    """What a client's statements are for."""
    return WRITE if clients.may_write(client) else SEARCH


def job_config(
    parameters: Iterable[Parameter],
    seconds: float,
    limit: int | None = None,
    *,
    dry_run: bool = False,
) -> bigquery.QueryJobConfig:
    """What every statement carries: its values, and the site's limits and labels."""
    built = bigquery.QueryJobConfig(
        query_parameters=parameter_list(parameters),
        labels=config.job_labels(),
        dry_run=dry_run,
        use_query_cache=not dry_run,
    )
    # The client library would send an unset limit as the text "None".
    if limit is not None:
        built.maximum_bytes_billed = limit
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
    :raises TooLarge: it would cost more than the site allows; it has not run
    :raises OverBudget: the site has spent what it may today, and an anonymous visitor asks
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
    purpose = purpose_of(client)
    if purpose is SEARCH:
        spending.check()
    with clients.told("a search", gexc.GoogleAPICallError):
        try:
            found = client.query_and_wait(
                sql,
                job_config=job_config(parameters, seconds, purpose.limit()),
                api_timeout=clients.CALL_SECONDS + seconds,
                wait_timeout=seconds,
                retry=clients.budget(seconds)["retry"],
                **_NO_JOB_RETRY,
            )
        except (concurrent.futures.TimeoutError, requests.Timeout) as err:
            raise TookTooLong("Search took too long") from err
        except gexc.GoogleAPICallError as err:
            _raise_of_search(err, purpose)
    spending.add(bytes_read(client, found))
    return found


def bytes_read(client: bigquery.Client, found: RowIterator) -> int:
    """What a query has read. The library tells it from 3.31 on, which CKAN 2.11's pins leave out:
    before, its job is asked where the site has a budget for the day."""
    known = getattr(found, "total_bytes_processed", None)
    if known is None and found.job_id and config.daily_bytes_billed():
        with contextlib.suppress(*clients.FAILURES):
            asked = client.get_job(found.job_id, **clients.budget())
            known = getattr(asked, "total_bytes_processed", None)
    return int(known or 0)


def _raise_of_search(err: gexc.GoogleAPICallError, purpose: Purpose) -> NoReturn:
    """Say why a query has no rows."""
    if clients.is_too_expensive(err):
        raise purpose.refusal(err) from err
    if isinstance(err, gexc.GatewayTimeout) or reasons(err) & {"stopped", "timeout"}:
        raise TookTooLong("Search took too long") from err
    if isinstance(err, (gexc.BadRequest, gexc.NotFound)):
        raise Refused(message(err)) from err
    with clients.told("a search"):
        raise err


def write(
    client: bigquery.Client,
    sql: str,
    parameters: Iterable[Parameter] = (),
    *,
    seconds: float = WRITE_SECONDS,
    job_id: str | None = None,
) -> int:
    """Run a statement (or a script) that changes data, exactly once; the rows it touched.

    :param job_id: how the ids of its jobs begin, where they follow from the work: another process
        that runs the same statement then finds the job
    :raises TookTooLong: after ``seconds``; the job is cancelled and nothing is changed
    :raises Refused: BigQuery cannot run it so
    :raises TooLarge: it would cost more than the site allows; nothing is changed
    """
    parameters = list(parameters)
    deadline = time.monotonic() + seconds

    def submit(id: str) -> bigquery.QueryJob:
        left = max(1.0, deadline - time.monotonic())
        config = job_config(parameters, left, WRITE.limit())
        return client.query(sql, job_id=id, job_config=config, **_NO_JOB_RETRY, **clients.budget())

    with clients.told("a change of data", gexc.BadRequest, gexc.NotFound):
        try:
            done = job.completed(client, submit, deadline, job_id)
        except (gexc.BadRequest, gexc.NotFound) as err:
            raise Refused(message(err)) from err
    if done.error_result is not None:
        _raise(done, deadline)
    spending.add(int(done.total_bytes_processed or 0))
    return int(done.num_dml_affected_rows or 0)


def _raise(done: bigquery.QueryJob, deadline: float) -> NoReturn:
    """Say why a job ended without its change."""
    err = cast("gexc.GoogleAPICallError", done.exception())
    if clients.is_too_expensive(err):
        raise WRITE.refusal(err) from err
    if time.monotonic() >= deadline or reasons(err) & {"stopped", "timeout"}:
        raise TookTooLong("Query took too long") from err
    if isinstance(err, (gexc.BadRequest, gexc.NotFound)):
        raise Refused(message(err)) from err
    with clients.told("a change of data"):
        raise err


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
            raise Refused(message(err)) from err


def reasons(err: gexc.GoogleAPICallError) -> set[str]:
    """The names that BigQuery gives to what went wrong."""
    return {error.get("reason", "") for error in err.errors or () if isinstance(error, dict)}


def message(err: gexc.GoogleAPICallError) -> str:
    """The words in which BigQuery tells of an error."""
    messages = [error.get("message", "") for error in err.errors or () if isinstance(error, dict)]
    return next(filter(None, messages), "") or str(err.message)
