"""A table of PostgreSQL's, made of BigQuery's rows as core's DataStore makes its own.

Core's functions make the columns, the data dictionary, the trigger for full text, the indexes and
the aliases, in one transaction with the rows: until its end the database is as it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from ckan import model
from ckan import plugins as p
from ckan.plugins import toolkit as tk
from ckanext.datastore.backend import postgres as core
from ckanext.tabledesigner import datastore as designer
from sqlalchemy.engine import Connection, Engine

from ckanext.bigquery_datastore.backend.table.model import ID, Table, quote_name
from ckanext.bigquery_datastore.backend.table.types import TYPES
from ckanext.bigquery_datastore.errors import BadRequest, ConfigError
from ckanext.bigquery_datastore.migrate import kinds, sums, transit
from ckanext.bigquery_datastore.migrate.google import Objects
from ckanext.bigquery_datastore.migrate.postgres import (
    Found,
    identifier,
    rules_function,
    run,
    settle,
    told,
)
from ckanext.bigquery_datastore.migrate.rows import copied
from ckanext.bigquery_datastore.migrate.sums import Part, Sum

# What `ckan datastore set-permissions` makes.
_FUNCTION, _VIEW = "populate_full_text_trigger", "_table_metadata"

# What core's functions take for a parameter of their SQL, and fail.
_UNMAKEABLE = re.compile(r"(?<![:\w\\]):\w")

# The numbers of rows are a serial, as core makes it.
_ID = kinds.KINDS["int4"]


def prepare(engine: Engine) -> None:
    """Let the database be a DataStore of core's.

    :raises ConfigError: it is none
    """
    with told(), engine.begin() as connection:
        is_ready = connection.execute(
            sa.text(
                "SELECT EXISTS (SELECT FROM pg_proc WHERE proname = :function) "
                "AND to_regclass(:view) IS NOT NULL"
            ),
            {"function": _FUNCTION, "view": _VIEW},
        ).scalar()
        if not is_ready:
            raise ConfigError(
                "The database is not prepared for the DataStore: run the SQL that `ckan datastore "
                "set-permissions` prints there first, with this database in ckan.datastore."
                "write_url."
            )
        # As core does at its first use of a database.
        if connection.execute(sa.text("SELECT to_regtype('nested')::text")).scalar() is None:
            connection.execute(sa.text('CREATE TYPE "nested" AS (json json, extra text)'))
    forget_types()


def forget_types() -> None:
    """Core remembers the numbers of types for one database."""
    core._pg_types.clear()
    core._type_names.clear()


def wanted(table: Table) -> Found:
    """The table of BigQuery's, as PostgreSQL would have it."""
    refusals = []
    if table.kind != "TABLE" or not table.has_id:
        refusals.append("it is no table that the DataStore made")
    hidden = [c.name for c in table.columns if c.name.startswith("_") and c.name != ID]
    parts = [Part(identifier(ID), quote_name(ID), _ID)]
    for column in table.user_columns:
        if column.repeated or (column.type.name not in TYPES and not column.type.element):
            refusals.append(f"the column {column.name}: its type is BigQuery's own")
            continue
        if _UNMAKEABLE.search(column.name):
            refusals.append(f"the column {column.name!r}: CKAN cannot make it on PostgreSQL")
        parts.append(Part(identifier(column.name), column.sql, kinds.of(column.type)))
    notes = [f"the column {name}, which CKAN does not show" for name in hidden]
    if any(c.plugin_data.get("tabledesigner") for c in table.columns) and not _knows_rules():
        notes.append("Table Designer's rules: its plugin is not in ckan.plugins")
    return Found(table, tuple(parts), tuple(refusals), tuple(notes))


def _knows_rules() -> bool:
    return p.plugin_loaded("tabledesigner")


def receive(connection: Connection, parts: Sequence[Part], objects: Objects) -> Sum:
    """Let the texts that BigQuery wrote into the session's table; their sum."""
    settle(connection)
    make, copy = transit.statements(len(parts))
    run(connection, make)
    copied(connection, copy, objects)
    texts = [transit.compared(place, part) for place, part in enumerate(parts)]
    count, total = run(connection, sums.pg_select(texts, transit.TABLE)).fetchone()
    return Sum(int(count), total)


