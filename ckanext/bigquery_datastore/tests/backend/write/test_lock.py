"""The right to change a table: kept alive while it is held, missed when it is lost."""

from __future__ import annotations

import uuid

import pytest
import sqlalchemy as sa
from ckan import model

from ckanext.bigquery_datastore.backend.write import lock
from ckanext.bigquery_datastore.errors import Busy

pytestmark = pytest.mark.usefixtures("with_plugins")


def end(held: lock.Held) -> None:
    """End the connection of a lock as a firewall or a restart of PostgreSQL would."""
    pid = held.connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
    with model.meta.engine.connect() as other:
        assert other.execute(sa.text(f"SELECT pg_terminate_backend({pid}, 5000)")).scalar()


def test_a_lock_that_is_held_is_kept_alive():
    with lock.writing(str(uuid.uuid4())) as held:
        held.check()
        for name, value in (
            ("tcp_keepalives_idle", "60"),
            ("idle_in_transaction_session_timeout", "0"),
        ):
            assert held.connection.execute(sa.text(f"SHOW {name}")).scalar() == value


def test_a_lock_that_was_lost_is_missed_and_can_be_had_again():
    name = str(uuid.uuid4())
    with lock.writing(name) as held:
        end(held)
        with pytest.raises(Busy, match="Nothing was changed"):
            held.check()
    with lock.writing(name, 1) as held:
        held.check()


def test_a_lock_that_was_lost_without_being_missed_is_no_error_of_the_change(caplog):
    with lock.writing(str(uuid.uuid4())) as held:
        end(held)
    assert "was lost before its change was made" in caplog.text


def test_a_second_writer_waits_for_the_first():
    name = str(uuid.uuid4())
    with (
        lock.writing(name),
        pytest.raises(Busy, match="Other changes of this table take too long"),
        lock.writing(name, 1),
    ):
        pass
