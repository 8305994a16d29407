"""Running a checked query from outside, as the read-only identity, and its answer."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator
from typing import Any

from google.cloud import bigquery
from google.cloud.bigquery.table import Row

from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.search.run import Found
from ckanext.bigquery_datastore.backend.sql.check import MOST_TABLES, Checked, NotAllowed
from ckanext.bigquery_datastore.backend.sql.postgres.kinds import of_column
from ckanext.bigquery_datastore.backend.table import naming, types
from ckanext.bigquery_datastore.backend.table.lookup import Column
from ckanext.bigquery_datastore.errors import TooLarge


def run(
    client: bigquery.Client, checked: Checked, most_rows: int, most_bytes: int, seconds: float
) -> Found:
    """The rows of the query, at most ``most_rows``, and values of at most ``most_bytes``.

    :raises Refused, TookTooLong: see ``query.read``
    :raises NotAllowed: BigQuery says that it would read another table
    :raises TooLarge: the rows are too much for one answer
    """
    text = checked.sql(most_rows)
    certify(client, checked, text)
    iterator = query.iterate(client, text, seconds=seconds)
    columns = tuple(column_of(checked, field) for field in iterator.schema)
    return Found(columns, list(_within_bounds(iterator, most_bytes)))


def _within_bounds(rows: Iterable[Row], most_bytes: int) -> Iterator[Any]:
    """The rows' values, as long as they are no more than an answer may hold."""
    left = most_bytes
    for row in rows:
        values = row.values()
        left -= sum(len(value) if isinstance(value, str) else 8 for value in values)
        if left < 0:
            raise TooLarge(
                f"The answer would have more than {most_bytes:,} bytes. Ask for fewer rows "
                "(LIMIT) or fewer columns."
            )
        yield values


def planned(client: bigquery.Client, checked: Checked) -> tuple[Column, ...]:
    """The columns that the query will have, by a dry run (free).

    :raises Refused: BigQuery cannot run it
    :raises NotAllowed: BigQuery says that it would read another table
    """
    job = certify(client, checked, checked.sql())
    return tuple(column_of(checked, field) for field in job.schema or ())


def certify(client: bigquery.Client, checked: Checked, text: str) -> bigquery.QueryJob:
    """A second look at the very text that will run, by BigQuery's own parser; its free dry run.

    It must be one SELECT, not a script, of the tables that were checked and of no function that
    somebody made. What a view reads was the choice of who made it, so that is allowed, and asked
    of BigQuery, too. The client is the read-only one: BigQuery checks at a dry run that its
    identity may do all that the statement does
    (https://cloud.google.com/bigquery/docs/running-queries#dry-run), and that can only read.

    :raises Refused: BigQuery cannot run it
    :raises NotAllowed: it does anything else
    """
    job = _dry_run(client, text)
    known = {(table.project, table.dataset, table.id) for table in checked.tables}
    if not _references(job) <= known:
        for table in checked.tables:
            if table.kind != "TABLE":
                known |= _references(_dry_run(client, f"SELECT * FROM {table.sql_name}"))
    for _, _, name in sorted(_references(job) - known):
        raise NotAllowed(f"Not authorized to read {name}")
    return job


def _dry_run(client: bigquery.Client, text: str) -> bigquery.QueryJob:
    job = query.dry_run(client, text)
    if job.statement_type != "SELECT":
        raise NotAllowed("Query is not a SELECT statement")
    # The client library has no property for it
    # (https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobStatistics2).
    statistics = job._properties.get("statistics", {}).get("query", {})
    if statistics.get("referencedRoutines"):
        raise NotAllowed("Not authorized to call functions of a dataset")
    if len(job.referenced_tables or ()) > MOST_TABLES:
        raise NotAllowed(f"Not authorized to read more than {MOST_TABLES} tables in one query")
    return job


def _references(job: bigquery.QueryJob) -> set[tuple[str, str, str]]:
    return {
        (reference.project, reference.dataset_id, reference.table_id)
        for reference in job.referenced_tables or ()
    }


def column_of(checked: Checked, field: bigquery.SchemaField) -> Column:
    """An output as a column: with the CKAN type of the column it comes from, where that shows.

    Its name is PostgreSQL's, which two may have; BigQuery's is in ``stored``.
    """
    repeated = field.mode == "REPEATED"
    plain = naming.of_column(field.field_type, repeated, None)
    origin = None if repeated else checked.column(field.name, plain.bq)
    output = checked.output(field.name)
    if output is None:
        name, type_ = (origin.name, origin.type) if origin else (field.name, plain)
        return Column(name, type_, field.name, repeated=repeated)
    is_of_origin = origin is not None and of_column(origin) == output.kind
    known = types.TYPES.get(output.kind)
    if origin is not None and is_of_origin:
        type_ = origin.type
    else:
        type_ = known if known is not None and known.bq == plain.bq and not repeated else plain
    return Column(output.name, type_, field.name, repeated=repeated)


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
