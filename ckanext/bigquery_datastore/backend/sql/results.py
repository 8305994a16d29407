"""Running a checked query from outside, as the read-only identity, and its answer."""

from __future__ import annotations

import datetime
import json
from typing import Any

from google.cloud import bigquery

from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.search.run import Found
from ckanext.bigquery_datastore.backend.sql.check import Checked, NotAllowed
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.lookup import Column


def run(client: bigquery.Client, checked: Checked, most_rows: int, seconds: float) -> Found:
    """The rows of the query, at most ``most_rows``.

    :raises Refused, TookTooLong: see ``query.read``
    :raises NotAllowed: BigQuery says that it would read another table
    """
    text = checked.sql(most_rows)
    _check_plan(query.dry_run(client, text), checked)
    iterator = query.iterate(client, text, seconds=seconds)
    columns = tuple(column_of(checked, field) for field in iterator.schema)
    return Found(columns, [row.values() for row in iterator])


def planned(client: bigquery.Client, checked: Checked) -> tuple[Column, ...]:
    """The columns that the query will have, by a dry run (free).

    :raises Refused: BigQuery cannot run it
    :raises NotAllowed: BigQuery says that it would read another table
    """
    job = query.dry_run(client, checked.sql())
    _check_plan(job, checked)
    return tuple(column_of(checked, field) for field in job.schema or ())


def _check_plan(job: bigquery.QueryJob, checked: Checked) -> None:
    """A second look, by BigQuery's own parser: a SELECT, of these tables only."""
    if job.statement_type not in (None, "SELECT"):
        raise NotAllowed("Query is not a SELECT statement")
    if any(table.kind != "TABLE" for table in checked.tables):
        return  # what a view reads was the choice of who made it
    known = {(table.project, table.dataset, table.id) for table in checked.tables}
    for reference in job.referenced_tables or ():
        if (reference.project, reference.dataset_id, reference.table_id) not in known:
            raise NotAllowed(f"Not authorized to read {reference.table_id}")


def column_of(checked: Checked, field: bigquery.SchemaField) -> Column:
    """An output as a column: with the CKAN type of the column it comes from, where that shows."""
    repeated = field.mode == "REPEATED"
    plain = types.of_column(field.field_type, repeated, None)
    origin = checked.column(field.name, plain.bq)
    if origin is not None and not repeated:
        return Column(origin.name, origin.type, field.name)
    return Column(field.name, plain, field.name, repeated=repeated)


def records(found: Found, most_rows: int) -> list[dict[str, Any]]:
    """Records as core's datastore_search_sql gives them: numerics as Decimal, moments in ISO."""
    names = [column.name for column in found.columns]
    return [
        {
            name: _converted(column, value)
            for name, column, value in zip(names, found.columns, row, strict=True)
        }
        for row in found.rows[:most_rows]
    ]


def _converted(column: Column, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if column.type.document and isinstance(value, str):
        return json.loads(value)
    if column.bq_type in ("NUMERIC", "BIGNUMERIC"):
        return value
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    read = types.read(column.type, value)
    return read if isinstance(read, (str, list, dict)) else str(read)
