"""A DataStore on PostgreSQL as it is: its tables, what CKAN knows of them, their rows.

A table is looked at, counted and read in one transaction that changes nothing and sees one moment
(``snapshot``): people may go on writing meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg2
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ckanext.bigquery_datastore.backend.table import definition, naming
from ckanext.bigquery_datastore.backend.table.model import ID, NAME_LIMIT, Table, quote_name
from ckanext.bigquery_datastore.backend.table.types import Type
from ckanext.bigquery_datastore.errors import ConfigError, OutsideError
from ckanext.bigquery_datastore.migrate import kinds
from ckanext.bigquery_datastore.migrate.sums import Part

SCHEME = "postgresql"

_INTEGERS = ("smallint", "integer", "bigint")

_COLUMNS = """
SELECT a.attname, CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
    ELSE format_type(a.atttypid, a.atttypmod) END, col_description(a.attrelid, a.attnum)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass(quote_ident(:id)) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum"""

_INDEXES = """
SELECT c.relname, i.indisunique, i.indexprs IS NOT NULL OR i.indpred IS NOT NULL, m.amname,
    ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (num, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num ORDER BY k.place)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
WHERE i.indrelid = to_regclass(quote_ident(:id)) AND NOT i.indisprimary ORDER BY c.oid"""

_TRIGGERS = """
SELECT t.tgname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = to_regclass(quote_ident(:id)) AND NOT t.tgisinternal
    AND p.proname NOT IN ('populate_full_text_trigger', :rules) ORDER BY 1"""


def identifier(name: str) -> str:
    """A name in PostgreSQL's SQL."""
    return '"' + name.replace('"', '""') + '"'


def rules_function(id: str) -> str:
    """The function that Table Designer makes for its rules."""
    return f"{id}_tabledesigner_validate"


@dataclass(frozen=True)
class Found:
    """A table of PostgreSQL's, as BigQuery would have it.

    ``refusals`` are reasons for which it cannot be brought, ``notes`` what of it stays behind.
    """

    table: Table
    parts: tuple[Part, ...] = ()
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def connected(url: str) -> Engine:
    """The database of an address.

    :raises ConfigError: it is no address of PostgreSQL's; the message has no password in it
    """
    try:
        parsed = sa.engine.make_url(url)
    except SQLAlchemyError as err:
        raise ConfigError(f"This is no address of a database: it must begin {SCHEME}://.") from err
    if parsed.get_backend_name() != SCHEME:
        raise ConfigError(f"The other DataStore must be {SCHEME}://…, not {parsed.drivername}://….")
    return sa.create_engine(parsed)


