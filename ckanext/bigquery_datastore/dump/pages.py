"""A few rows as a file, straight from a query: no export, no object, no waiting."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, spending
from ckanext.bigquery_datastore.backend.query import SEARCH, bytes_read, job_config, reasons
from ckanext.bigquery_datastore.dump.formats import delimited
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.errors import Busy


def page(client: bigquery.Client, plan: DumpPlan, seconds: float) -> Iterator[bytes]:
    """The bytes that an export of the same plan would give.

    :raises NotReachable: not within so many seconds
    :raises TooLarge, OverBudget: they would cost more than one search, or this day, may
    """
    rows = _rows(client, plan, seconds)
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
    client: bigquery.Client, plan: DumpPlan, seconds: float
) -> Iterator[tuple[str | None, ...]]:
    spending.check()
    with clients.told("a page of rows"):
        try:
            found = client.query_and_wait(
                plan.select_sql(),
                job_config=job_config(plan.parameters, seconds, SEARCH.limit()),
                api_timeout=clients.CALL_SECONDS,
                wait_timeout=seconds,
                retry=clients.budget()["retry"],
            )
        except gexc.GoogleAPICallError as err:
            if clients.is_too_expensive(err):
                raise SEARCH.refusal(err) from err
            if reasons(err) & {"stopped", "timeout"}:
                raise Busy(
                    f"BigQuery did not find these rows within {seconds:g} seconds. Without limit "
                    "they are exported to a file, however long that takes."
                ) from err
            raise
        spending.add(bytes_read(client, found))
        for row in found:
            yield row.values()
