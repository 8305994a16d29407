"""Making, changing and dropping tables, and their aliases, through BigQuery's table API.

Columns, descriptions and the table's metadata change in one request with the table's etag as
its precondition: a change that someone else made in between is never overwritten.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.table import guessing, layout, naming, types
from ckanext.bigquery_datastore.backend.table.lookup import (
    ID,
    Column,
    Table,
    from_api,
    get_table,
    reference,
)
from ckanext.bigquery_datastore.backend.table.model import (
    ALIAS_LABEL,
    NAME_LIMIT,
    Partitions,
    TooMuchMetadata,
    alias_description,
    column_description,
    stored_names,
    table_description,
    with_columns,
)
from ckanext.bigquery_datastore.errors import Invalid

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """What a client asks of a table's columns, with types guessed where none were given."""

    id: str
    type: types.Type | None
    info: Mapping[str, Any] | None = None
    plugin_data: Mapping[str, Any] | None = None


def wishes(
    fields: Sequence[Mapping[str, Any]],
    records: Any,
    plugin_data: Mapping[int, Mapping[str, Any]],
    existing: Iterable[str] = (),
) -> list[Wish]:
    """The columns that ``fields`` and the first record ask for; types of existing ones are
    left alone.

    :raises Invalid: in core's words
    """
    existing = set(existing)
    _check_names(fields)
    found = []
    first = _first_record(records)
    for place, given in enumerate(fields):
        name, known = given["id"], None
        if name not in existing:
            if not given.get("type") and (first is None or name not in first):
                raise Invalid({"fields": [f'"{name}" type not guessable']})
            known = _type(given.get("type") or guessing.guess((first or {})[name]))
        elif given.get("type"):
            _type(given["type"])
        info = given.get("info")
        found.append(
            Wish(name, known, info if isinstance(info, dict) else None, plugin_data.get(place))
        )
    names = [wish.id for wish in found]
    if len(set(names)) < len(names):
        raise Invalid({"field": ["Duplicate column names are not supported"]})
    for name, value in (first or {}).items():
        if name not in names and name not in existing:
            _check_name(name)
            found.append(Wish(name, _type(guessing.guess(value))))
    return found


def _first_record(records: Any) -> Mapping[str, Any] | None:
    if not records:
        return None
    if not isinstance(records, (list, tuple)):
        raise Invalid({"records": ["Records has to be a list of dicts"]})
    if not isinstance(records[0], Mapping):
        raise Invalid({"records": ["The first row is not a json object"]})
    return records[0]


def _type(name: Any) -> types.Type:
    found = naming.of_name(str(name))
    if found is None:
        raise Invalid({"fields": [f'"{name}" is not a valid field type']})
    return found


def _check_names(fields: Sequence[Mapping[str, Any]]) -> None:
    for given in fields:
        if given.get("type"):
            _type(given["type"])
        _check_name(given["id"])
    long = [given["id"] for given in fields if len(given["id"]) > NAME_LIMIT]
    if long:
        raise Invalid(
            {
                "fields": [
                    f'Column heading "{name}" exceeds limit of {NAME_LIMIT} characters.'
                    for name in long
                ]
            }
        )


def _check_name(name: str) -> None:
    # The action checks names too, but neither those of records nor lone surrogates.
    if not name or name.startswith("_") or name != name.strip() or '"' in name:
        raise Invalid({"fields": [f'"{name}" is not a valid field name']})


# --- create and change -------------------------------------------------------------------------


def planned(table: Table | None, id: str, asked: Sequence[Wish]) -> Table:
    """The table as it will be, with the columns asked for behind those it has."""
    if table is None:
        table = Table(config.project(), config.dataset(), id, (id_column(),))
    columns = {column.name: column for column in table.columns}
    new = [wish for wish in asked if wish.id not in columns]
    stored = stored_names([wish.id for wish in new], [c.stored for c in table.columns] + [table.id])
    for wish, name in zip(new, stored, strict=True):
        assert wish.type is not None
        columns[wish.id] = Column(wish.id, wish.type, name)
    for wish in asked:
        column = columns[wish.id]
        if wish.info is not None:
            column = replace(column, info=dict(wish.info))
        if wish.plugin_data:
            column = replace(column, plugin_data={**column.plugin_data, **wish.plugin_data})
        columns[wish.id] = column
    return replace(table, columns=tuple(columns.values()))


def id_column() -> Column:
    return Column(ID, types.TYPES["int8"], ID)


def create(client: bigquery.Client, table: Table) -> Table:
    """Make the table with its metadata; the table as it is.

    :raises Invalid: its data dictionary does not fit
    """
    api = bigquery.Table(reference(table.id), schema=_schema(table, {}))
    api.description = description_of(table)
    api.clustering_fields = layout.clustering(table) or None
    if table.has_id:
        api.range_partitioning = _range_partitioning(layout.partitions())
    with clients.told(f"making the table {table.id}", gexc.Conflict):
        try:
            made = client.create_table(api, **clients.patience())
        except gexc.Conflict:
            found = get_table(client, table.id)
            # The first request arrived, its answer did not; or it is an alias' name.
            if found is None or found.alias_of:
                raise Invalid({"resource_id": [f'"{table.id}" already exists']}) from None
            return found
    return from_api(kept(client, made))


