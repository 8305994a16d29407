"""Numbers for new rows (``_id``), reserved before the statement that uses them is sent.

A writer may be killed while its job runs on: the next one must not number from what it finds in
the table. So the last number that may be in use is written down first, and gaps are left behind.

Where: in the table's own description (``last_id``). It outlives every process, needs no table of
its own, comes with the ``tables.get`` that each write makes anyway, is changed under a precondition
(its etag), and goes wherever the table goes. A row in CKAN's PostgreSQL would cost less, but a
dump of it that is played back gives numbers out again; an object in a bucket takes one write a
second, and two requests. The price is a change of metadata, of which a table takes five in ten
seconds (https://cloud.google.com/bigquery/quotas#standard_tables): so a few more numbers are
reserved than are needed, and the same process goes on with them as long as no other has reserved
any (``block`` tells whose the last were). Numbers rise in any case.

The caller holds ``lock.writing`` for the table.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, replace

from google.api_core import exceptions as gexc
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.table import definition
from ckanext.bigquery_datastore.backend.table.lookup import Table, get_table, reference
from ckanext.bigquery_datastore.errors import Busy, Invalid

ROOM = 100
HIGHEST = 2**63 - 1
ATTEMPTS = 5


@dataclass(frozen=True)
class _Block:
    """What this process has reserved of a table's numbers and not used yet."""

    mark: str
    following: int
    last: int


# By process id: a block must not be shared across a fork.
_BLOCKS: dict[tuple[int, str], _Block] = {}


def reserve(client: bigquery.Client, table: Table, count: int, beyond: int = 0) -> int:
    """The first of ``count`` numbers, above ``beyond``, that no row has or will get from others.

    :raises Invalid: no number is left
    """
    for _ in range(ATTEMPTS):
        block = _kept(table)
        first = following(client, table, beyond)
        last = first + count - 1
        if last > HIGHEST:
            raise Invalid({"records": ["_id has no number left above the highest one"]})
        if block is None or last > block.last:
            block = _Block(uuid.uuid4().hex[:12], first, min(last + ROOM, HIGHEST))
            if (found := _written(client, table, block)) is not None:
                table = found
                continue
        _BLOCKS[os.getpid(), table.id] = replace(block, following=last + 1)
        return first
    raise Busy("Others change the table's description all the time. Try again in a moment.")


def following(client: bigquery.Client, table: Table, beyond: int = 0) -> int:
    """The number that a new row would get. Free where numbers have been reserved before."""
    block = _kept(table)
    known = block.following if block else _top(client, table) + 1
    return max(known, beyond + 1)


def given(table: Table, last: int) -> Table:
    """A table that is to be made with rows numbered from 1 to ``last``."""
    return replace(table, last_id=last, block=uuid.uuid4().hex[:12])


def first_given(table: Table, count: int) -> Table:
    """A new table with numbers reserved for its first rows, which saves a change of it."""
    if not count:
        return table
    reserved = given(table, count + ROOM)
    _BLOCKS[os.getpid(), table.id] = _Block(reserved.block, 1, reserved.last_id)
    return reserved


def _kept(table: Table) -> _Block | None:
    block = _BLOCKS.get((os.getpid(), table.id))
    return block if block is not None and block.mark == table.block else None


def _top(client: bigquery.Client, table: Table) -> int:
    if table.block or (table.num_rows == 0 and not table.streaming_buffer):
        return table.last_id
    # Rows from elsewhere, or from before numbers were reserved: looked for once.
    # Those without a positive number of their own are as many numbers that are never given out: so
    # a table with gaps does not have as many rows as numbers (see ``search.pages.dense``).
    rows = query.read(
        client,
        "SELECT IFNULL(MAX(_id), 0) AS top, COUNT(*) - COUNT(DISTINCT IF(_id > 0, _id, NULL)) "
        f"AS odd FROM {table.sql_name}",
    )
    odd = int(rows[0]["odd"])
    top = max(int(rows[0]["top"]), table.last_id)
    return top + odd + 1 if odd else top


def _written(client: bigquery.Client, table: Table, block: _Block) -> Table | None:
    """None once the block is in the table's description; the table as it is, if it has changed."""
    described = replace(table, last_id=block.last, block=block.mark)
    api = bigquery.Table(reference(table.id))
    api.description = definition.description_of(described)
    api._properties["etag"] = table.etag
    with clients.told(f"changing the table {table.id}", gexc.PreconditionFailed):
        try:
            client.update_table(api, ["description"], **clients.patience())
        except gexc.PreconditionFailed:
            found = get_table(client, table.id)
            # It may have been our own request, whose answer was lost.
            return found if found is not None and found.block != block.mark else None
    return None
