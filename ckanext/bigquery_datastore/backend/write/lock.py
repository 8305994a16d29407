"""One writer at a time for each table, in whatever process it runs.

``_id`` has to be unique and rising. BigQuery has no sequences, and does not keep appending
statements apart: two INSERTs that number their rows from MAX(_id) run side by side, see the
same maximum, and both succeed (also inside transactions, where only changes of existing rows
conflict; https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency). Nor
does it enforce primary keys. So writers wait for each other before they talk to BigQuery, at
the one place that all processes of a CKAN site share: its PostgreSQL. An advisory lock costs
no table, ends with its connection, and what BigQuery would queue anyway (two changes at a
time for a table) waits in a cheaper place.

A statement of BigQuery's can run for hours while the connection that holds the lock says nothing.
PostgreSQL is told to keep it alive through whatever stands between, and ``Held.check`` tells before
a change whether it is still there (https://www.postgresql.org/docs/current/runtime-config-connection.html).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from ckan import model
from sqlalchemy.exc import DBAPIError

from ckanext.bigquery_datastore.backend.table.lookup import TABLES
from ckanext.bigquery_datastore.backend.write import outlived
from ckanext.bigquery_datastore.errors import Busy

log = logging.getLogger(__name__)

WAIT_SECONDS = 120

# Firewalls and balancers forget connections that are silent for some minutes.
SETTINGS = {
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "20",
    "tcp_keepalives_count": "6",
}


@dataclass(frozen=True)
class Held:
    """The right to change a table, as long as its connection lasts."""

    connection: sa.engine.Connection

    def check(self) -> None:
        """That it is still held.

        :raises Busy: it was lost; somebody else may be changing the table
        """
        try:
            self.connection.execute(sa.text("SELECT 1"))
        except DBAPIError as err:
            raise Busy(
                "The connection to PostgreSQL was lost, and with it the right to change this "
                "table. Nothing was changed. Try again."
            ) from err


@contextmanager
def writing(
    resource_id: str, seconds: int = WAIT_SECONDS, *, mine: str | None = None
) -> Iterator[Held]:
    """Hold the right to change a table.

    :param mine: how the ids of the caller's own jobs begin, where another process may have sent
        them: the caller looks at those
    :raises Busy: others kept it for longer than ``seconds``, or a change of theirs outlives them
    """
    # In a transaction (not a session), so that it also works behind a connection pooler.
    with model.meta.engine.connect() as connection:
        transaction = connection.begin()
        for name, value in {"lock_timeout": f"'{seconds}s'", **SETTINGS}.items():
            connection.execute(sa.text(f"SET LOCAL {name} = {value}"))
        try:
            connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
                {"name": f"bigquery_datastore {resource_id}"},
            )
        except DBAPIError as err:
            raise Busy("Other changes of this table take too long. Try again in a moment.") from err
        try:
            outlived.wait(resource_id, mine)
            yield Held(connection)
        finally:
            # The next download of this process looks at the table as it is now.
            TABLES.forget(resource_id)
            try:
                transaction.rollback()
            except DBAPIError:
                log.warning("The lock of %s was lost before its change was made", resource_id)
