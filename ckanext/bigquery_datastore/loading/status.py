"""What is known of a resource's load: one row of CKAN's ``task_status``, as other loaders keep it.

Each change is a transaction of its own on a connection of its own: a request that is rolled back
leaves nothing half-said, and a worker's progress waits for nobody's commit.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from ckan import model
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from ckanext.bigquery_datastore.backend.write import lock

#: ``task_type`` and ``key`` of the row; its ``entity_type`` is "resource".
KEY = "bigquery_load"

_LOG_LINES = 200


@dataclass(frozen=True)
class Status:
    """Of the last load, or the one at work.

    ``state``: "none", "waiting", "loading", "complete" or "error". ``step``: "reading",
    "uploading", "loading", "typing" or "replacing". ``progress`` is from 0 to 1. Times are ISO, in
    UTC. ``again`` is the wish of a load that is to follow this one. ``loaded`` is what the last
    load that ended well has read (``file``, ``told``, ``wish``, ``rows``). ``by_hand``: a command
    takes its steps, no worker. ``tries``: how often the step has been begun.
    """

    state: str = "none"
    error: str | None = None
    attempt: str = ""
    wish: Mapping[str, Any] = field(default_factory=dict)
    step: str | None = None
    progress: float | None = None
    requested: str | None = None
    started: str | None = None
    finished: str | None = None
    rows: int | None = None
    file: Mapping[str, Any] = field(default_factory=dict)
    bad_row: Mapping[str, Any] | None = None
    bad_rows: str | None = None
    log: tuple[Mapping[str, str], ...] = ()
    force: bool = False
    again: Mapping[str, Any] | None = None
    loaded: Mapping[str, Any] | None = None
    seen: str | None = None
    by_hand: bool = False
    tries: int = 0

    @property
    def is_active(self) -> bool:
        return self.state in ("waiting", "loading")

    @property
    def seconds(self) -> float | None:
        """From the first step to the last one, or to now."""
        if not self.started:
            return None
        until = dt.datetime.fromisoformat(self.finished) if self.finished else _now()
        return round((until - dt.datetime.fromisoformat(self.started)).total_seconds(), 1)

    def told(self, message: str, level: str = "INFO") -> Status:
        """With one more line in the log; a line that is there already is not repeated."""
        if any(line["message"] == message for line in self.log[-20:]):
            return self
        line = {"time": now(), "level": level, "message": message}
        return replace(self, log=(*self.log, line)[-_LOG_LINES:])


def fresh(before: Status, wish: Mapping[str, Any], force: bool) -> Status:
    """A load that waits, of a resource whose last one is over."""
    return Status(
        state="waiting",
        attempt=uuid.uuid4().hex,
        wish=wish,
        force=force,
        requested=now(),
        bad_rows=before.bad_rows,
        loaded=before.loaded,
    ).told("The load waits for a worker: ckan jobs worker bigquery_loads")


def now() -> str:
    """The time as it is kept and shown."""
    return _now().isoformat(timespec="seconds")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def find(resource_id: str) -> Status:
    with model.meta.engine.connect() as connection:
        return _of_row(connection.execute(_select(resource_id)).first())


def active() -> list[tuple[str, Status]]:
    """Every resource that waits for a load, or is loaded, with its status."""
    table = model.task_status_table
    wanted = sa.select(table.c.entity_id, *_columns()).where(
        table.c.task_type == KEY, table.c.state.in_(("waiting", "loading"))
    )
    with model.meta.engine.connect() as connection:
        return [(id, _of_row(row)) for id, *row in connection.execute(wanted)]


def change(resource_id: str, how: Callable[[Status], Status]) -> Status:
    """The status after a change of it, which no other change comes between."""
    table = model.task_status_table
    with model.meta.engine.begin() as connection:
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
            {"name": f"{KEY} {resource_id}"},
        )
        before = _of_row(connection.execute(_select(resource_id)).first())
        after = how(before)
        if after is before:
            return before
        after = replace(after, seen=now())
        values = _values(after)
        row = insert(table).values(
            id=str(uuid.uuid4()),
            entity_id=resource_id,
            entity_type="resource",
            task_type=KEY,
            key=KEY,
            **values,
        )
        connection.execute(
            row.on_conflict_do_update(index_elements=["entity_id", "task_type", "key"], set_=values)
        )
    return after


@contextmanager
def at_work(resource_id: str) -> Iterator[bool]:
    """The right to take the steps of a resource's load; whether it could be had.

    It ends with its process, however that ends: a step whose right is free has nobody at work.
    """
    with model.meta.engine.connect() as connection:
        transaction = connection.begin()
        for name, value in lock.SETTINGS.items():
            connection.execute(sa.text(f"SET LOCAL {name} = {value}"))
        held = connection.execute(
            sa.text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))"),
            {"name": f"{KEY} at work {resource_id}"},
        ).scalar()
        try:
            yield bool(held)
        finally:
            with suppress(DBAPIError):
                transaction.rollback()


def is_at_work(resource_id: str) -> bool:
    """Whether somebody has that right."""
    with at_work(resource_id) as is_ours:
        return not is_ours


def forget(resource_id: str) -> None:
    """Take the row away, once its resource is gone."""
    table = model.task_status_table
    with model.meta.engine.begin() as connection:
        connection.execute(
            sa.delete(table).where(table.c.entity_id == resource_id, table.c.task_type == KEY)
        )


def _columns() -> list[Any]:
    table = model.task_status_table
    return [table.c.state, table.c.error, table.c.value]


def _select(resource_id: str) -> Any:
    table = model.task_status_table
    return sa.select(*_columns()).where(
        table.c.entity_id == resource_id, table.c.task_type == KEY, table.c.key == KEY
    )


def _of_row(row: Any) -> Status:
    if row is None:
        return Status()
    state, error, value = row
    known = {each.name for each in dataclasses.fields(Status)}
    values = {name: item for name, item in json.loads(value or "{}").items() if name in known}
    values["log"] = tuple(values.get("log") or ())
    return Status(**{**values, "state": state or "none", "error": error or None})


def _values(status: Status) -> dict[str, Any]:
    kept = dataclasses.asdict(status)
    kept.pop("state")
    kept.pop("error")
    return {
        "state": status.state,
        "error": status.error or "",
        "value": json.dumps(kept, ensure_ascii=False),
        # CKAN's times are UTC without saying so.
        "last_updated": dt.datetime.now(dt.timezone.utc).replace(tzinfo=None),
    }