@contextmanager
def told() -> Iterator[None]:
    """Turn what PostgreSQL refuses into an error for a person."""
    try:
        yield
    except (DBAPIError, psycopg2.Error) as err:  # the latter out of a COPY
        words = " ".join(str(getattr(err, "orig", err)).split())
        raise OutsideError(f"PostgreSQL says: {words[:500]}") from err


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the database of one moment, and changes nothing."""
    with told(), engine.connect() as plain:
        connection = plain.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            connection.execute(sa.text("SET TRANSACTION READ ONLY"))
            settle(connection)
            yield connection


def settle(connection: Connection) -> None:
    """Let the session write values as ``kinds`` expects it, for this transaction."""
    for name, value in kinds.SETTINGS.items():
        connection.execute(
            sa.text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value}
        )


def run(connection: Connection, sql: str) -> Any:
    """The result of a statement in which colons and percent signs are nothing but that."""
    return connection.exec_driver_sql(sql, execution_options={"no_parameters": True})


def tables(connection: Connection) -> dict[str, int]:
    """The tables of the DataStore, and how many bytes each has on disk."""
    rows = connection.execute(
        sa.text(
            "SELECT relname, pg_table_size(oid) FROM pg_class WHERE relkind IN ('r', 'p') "
            "AND relnamespace = 'public'::regnamespace ORDER BY relname"
        )
    )
    return {name: int(size) for name, size in rows}


# --- what a table is ---------------------------------------------------------------------------


def found(connection: Connection, id: str) -> Found:
    """The table of this name, as it is to be in BigQuery."""
    rows = connection.execute(sa.text(_COLUMNS), {"id": id}).fetchall()
    native = {name: type_ for name, type_, _ in rows}
    refusals, notes, wishes, parts = [], [], [], []
    if native.get(ID) not in _INTEGERS:
        refusals.append("it has no column _id of whole numbers, as tables of the DataStore have")
    for name, type_, comment in rows:
        if name in (ID, "_full_text"):
            continue
        if name.startswith("_"):
            notes.append(f"the column {name}, which CKAN does not show")
            continue
        known = naming.of_name(type_) or naming.of_name(type_.partition("(")[0])
        if reason := _refusal(name, type_, known):
            refusals.append(reason)
            continue
        info, plugin_data = _dictionary(comment)
        wishes.append(definition.Wish(name, known, info, plugin_data))
        parts.append((name, kinds.of(known, type_) if known else None))
    table = definition.planned(None, id, wishes)
    stored = {column.name: column.sql for column in table.columns}
    table, left = _with_indexes(connection, table)
    aliases = connection.execute(
        sa.text('SELECT name FROM "_table_metadata" WHERE alias_of = :id ORDER BY name'), {"id": id}
    )
    triggers = connection.execute(sa.text(_TRIGGERS), {"id": id, "rules": rules_function(id)})
    notes += [*left, *(f"the trigger {name}" for (name,) in triggers)]
    return Found(
        replace(table, aliases=tuple(name for (name,) in aliases)),
        (
            Part(identifier(ID), quote_name(ID), kinds.KINDS["int8"]),
            *(Part(identifier(name), stored[name], kind) for name, kind in parts if kind),
        ),
        tuple(refusals),
        tuple(notes),
    )


def _refusal(name: str, type_: str, known: Type | None) -> str | None:
    if known is None:
        return f"the column {name}: the DataStore on BigQuery has no type {type_}"
    if '"' in name or name != name.strip() or len(name) > NAME_LIMIT:
        return f"the column {name!r}: CKAN allows no such name"
    return None


def _dictionary(comment: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A column's entry in the data dictionary, and what plugins know of it."""
    try:
        data = json.loads(comment or "{}")
    except ValueError:
        return {}, {}  # a comment of somebody else's
    if not isinstance(data, dict):
        return {}, {}
    if (comment or "").startswith("{"):
        return data, {}  # as CKAN wrote it before 2.11
    return data.pop("_info", None) or {}, data


def _with_indexes(connection: Connection, table: Table) -> tuple[Table, list[str]]:
    keys, indexes, left = [], [], []
    for name, is_unique, is_special, method, columns in connection.execute(
        sa.text(_INDEXES), {"id": table.id}
    ):
        if method in ("gist", "gin"):
            continue  # full text, which BigQuery searches without one
        if is_special or not all(map(table.column, columns)) or (is_unique and keys):
            left.append(f"the index {name}")
        elif is_unique:
            keys.append(tuple(columns))
        else:
            indexes.append(tuple(columns))
    key = keys[0] if keys else ()
    return replace(table, primary_key=key, indexes=tuple(indexes)), left


def differences(one: Table, other: Table) -> list[str]:
    """What two tables have otherwise, beside their rows. Both as CKAN sees them."""

    def told(table: Table) -> Mapping[str, Any]:
        return {
            "columns": [(c.name, c.type.native) for c in table.user_columns],
            "data dictionary": [(dict(c.info), dict(c.plugin_data)) for c in table.user_columns],
            "primary key": sorted(table.primary_key),
            "indexes": sorted(map(sorted, table.indexes)),
            "aliases": sorted(table.aliases),
        }

    left, right = told(one), told(other)
    return [name for name in left if left[name] != right[name]]