def make(connection: Connection, found: Found, *, instead: bool) -> None:
    """Make the table of the texts that were received.

    :param instead: the table that is there goes
    :raises BadRequest: core, or PostgreSQL, cannot make it
    """
    table = found.table
    if instead:
        run(connection, f"DROP TABLE {identifier(table.id)} CASCADE")
    context: Any = {"connection": connection, "model": model}
    given = {
        "resource_id": table.id,
        "fields": [
            {"id": c.name, "type": c.type.native, **({"info": dict(c.info)} if c.info else {})}
            for c in table.user_columns
        ],
        "primary_key": list(table.primary_key) or None,
        "indexes": [list(index) for index in table.indexes],
        "aliases": list(table.aliases),
    }
    plugin_data = {
        place: dict(c.plugin_data) for place, c in enumerate(table.user_columns) if c.plugin_data
    }
    run(connection, kinds.LIST_FUNCTION)
    columns = [found.parts[0].pg, *(identifier(c.name) for c in table.user_columns)]
    values = [
        f"{transit.received(0)}::integer",
        *(
            kinds.pg_value(column.type, transit.received(place))
            for place, column in enumerate(table.user_columns, 1)
        ),
    ]
    try:
        core.create_table(context, given, plugin_data)
        core._create_fulltext_trigger(connection, table.id)
        run(
            connection,
            f"INSERT INTO {identifier(table.id)} ({', '.join(columns)}) "
            f"SELECT {', '.join(values)} FROM {transit.TABLE} ORDER BY 1",
        )
        _continue_numbers(connection, table)
        core.create_indexes(context, given)
        core.create_alias(context, given)
        _set_rules(connection, table)
    except tk.ValidationError as err:
        raise BadRequest(f"CKAN cannot make the table: {err.error_dict}") from err


def _continue_numbers(connection: Connection, table: Table) -> None:
    """The next row's number is beyond all that were given out."""
    run(
        connection,
        f"SELECT setval(pg_get_serial_sequence({core.literal_string(identifier(table.id))}, '_id'),"
        f" greatest({table.last_id}, max({identifier(ID)}), 1), "
        f"greatest({table.last_id}, max({identifier(ID)})) > 0) FROM {identifier(table.id)}",
    )


def _set_rules(connection: Connection, table: Table) -> None:
    """Table Designer's rules as a trigger, by its own SQL."""
    if not _knows_rules():
        return
    rules = []
    for column in table.user_columns:
        told = column.plugin_data.get("tabledesigner")
        if not told:
            continue
        type_ = tk.h.tabledesigner_column_type(
            {"id": column.name, "type": column.type.native, "info": dict(column.info), **told}
        )
        rules += [
            type_.sql_validate_rule(),
            *(constraint.sql_constraint_rule() for constraint in type_.column_constraints()),
            type_.sql_required_rule(),
        ]
    if not any(rules):
        return
    body = designer.VALIDATE_DEFINITION_SQL.format(validate_rules="".join(filter(None, rules)))
    name = rules_function(table.id)
    run(
        connection,
        f"CREATE OR REPLACE FUNCTION {identifier(name)}() RETURNS trigger LANGUAGE plpgsql AS "
        f"{core.literal_string(body)}",
    )
    core._create_triggers(connection, table.id, [{"function": name}])


def respelled(connection: Connection, found: Found) -> list[str]:
    """Values that PostgreSQL writes otherwise than BigQuery does, by column: no loss of its own."""
    told = []
    for place, part in enumerate(found.parts):
        row = run(
            connection,
            f"SELECT count(*), min(t.{identifier(ID)}) FROM {identifier(found.table.id)} t "
            f"JOIN {transit.TABLE} s ON t.{identifier(ID)} = {transit.received(0)}::integer "
            f"WHERE {kinds.pg_canon(part.kind, f't.{part.pg}')} IS DISTINCT FROM "
            f"{transit.compared(place, part)}",
        ).fetchone()
        if row[0]:
            told.append(
                f"the column {part.pg}: PostgreSQL spells {row[0]:,} values its own way, the first "
                f"with _id {row[1]}"
            )
    return told
