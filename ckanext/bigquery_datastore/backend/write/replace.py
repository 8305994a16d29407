"""A table's rows and columns, replaced in one statement with the metadata that they keep.

CREATE OR REPLACE TABLE … AS SELECT is the one statement of BigQuery that changes rows, columns and
descriptions together: whoever reads finds the old table or the new one.
https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.table import definition, types
from ckanext.bigquery_datastore.backend.table.lookup import ID, Column, Table, reference
from ckanext.bigquery_datastore.backend.table.model import (
    column_description,
    quote_name,
    stored_names,
)
from ckanext.bigquery_datastore.errors import BadRequest


def planned(current: Table | None, id: str, columns: Sequence[tuple[str, types.Type]]) -> Table:
    """The table with these columns, and with what ``current`` knows of those that stay.

    :raises BadRequest: a column of the primary key does not stay
    """
    if current is None:
        return definition.planned(None, id, [definition.Wish(*column) for column in columns])
    if current.kind != "TABLE":
        raise BadRequest(f"{id} is no table of the DataStore's own, and is not replaced.")
    names = {name for name, _ in columns}
    lost = [name for name in current.primary_key if name not in names]
    if lost:
        raise BadRequest(
            f"The column {', '.join(lost)} is missing, which is in the table's primary key. "
            'Nothing is replaced. Give the table another key first (datastore_create with "primary_'
            'key"), or delete it.'
        )
    known = {column.name: column for column in current.columns}
    new = [name for name in names if name not in known]
    taken = [known[name].stored for name in names if name in known]
    stored = dict(zip(new, stored_names(new, [ID, *taken, id]), strict=True))
    return replace(
        current,
        columns=(
            known.get(ID) or definition.id_column(),
            *(
                replace(known[name], type=type_, repeated=False, fields=(), required=False)
                if name in known
                else Column(name, type_, stored[name])
                for name, type_ in columns
            ),
        ),
        indexes=tuple(index for index in current.indexes if set(index) <= names),
        last_id=0,
        block="",
    )


def check_key(client: bigquery.Client, table: Table, rows: str, seconds: float) -> None:
    """That no two rows of the query have the same primary key (without a NULL in it).

    :raises BadRequest: two have
    """
    if not table.primary_key:
        return
    key = [column.sql for column in table.columns if column.name in table.primary_key]
    known = " AND ".join(f"{name} IS NOT NULL" for name in key)
    found = query.read(
        client,
        f"SELECT COUNT(*) AS c FROM ({rows}) WHERE {known} "
        f"GROUP BY {', '.join(key)} HAVING COUNT(*) > 1 LIMIT 1",
        seconds=seconds,
    )
    if found:
        raise BadRequest(
            f"Two rows have the same {', '.join(table.primary_key)}, which is the table's primary "
            "key. Nothing is replaced."
        )


def replace_table(
    client: bigquery.Client, before: Table | None, after: Table, rows: str, seconds: float
) -> None:
    """Put ``after`` in the place of ``before``, with the rows of a query that gives its columns in
    their order. The caller holds ``lock.writing``.

    Labels and texts that someone gave the table in the console stay; row access policies and
    policy tags go with the table.

    :raises Refused: BigQuery cannot make the rows; the table is as it was
    """
    labels: Mapping[str, str] = {}
    clustering = definition.clustering(after)
    if before is not None:
        with clients.told(f"changing the table {after.id}"):
            api = client.get_table(reference(after.id), **clients.budget())
            labels = api.labels or {}
            if (api.clustering_fields or []) != clustering:
                # A table can only be replaced by one that is clustered alike. The fields are in
                # both of them: of the key or an index, whose columns stay, or else _id.
                api.clustering_fields = clustering or None
                client.update_table(api, ["clustering_fields"], **clients.patience())
    sql, parameters = statement(after, clustering, definition.description_of(after), labels)
    query.write(client, f"{sql} AS {rows}", parameters, seconds=seconds)
    with clients.tidied_up(f"The expiration of {after.id}"):
        definition.kept(client, client.get_table(reference(after.id), **clients.budget()))
    definition.set_aliases(client, after, after.aliases)


def statement(
    table: Table, clustering: Sequence[str], description: str, labels: Mapping[str, str]
) -> tuple[str, list[Parameter]]:
    """``CREATE OR REPLACE TABLE …`` up to its AS, and the texts beside it."""
    parameters: list[Parameter] = []

    def text(value: str) -> str:
        parameters.append(Parameter(f"d{len(parameters)}", "STRING", value))
        return f"@{parameters[-1].name}"

    columns = []
    for column in table.columns:
        told = column_description(column)[0]
        options = f" OPTIONS(description={text(told)})" if told else ""
        columns.append(f"{column.sql} {column.bq_type}{options}")
    pairs = ", ".join(f"({text(key)}, {text(value)})" for key, value in labels.items())
    options = [
        *([f"description={text(description)}"] if description else []),
        *([f"labels=[{pairs}]"] if pairs else []),
    ]
    by = f" CLUSTER BY {', '.join(map(quote_name, clustering))}" if clustering else ""
    said = f" OPTIONS({', '.join(options)})" if options else ""
    return f"CREATE OR REPLACE TABLE {table.sql_name} ({', '.join(columns)}){by}{said}", parameters
