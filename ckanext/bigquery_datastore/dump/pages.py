"""A few rows as a file, straight from a query: no export, no object, no waiting."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend.query import parameter_list
from ckanext.bigquery_datastore.dump.formats import delimited
from ckanext.bigquery_datastore.dump.plan import DumpPlan


def page(
    client: bigquery.Client, plan: DumpPlan, maximum_bytes_billed: int | None, seconds: float
) -> Iterator[bytes]:
    """The bytes that an export of the same plan would give.

    :raises NotReachable: not within so many seconds
    """
    rows = _rows(client, plan, maximum_bytes_billed, seconds)
    if plan.format.rewrite:
        yield from plan.rewritten(_lines(rows, plan.select.aliases))
    else:
        yield plan.mark + plan.head
        yield from delimited(rows, plan.format.delimiter)


def _lines(rows: Iterable[Sequence[str | None]], names: Sequence[str]) -> Iterator[bytes]:
    """Rows as BigQuery exports them to NDJSON: one object a line, without its NULLs."""
    for row in rows:
        cells = zip(names, row, strict=True)
        yield json.dumps({name: text for name, text in cells if text is not None}).encode() + b"\n"


def _rows(
    client: bigquery.Client, plan: DumpPlan, maximum_bytes_billed: int | None, seconds: float
) -> Iterator[tuple[str | None, ...]]:
    job_config = bigquery.QueryJobConfig(query_parameters=parameter_list(plan.parameters))
    if maximum_bytes_billed:
        job_config.maximum_bytes_billed = maximum_bytes_billed
    with clients.told("a page of rows"):
        found = client.query_and_wait(
            plan.select_sql(),
            job_config=job_config,
            api_timeout=clients.CALL_SECONDS,
            wait_timeout=seconds,
            retry=clients.budget()["retry"],
        )
        for row in found:
            yield row.values()
