"""The way of every table from one DataStore to the other, one after the other.

What is there already and equal is left alone, and each table appears whole or not at all: so a run
that was killed is finished by the next one, with nothing to remember in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ckan.plugins import toolkit as tk
from google.cloud import bigquery
from sqlalchemy.engine import Engine

from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.backend.table import definition
from ckanext.bigquery_datastore.backend.table.lookup import get_table, listed
from ckanext.bigquery_datastore.backend.table.model import Table
from ckanext.bigquery_datastore.backend.write import lock
from ckanext.bigquery_datastore.dump.storage import Store
from ckanext.bigquery_datastore.errors import BadRequest, BigQueryDatastoreError
from ckanext.bigquery_datastore.migrate import difference, google, postgres, rebuild, rows
from ckanext.bigquery_datastore.migrate.postgres import Found
from ckanext.bigquery_datastore.migrate.sums import Sum

BROUGHT, EQUAL, REFUSED, DECLINED = "brought", "equal", "cannot be brought", "left as it is"

# Asked before what is there, and differs, goes: its name and its rows.
Ask = Callable[[str, int], bool]

# How much of a table's size (in bytes) has been done since it was last called.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Result:
    """What became of a table, or of a look at it. ``told`` are reasons, and what stays behind."""

    id: str
    state: str
    rows: int = 0
    bytes: int = 0
    told: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        return self.state in (BROUGHT, EQUAL, "")


@dataclass(frozen=True)
class Sides:
    """Both DataStores."""

    engine: Engine
    client: bigquery.Client
    store: Store


class Differs(BigQueryDatastoreError):
    """After the way, the rows on both sides are not the same."""


def in_postgresql(sides: Sides, names: Sequence[str]) -> dict[str, int]:
    """The tables of PostgreSQL that are resources', with their bytes; only the named ones.

    :raises BadRequest: a named one is not there
    """
    with postgres.snapshot(sides.engine) as connection:
        return _named(postgres.tables(connection), names)


def in_bigquery(sides: Sides, names: Sequence[str]) -> dict[str, int]:
    """The same of BigQuery."""
    found = {}
    for item in listed(sides.client):
        if item.alias_of is None and (not names or item.id in names) and door.is_live(item.id):
            table = get_table(sides.client, item.id)
            if table is not None:
                found[item.id] = table.num_bytes
    return _named(found, names)


def strangers(sides: Sides) -> list[str]:
    """The tables of PostgreSQL that are no resource's."""
    with postgres.snapshot(sides.engine) as connection:
        return [id for id in postgres.tables(connection) if not door.is_live(id)]


def _named(there: dict[str, int], names: Sequence[str]) -> dict[str, int]:
    known = {id: size for id, size in there.items() if door.is_live(id)}
    if missing := [name for name in names if name not in known]:
        raise BadRequest(f"There is no table of a resource {', '.join(missing)}.")
    return {id: size for id, size in known.items() if not names or id in names}


def each(ids: Iterable[str], one: Callable[[str], Result]) -> Iterator[Result]:
    """What becomes of each table: one that fails does not keep the others."""
    for id in ids:
        # No connection to CKAN's database waits in a transaction until a table is through.
        door.forget_what_was_read()
        try:
            yield one(id)
        except BigQueryDatastoreError as err:
            yield Result(id, "failed", told=(str(err),))


# --- into BigQuery -----------------------------------------------------------------------------


def look_in(sides: Sides, id: str, size: int) -> Result:
    """What ``bring_in`` would meet, and nothing is changed."""
    with postgres.snapshot(sides.engine) as connection:
        found = postgres.found(connection, id)
        if found.refusals:
            return _refused(found, size)
        scan = rows.scan(connection, found)
    refusals = (*scan.refusals, *_taken(sides, found.table))
    return Result(
        id,
        REFUSED if refusals else "",
        scan.sum.rows,
        size,
        (*refusals, *_left(found)),
    )


