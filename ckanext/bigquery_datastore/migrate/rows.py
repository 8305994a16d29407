"""The rows of a table of PostgreSQL's: counted, summed up, compared, sent away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ckanext.bigquery_datastore.backend.table.model import ID
from ckanext.bigquery_datastore.migrate import sums
from ckanext.bigquery_datastore.migrate.postgres import Found, identifier, run
from ckanext.bigquery_datastore.migrate.sums import Sum

#: The name of a row's number, and of the columns by their place, on the way to BigQuery.
ROW, PLACE = "_row", "_column_"

# The highest number that was ever given out, where we may know.
_LAST = """
SELECT CASE WHEN has_sequence_privilege(s.name, 'SELECT') THEN pg_sequence_last_value(s.name) END
FROM (SELECT pg_get_serial_sequence(quote_ident(:id), '_id')::regclass AS name) s
WHERE s.name IS NOT NULL"""


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
    copied(connection, sql, file)
    file.end()


def copied(connection: Connection, sql: str, file: Any) -> None:
    """Run a COPY from or to a file."""
    with cast("Any", connection.connection).cursor() as cursor:
        cursor.copy_expert(sql, file)
