"""One writer at a time for each table, in whatever process it runs.

``_id`` has to be unique and rising. BigQuery has no sequences, and does not keep appending
statements apart: two INSERTs that number their rows from MAX(_id) run side by side, see the
same maximum, and both succeed (also inside transactions, where only changes of existing rows
conflict; https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency). Nor
does it enforce primary keys. So writers wait for each other before they talk to BigQuery, at
the one place that all processes of a CKAN site share: its PostgreSQL. An advisory lock costs
no table, ends with its connection, and what BigQuery would queue anyway (two changes at a
time for a table) waits in a cheaper place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from ckan import model
from sqlalchemy.exc import DBAPIError

from ckanext.bigquery_datastore.backend.table.lookup import TABLES
from ckanext.bigquery_datastore.errors import Busy

WAIT_SECONDS = 120


@contextmanager
def writing(resource_id: str, seconds: int = WAIT_SECONDS) -> Iterator[None]:
    """Hold the right to change a table.

    :raises NotReachable: others kept it for longer than ``seconds``
    """
    # In a transaction (not a session), so that it also works behind a connection pooler.
    with model.meta.engine.connect() as connection, connection.begin():
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{seconds}s'"))
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        try:
            connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
                {"name": f"bigquery_datastore {resource_id}"},
            )
        except DBAPIError as err:
            raise Busy("Other changes of this table take too long. Try again in a moment.") from err
        try:
            yield
        finally:
            # The next download of this process looks at the table as it is now.
            TABLES.forget(resource_id)