def bring_in(sides: Sides, id: str, size: int, ask: Ask, progress: Progress) -> Result:
    """Bring a table from PostgreSQL to BigQuery.

    :raises Differs: it has arrived otherwise than it left
    """
    with postgres.snapshot(sides.engine) as connection:
        found = postgres.found(connection, id)
        if found.refusals:
            return _refused(found, size)
        scan = rows.scan(connection, found)
        there = get_table(sides.client, id)
        refusals = (*scan.refusals, *_taken(sides, found.table, there))
        if refusals:
            return Result(id, REFUSED, scan.sum.rows, size, (*refusals, *_left(found)))
        if there is not None:
            state = _at_target(sides, found, scan, there)
            if state == EQUAL:
                set_active(id)
                progress(size)
                return Result(id, EQUAL, scan.sum.rows, size, _left(found))
            if there.num_rows and not ask(id, there.num_rows):
                return Result(id, DECLINED, scan.sum.rows, size, _left(found))

        def send(give: Callable[[bytes, int], None]) -> None:
            left = size

            def given(data: bytes, count: int) -> None:
                nonlocal left
                give(data, count)
                part = min(left, size * count // scan.sum.rows)
                left -= part
                progress(part)

            rows.copy_out(connection, found, rows.Chunks(google.CHUNK_BYTES, given))
            progress(left)

        google.bring(sides.client, sides.store, found.table, scan.last_id, scan.sum.rows, send)
        made = get_table(sides.client, id)
        if made is None:
            raise Differs(f"The table {id} is not in BigQuery, though it was made.")
        arrived = google.sum_of(sides.client, made, difference.parts_of(found, made))
        if arrived != scan.sum:
            where = difference.told(connection, sides.client, found, made)
            raise Differs(
                f"{id} is not the same on both sides: PostgreSQL has {scan.sum.rows:,} rows, "
                f"BigQuery {arrived.rows:,}; {where}. What was brought is in BigQuery; run the "
                "command again."
            )
    set_active(id)
    return Result(id, BROUGHT, scan.sum.rows, size, _left(found))


def _at_target(sides: Sides, found: Found, scan: rows.Scan, there: Table) -> str:
    """Whether BigQuery has the rows already; then it gets what else differs."""
    if [(c.name, c.type.native) for c in there.user_columns] != [
        (c.name, c.type.native) for c in found.table.user_columns
    ] or there.num_rows != scan.sum.rows:
        return ""
    if google.sum_of(sides.client, there, difference.parts_of(found, there)) != scan.sum:
        return ""
    if postgres.differences(found.table, there) or there.last_id < scan.last_id:
        google.describe(sides.client, there, found.table, scan.last_id)
    return EQUAL


def _taken(sides: Sides, table: Table, there: Table | None = None) -> tuple[str, ...]:
    there = there or get_table(sides.client, table.id)
    if there is not None and (there.kind != "TABLE" or there.alias_of):
        return ("BigQuery has something of this name that the DataStore did not make",)
    try:
        definition.description_of(table)
        definition.check_aliases(sides.client, table, table.aliases)
    except BadRequest as err:
        return (str(err),)
    return ()


# --- and out again -----------------------------------------------------------------------------


def look_out(sides: Sides, id: str, size: int) -> Result:
    """What ``bring_out`` would meet, and nothing is changed."""
    table = _its_table(sides, id)
    found = rebuild.wanted(table)
    refusals = found.refusals or tuple(google.refusals(sides.client, table, found.parts))
    return Result(id, REFUSED if refusals else "", table.num_rows, size, (*refusals, *_left(found)))


def bring_out(sides: Sides, id: str, size: int, ask: Ask, progress: Progress) -> Result:
    """Bring a table from BigQuery to PostgreSQL.

    :raises Differs: it has arrived otherwise than it left
    """
    found, sent = _leaving(sides, id)
    if found.refusals:
        return Result(id, REFUSED, found.table.num_rows, size, (*found.refusals, *_left(found)))
    there, is_equal = _in_place(sides, found, sent)
    if is_equal:
        set_active(id)
        progress(size)
        return Result(id, EQUAL, sent.rows, size, _left(found))
    if there and not ask(id, there):
        return Result(id, DECLINED, sent.rows, size, _left(found))
    with google.folder(sides.store) as name:
        # So that what is summed up is what is written; people go on reading.
        with lock.writing(id):
            now = get_table(sides.client, id)
            if now is None or now.modified != found.table.modified:
                found, sent = _leaving(sides, id)
            objects = google.export(sides.client, sides.store, name, found.table, found.parts)
        written = sum(each.size for each in objects)
        left = size

        def advance(read: int) -> None:
            nonlocal left
            part = min(left, size * read // max(1, written))
            left -= part
            progress(part)

        with postgres.told(), sides.engine.begin() as connection:
            file = google.Objects(sides.store, objects, advance)
            received = rebuild.receive(connection, found.parts, file)
            if received != sent:
                raise Differs(
                    f"{id}: BigQuery has {sent.rows:,} rows, and {received.rows:,} have arrived; "
                    "their checksums differ. PostgreSQL is as it was."
                )
            rebuild.make(connection, found, instead=there is not None)
            notes = _left(found)
            if rows.sum_of(connection, found) != sent:
                respelled = rebuild.respelled(connection, found)
                if not respelled:
                    raise Differs(f"{id}: rows were lost in PostgreSQL, which is as it was.")
                notes = (*respelled, *notes)
        progress(left)
    set_active(id)
    return Result(id, BROUGHT, sent.rows, size, notes)


def _its_table(sides: Sides, id: str) -> Table:
    table = get_table(sides.client, id)
    if table is None:
        raise BadRequest(f"BigQuery has no table {id}.")
    return table


def _leaving(sides: Sides, id: str) -> tuple[Found, Sum]:
    """A table of BigQuery's as PostgreSQL would have it, and its sum where it can be brought.

    :raises BadRequest: there is none
    """
    table = _its_table(sides, id)
    found = rebuild.wanted(table)
    refusals = found.refusals or tuple(google.refusals(sides.client, table, found.parts))
    if refusals:
        return replace(found, refusals=refusals), Sum(0, "")
    return found, google.sum_of(sides.client, table, found.parts)


def _in_place(sides: Sides, found: Found, sent: Sum) -> tuple[int | None, bool]:
    """How many rows PostgreSQL has, None where it has no such table; whether they are equal."""
    id = found.table.id
    with postgres.snapshot(sides.engine) as connection:
        if id not in postgres.tables(connection):
            return None, False
        there = postgres.found(connection, id)
        if postgres.differences(found.table, there.table) or there.refusals:
            return rows.count(connection, id), False
        arrived = rows.sum_of(connection, found)
    return arrived.rows, arrived == sent


# --- both ways ---------------------------------------------------------------------------------


def set_active(id: str) -> None:
    """Let CKAN know that the resource has a table."""
    found = door.resource(id)
    if found is not None and (found.extras or {}).get("datastore_active") is not True:
        tk.get_action("resource_patch")(
            {"ignore_auth": True, "user": ""}, {"id": id, "datastore_active": True}
        )


def _left(found: Found) -> tuple[str, ...]:
    return tuple(f"stays behind: {note}" for note in found.notes)


def _refused(found: Found, size: int) -> Result:
    return Result(found.table.id, REFUSED, 0, size, (*found.refusals, *_left(found)))
