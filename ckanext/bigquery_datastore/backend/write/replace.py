"""A table's rows and columns, replaced in one statement with the metadata that they keep.

CREATE OR REPLACE TABLE … AS SELECT is the one statement of BigQuery that changes rows, columns and
descriptions together: whoever reads finds the old table or the new one.
https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language

How a table is partitioned cannot be changed so, nor in any other way: where the old one lies
otherwise than it should (``table.layout``), the new one is made aside and gets its name.
https://cloud.google.com/bigquery/docs/partitioned-tables#limitations
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.table import attached, definition, layout, types
from ckanext.bigquery_datastore.backend.table.lookup import ID, Column, Table, get_table, reference
from ckanext.bigquery_datastore.backend.table.model import (
    column_description,
    quote_name,
    stored_names,
)
from ckanext.bigquery_datastore.errors import BadRequest, BigQueryDatastoreError

#: Tables that are made to take another one's place. Those that stay are swept with the loads'.
ASIDE_PREFIX = "_load_"

#: Tables whose place is taken, for a moment. One that stays is somebody's data: it is not swept.
OLD_PREFIX = "_replaced_"


def planned(current: Table | None, id: str, columns: Sequence[tuple[str, types.Type]]) -> Table:
    """The table with these columns, and with what ``current`` knows of those that stay.

    :raises BadRequest: a column of the primary key does not stay
    """
    if current is None:
        return definition.planned(None, id, [definition.Wish(*column) for column in columns])
    attached.check_writable(current)
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
    client: bigquery.Client,
    before: Table | None,
    after: Table,
    rows: str,
    count: int,
    seconds: float,
    job_id: str | None = None,
) -> None:
    """Put ``after`` in the place of ``before``, with the rows of a query that gives its columns in
    their order, ``count`` of them, and about so many numbers. The caller holds ``lock.writing``.

    Labels and texts that someone gave the table in the console stay; row access policies and
    policy tags go with the table.

    :param job_id: how the ids of the jobs begin that change the table, see ``query.write``
    :raises Refused: BigQuery cannot make the rows; the table is as it was
    """
    labels: Mapping[str, str] = {}
    clustering = layout.clustering(after)
    partitions = layout.partitions(count)
    is_laid_out = before is None or layout.fits(before.partitions, count)
    if before is not None:
        if is_laid_out:
            partitions = before.partitions
        with clients.told(f"changing the table {after.id}"):
            api = client.get_table(reference(after.id), **clients.budget())
            labels = api.labels or {}
            if is_laid_out and (api.clustering_fields or []) != clustering:
                # A table can only be replaced by one that is clustered alike. The fields are in
                # both of them: of the key or an index, whose columns stay, or else _id.
                api.clustering_fields = clustering or None
                client.update_table(api, ["clustering_fields"], **clients.patience())
    after = replace(after, partitions=partitions)
    description = definition.description_of(after)
    if is_laid_out:
        sql, parameters = statement(after, after.sql_name, clustering, description, labels)
        query.write(client, f"{sql} AS {rows}", parameters, seconds=seconds, job_id=job_id)
    else:
        aside = replace(after, id=f"{ASIDE_PREFIX}{uuid.uuid4().hex}")
        sql, parameters = statement(after, aside.sql_name, clustering, description, labels)
        try:
            query.write(client, f"{sql} AS {rows}", parameters, seconds=seconds)
            _exchange(client, aside, after, job_id)
        finally:
            # It has gone to the table's place, or is not wanted there.
            with clients.tidied_up(aside.full_id):
                client.delete_table(reference(aside.id), not_found_ok=True, **clients.budget())
    with clients.tidied_up(f"The expiration of {after.id}"):
        definition.kept(client, client.get_table(reference(after.id), **clients.budget()))
    definition.set_aliases(client, after, after.aliases)


def lay_out(client: bigquery.Client, table: Table, seconds: float) -> bool:
    """Let the rows of a table lie as they would if it were loaded now; False where they do.

    The caller holds ``lock.writing``.

    :raises BadRequest: it is no table whose rows have numbers of ours
    """
    if table.kind != "TABLE" or not table.has_id:
        raise BadRequest(f"{table.id} is no table of the DataStore's own, and stays as it is.")
    count = max(table.num_rows, table.last_id)
    if layout.fits(table.partitions, count):
        return False
    columns = ", ".join(column.sql for column in table.columns)
    rows = f"SELECT {columns} FROM {table.sql_name}"
    replace_table(client, table, table, rows, count, seconds)
    return True


def _exchange(
    client: bigquery.Client, aside: Table, table: Table, job_id: str | None = None
) -> None:
    """Give a table that was made aside the name of the one that it replaces.

    One job, which goes on when this process is killed. Between its statements there is no table of
    that name for a moment; where one of them fails, the old table gets its name back. That the old
    one cannot be dropped afterwards is no failure of the change.
    https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language#alter_table_rename_to_statement
    """
    old = replace(table, id=aside.id.replace(ASIDE_PREFIX, OLD_PREFIX))
    try:
        query.write(
            client,
            f"""BEGIN
  ALTER TABLE {table.sql_name} RENAME TO {quote_name(old.id)};
  ALTER TABLE {aside.sql_name} RENAME TO {quote_name(table.id)};
EXCEPTION WHEN ERROR THEN
  ALTER TABLE IF EXISTS {old.sql_name} RENAME TO {quote_name(table.id)};
  RAISE;
END;
BEGIN
  DROP TABLE {old.sql_name};
EXCEPTION WHEN ERROR THEN
  SELECT 1;
END""",
            job_id=job_id,
        )
    except BigQueryDatastoreError:
        # A job that is cancelled handles no exception; and where tables expire by default, an old
        # one may go when it is renamed: then the new one has all that is left.
        for one in (old, aside):
            if get_table(client, table.id) is None:
                name = quote_name(table.id)
                query.write(client, f"ALTER TABLE IF EXISTS {one.sql_name} RENAME TO {name}")
        raise
    with clients.tidied_up(old.full_id):
        client.delete_table(reference(old.id), not_found_ok=True, **clients.budget())


def statement(
    table: Table,
    sql_name: str,
    clustering: Sequence[str],
    description: str,
    labels: Mapping[str, str],
) -> tuple[str, list[Parameter]]:
    """``CREATE OR REPLACE TABLE …`` up to its AS, under this name, and the texts beside it."""
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
    by = layout.clauses(table.partitions, clustering)
    said = f" OPTIONS({', '.join(options)})" if options else ""
    return f"CREATE OR REPLACE TABLE {sql_name} ({', '.join(columns)}){by}{said}", parameters
