"""A DataStore on PostgreSQL as it is: its tables, what CKAN knows of them, their rows.

A table is looked at, counted and read in one transaction that changes nothing and sees one moment
(``snapshot``): people may go on writing meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ckanext.bigquery_datastore.backend.table import definition, naming
from ckanext.bigquery_datastore.backend.table.model import ID, NAME_LIMIT, Table, quote_name
from ckanext.bigquery_datastore.backend.table.types import Type
from ckanext.bigquery_datastore.errors import ConfigError, OutsideError
from ckanext.bigquery_datastore.migrate import kinds, sums
from ckanext.bigquery_datastore.migrate.sums import Part, Sum

SCHEME = "postgresql"

#: The name of a row's number, and of the columns by their place, on the way to BigQuery.
ROW, PLACE = "_row", "_column_"

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

_LAST = """
SELECT CASE WHEN has_sequence_privilege(s.name, 'SELECT') THEN pg_sequence_last_value(s.name) END
FROM (SELECT pg_get_serial_sequence(quote_ident(:id), '_id')::regclass AS name) s
WHERE s.name IS NOT NULL"""


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
    except DBAPIError as err:
        words = " ".join(str(err.orig).split())
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


# --- its rows ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scan:
    """What a look at all rows has told. ``last_id`` is the highest number ever given out."""

    sum: Sum
    last_id: int
    refusals: tuple[str, ...]


def scan(connection: Connection, found: Found) -> Scan:
    """Count the rows, sum them up, and look for values that BigQuery cannot hold."""
    id, number = found.table.id, identifier(ID)
    limits = [
        (part, limit, limit.holds(part.pg)) for part in found.parts for limit in part.kind.pg_limits
    ]
    each = ", ".join(
        f"min({number}) FILTER (WHERE {holds}), count(*) FILTER (WHERE {holds})"
        for _, _, holds in limits
    )
    summed = sums.pg_row(sums.pg_canons(found.parts))
    count, total, last, unnumbered, met = run(
        connection,
        f"SELECT count(*), coalesce(sum({summed}), 0)::text, "
        f"coalesce(max({number}), 0), count(*) - count({number}), ARRAY[{each}]::bigint[] "
        f"FROM {identifier(id)}",
    ).fetchone()
    refusals = [f"{unnumbered:,} rows have no _id"] if unnumbered else []
    for (part, limit, _), place in zip(limits, range(0, len(met), 2), strict=True):
        if met[place + 1]:
            refusals.append(
                f"the column {part.pg}, {met[place + 1]:,} rows, the first with _id "
                f"{met[place]}: {limit.why}"
            )
    given = connection.execute(sa.text(_LAST), {"id": id}).scalar()
    return Scan(Sum(int(count), total), max(int(given or 0), last), tuple(refusals))


def sum_of(connection: Connection, found: Found) -> Sum:
    """Count and sum of a table's rows."""
    sql = sums.pg_select(sums.pg_canons(found.parts), identifier(found.table.id))
    count, total = run(connection, sql).fetchone()
    return Sum(int(count), total)


def count(connection: Connection, id: str) -> int:
    return int(run(connection, f"SELECT count(*) FROM {identifier(id)}").scalar())


def bounds(connection: Connection, found: Found) -> tuple[int, int]:
    """The lowest and the highest number of a row."""
    number, table = identifier(ID), identifier(found.table.id)
    sql = f"SELECT coalesce(min({number}), 1), coalesce(max({number}), 1) FROM {table}"
    first, last = run(connection, sql).fetchone()
    return int(first), int(last)


def groups(
    connection: Connection, found: Found, first: int, last: int, width: int
) -> list[tuple[int, int, str]]:
    """The sums of groups of so many numbers each, between two numbers."""
    number = identifier(ID)
    source = f"{identifier(found.table.id)} WHERE {number} BETWEEN {first} AND {last}"
    sql = sums.pg_select(
        sums.pg_canons(found.parts), source, f"({number}::bigint - {first}) / {width}"
    )
    return [(int(g), int(c), total) for g, c, total in run(connection, sql)]


def texts(connection: Connection, found: Found, number: int) -> Sequence[str | None] | None:
    """The texts by which a row is compared; None where there is no such row."""
    selected = ", ".join(sums.pg_canons(found.parts))
    row = run(
        connection,
        f"SELECT {selected} FROM {identifier(found.table.id)} WHERE {identifier(ID)} = {number}",
    ).fetchone()
    return None if row is None else list(row)


class Chunks:
    """A file that is written to, and gives away what it has got once it is ``size`` bytes."""

    def __init__(self, size: int, give: Callable[[bytes, int], None]) -> None:
        self._size, self._give = size, give
        self._held = bytearray()
        self._rows = 0

    def write(self, data: bytes) -> int:
        # One call is one row: https://www.psycopg.org/docs/cursor.html#cursor.copy_expert
        self._held += data
        self._rows += 1
        if len(self._held) >= self._size:
            self.end()
        return len(data)

    def end(self) -> None:
        if self._held:
            self._give(bytes(self._held), self._rows)
            self._held, self._rows = bytearray(), 0


def copy_out(connection: Connection, found: Found, file: Chunks) -> None:
    """Write the rows as objects of JSON, a line each, all values as texts but the number."""
    number, *values = found.parts
    selected = ", ".join(
        [
            f"{number.pg} AS {ROW}",
            *(
                f"{part.kind.pg_text(part.pg)} AS {PLACE}{place}"
                for place, part in enumerate(values, 1)
            ),
        ]
    )
    # Text of JSON has no control characters: as CSV with such quotes it is left as it is.
    sql = (
        f"COPY (SELECT row_to_json(r) FROM (SELECT {selected} FROM {identifier(found.table.id)} "
        f"ORDER BY {number.pg}) r) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
    )
    with connection.connection.cursor() as cursor:
        cursor.copy_expert(sql, file)
    file.end()


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