def kept(client: bigquery.Client, made: bigquery.Table) -> bigquery.Table:
    """What we made, as it is; it does not expire, whatever the dataset's default is.

    A request that makes a table cannot say so: no time, and a NULL among OPTIONS, are both taken
    for the default (https://cloud.google.com/bigquery/docs/managing-tables#table-expiration).
    """
    if made.expires is None:
        return made
    until, made.expires = made.expires, None
    try:
        return client.update_table(made, ["expires"], **clients.patience())
    except clients.FAILURES as err:
        # A project without billing may not: https://cloud.google.com/bigquery/docs/sandbox#limits.
        log.error(
            "BigQuery deletes %s at %s, with its rows: the dataset has a default table expiration, "
            "and this table cannot be excepted from it (%s). Take the default from the dataset.",
            made.table_id,
            until,
            clients.reason(err) if isinstance(err, gexc.GoogleAPICallError) else err,
        )
        made.expires = until
        return made


def _range_partitioning(partitions: Partitions) -> bigquery.RangePartitioning:
    bounds = bigquery.PartitionRange(partitions.start, partitions.end, partitions.width)
    return bigquery.RangePartitioning(bounds, partitions.column)


def change(client: bigquery.Client, before: Table, after: Table) -> Table:
    """Give the table the columns and the metadata of ``after``; the table as it is then."""
    description = description_of(after)
    if after.columns == before.columns and description == before.description:
        return before
    with clients.told(f"changing the table {after.id}"):
        api = client.get_table(reference(after.id), **clients.budget())
        api.schema = _schema(after, {field.name: field for field in api.schema})
        api.description = description
        return from_api(client.update_table(api, ["schema", "description"], **clients.patience()))


def drop_columns(client: bigquery.Client, table: Table, names: Sequence[str]) -> Table:
    """Drop columns and what they hold; the table as it is then.

    A column that rows are clustered by cannot be dropped: they are clustered by others first.
    https://cloud.google.com/bigquery/docs/managing-table-schemas#delete_a_column
    """
    going = [column for column in table.columns if column.name in names]
    staying = [column for column in table.columns if column.name not in names]
    with clients.told(f"changing the table {table.id}"):
        api = client.get_table(reference(table.id), **clients.budget())
        if {column.stored for column in going} & set(api.clustering_fields or ()):
            api.clustering_fields = layout.clustering(with_columns(table, staying)) or None
            client.update_table(api, ["clustering_fields"], **clients.patience())
    drops = ", ".join(f"DROP COLUMN {column.sql}" for column in going)
    query.write(client, f"ALTER TABLE {table.sql_name} {drops}")
    return get_table(client, table.id) or table


def description_of(table: Table) -> str:
    """The table's description.

    :raises Invalid: its data dictionary does not fit
    """
    try:
        return table_description(table)
    except TooMuchMetadata as err:
        raise Invalid({"fields": [str(err)]}) from err


def _schema(
    table: Table, existing: Mapping[str, bigquery.SchemaField]
) -> list[bigquery.SchemaField]:
    """The columns for the API; of those that exist only the description is changed."""
    fields = []
    for column in table.columns:
        text = column_description(column)[0]
        if column.stored in existing:
            api = existing[column.stored].to_api_repr()
            fields.append(bigquery.SchemaField.from_api_repr({**api, "description": text}))
        else:
            fields.append(bigquery.SchemaField(column.stored, column.bq_type, description=text))
    return fields


def drop(client: bigquery.Client, table: Table) -> None:
    """Drop a table, and the aliases that stand for it."""
    for alias in table.aliases:
        _drop_view(client, table.id, alias)
    with clients.told(f"dropping the table {table.id}"):
        client.delete_table(reference(table.id), not_found_ok=True, **clients.budget())


# --- aliases -----------------------------------------------------------------------------------


def check_aliases(client: bigquery.Client, table: Table, aliases: Sequence[str]) -> None:
    """That no other table or alias has one of these names.

    :raises Invalid: in core's words
    """
    seen = set()
    for alias in aliases:
        if alias in seen or alias == table.id:
            raise Invalid({"alias": [f'"{alias}" already exists']})
        seen.add(alias)
        found = get_table(client, alias)
        if found is None:
            continue
        if found.alias_of is None:
            raise Invalid({"alias": [f'"{alias}" already exists']})
        if found.alias_of != table.id:
            raise Invalid({"alias": [f'The alias "{alias}" already exists.']})


def set_aliases(client: bigquery.Client, table: Table, aliases: Sequence[str]) -> None:
    """Make views of these names, and drop those of other names; ``table.aliases`` are the old."""
    for alias in table.aliases:
        if alias not in aliases:
            _drop_view(client, table.id, alias)
    for alias in aliases:
        _set_view(client, table, alias)


def _set_view(client: bigquery.Client, table: Table, alias: str) -> None:
    view = bigquery.Table(reference(alias))
    view.view_query = f"SELECT * FROM {table.sql_name}"
    view.description = alias_description(table.id)
    view.labels = {ALIAS_LABEL: re.sub(r"[^a-z0-9_-]", "_", table.id.lower())[:63]}
    with clients.told(f"making the alias {alias}", gexc.Conflict, gexc.BadRequest):
        try:
            kept(client, client.create_table(view, **clients.patience()))
        except gexc.Conflict:
            found = get_table(client, alias)
            if found is None or found.alias_of != table.id:
                raise Invalid({"alias": [f'"{alias}" already exists']}) from None
            # Anew: a view shows the columns of the day that its query was set.
            client.update_table(
                view,
                ["view_query", "description", "labels"],
                **clients.patience(),
            )
        except gexc.BadRequest:
            raise Invalid({"alias": [f'"{alias}" is not a valid alias name']}) from None


def _drop_view(client: bigquery.Client, resource_id: str, alias: str) -> None:
    found = get_table(client, alias)
    if found is not None and found.alias_of == resource_id:
        with clients.told(f"dropping the alias {alias}"):
            client.delete_table(reference(alias), not_found_ok=True, **clients.budget())
