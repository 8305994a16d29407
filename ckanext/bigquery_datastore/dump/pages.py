"""A few rows as a file, straight from a query: no export, no object, no waiting."""

from __future__ import annotations

import json
from collections.abc import Iterator

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend.query import parameter_list
from ckanext.bigquery_datastore.dump.formats import delimited
from ckanext.bigquery_datastore.dump.plan import DumpPlan


def page(
    client: bigquery.Client, plan: DumpPlan, maximum_bytes_billed: int | None
) -> Iterator[bytes]:
    """The bytes that an export of the same plan would give."""
    rows = _rows(client, plan, maximum_bytes_billed)
    if plan.format.rewrite:
        names = [column.name for column in plan.columns]
        lines = (
            json.dumps(
                {name: value for name, value in zip(names, row, strict=True) if value is not None}
            ).encode()
            + b"\n"
            for row in rows
        )
        yield from plan.format.rewrite(plan.fields, lines, plan.bom)
    else:
        yield plan.head
        yield from delimited(rows, plan.format.delimiter)


def _rows(
    client: bigquery.Client, plan: DumpPlan, maximum_bytes_billed: int | None
) -> Iterator[tuple[str | None, ...]]:
    job_config = bigquery.QueryJobConfig(query_parameters=parameter_list(plan.parameters))
    if maximum_bytes_billed:
        job_config.maximum_bytes_billed = maximum_bytes_billed
    with clients.told("a page of rows"):
        found = client.query_and_wait(
            plan.select_sql(),
            job_config=job_config,
            api_timeout=clients.CALL_SECONDS,
            wait_timeout=60,
            retry=clients.budget()["retry"],
        )
        for row in found:
            yield row.values()
