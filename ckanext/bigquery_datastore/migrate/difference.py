"""Where two tables that should be equal differ, found by sums over ever fewer rows."""

from __future__ import annotations

from google.cloud import bigquery
from sqlalchemy.engine import Connection

from ckanext.bigquery_datastore.backend.table.model import Table
from ckanext.bigquery_datastore.migrate import google, postgres, rows, sums
from ckanext.bigquery_datastore.migrate.postgres import Found
from ckanext.bigquery_datastore.migrate.sums import Part


def parts_of(found: Found, table: Table) -> list[Part]:
    """The parts of a table of BigQuery's that has the same columns, maybe stored otherwise."""
    stored = {postgres.identifier(column.name): column.sql for column in table.columns}
    return [Part(part.pg, stored[part.pg], part.kind) for part in found.parts]


def told(connection: Connection, client: bigquery.Client, found: Found, made: Table) -> str:
    """Which row of PostgreSQL's is the first that BigQuery has otherwise, in which columns."""
    parts = parts_of(found, made)
    first, last = rows.bounds(connection, found)
    while True:
        width = sums.width(first, last)
        group = sums.first_difference(
            rows.groups(connection, found, first, last, width),
            google.groups(client, made, parts, first, last, width),
        )
        if group is None:
            return "the first row that differs was not found"
        first += group * width
        last = min(last, first + width - 1)
        if first == last:
            break
    left = rows.texts(connection, found, first)
    right = google.texts(client, made, parts, first)
    if left is None or right is None:
        return f"the first row that differs has _id {first}, and is on one side only"
    columns = [part.pg for part, a, b in zip(parts, left, right, strict=True) if a != b]
    return f"the first row that differs has _id {first} (column {', '.join(columns)})"
