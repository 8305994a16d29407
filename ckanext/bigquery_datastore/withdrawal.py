"""Data that is taken away from its audience: seen where it is written, in CKAN's database session.

Not action by action: there are many that delete, hide or move a dataset or a resource, other
extensions add theirs, and a new version of CKAN may do the same in another way. All of them write
the two tables that are watched here, object by object or by one statement for many rows. Who could
see a resource before is compared with who can, at the commit; exports are purged after it, when
nothing can be rolled back any more. Who leaves an organisation, or a dataset as its collaborator,
may hold links to what is not for everybody: those files go in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ckan import model
from sqlalchemy import and_, event, inspect, or_, select
from sqlalchemy.orm import ORMExecuteState, Session

from ckanext.bigquery_datastore import config, purging

# Where a session keeps who could see what it is about to change, and what it has withdrawn.
_BEFORE = "bigquery_datastore_audiences"
_WITHDRAWN = "bigquery_datastore_withdrawn"
# The organisations and the datasets that somebody leaves.
_LEFT = "bigquery_datastore_left"


@dataclass(frozen=True)
class Audience:
    """What decides who may see a resource."""

    state: str
    dataset_id: str
    dataset_state: str
    is_private: bool
    owner: str | None

    @property
    def is_everybody(self) -> bool:
        is_active = self.state == self.dataset_state == model.State.ACTIVE
        return is_active and not self.is_private


def watch() -> None:
    """Listen to every session that CKAN writes with; once a process."""
    for sessions in (model.meta.Session, model.meta.create_local_session):
        for name, listener in _LISTENERS.items():
            if not event.contains(sessions, name, listener):
                event.listen(sessions, name, listener)


def _note_objects(session: Session, *_: Any) -> None:
    """Before objects are written: those that are changed or deleted."""
    touched = [obj for obj in (*session.dirty, *session.deleted) if config.is_active()]
    datasets = [obj.id for obj in touched if isinstance(obj, model.Package)]
    resources = [obj.id for obj in touched if isinstance(obj, model.Resource)]
    if datasets or resources:
        wanted = or_(model.Package.id.in_(datasets), model.Resource.id.in_(resources))
        _note(session, wanted)
    if left := {place for obj in touched if (place := _left(session, obj))}:
        session.info[_LEFT] = left | session.info.get(_LEFT, set())


def _left(session: Session, obj: Any) -> str | None:
    """The organisation that a member leaves, or the dataset that a collaborator does."""
    is_gone = obj in session.deleted
    if isinstance(obj, model.PackageMember):
        return obj.package_id if is_gone else None
    if isinstance(obj, model.Member) and obj.table_name == "user":
        was = inspect(obj).attrs.state.history.deleted or ()
        is_gone = is_gone or (model.State.ACTIVE in was and obj.state != model.State.ACTIVE)
        return obj.group_id if is_gone else None
    return None


def _note_rows(state: ORMExecuteState) -> None:
    """Before one statement changes or deletes rows: those that it will find."""
    if not (state.is_update or state.is_delete) or not config.is_active():
        return
    statement: Any = state.statement
    if statement.table in [inspect(kind).local_table for kind in (model.Package, model.Resource)]:
        _note(state.session, statement.whereclause)


def _note(session: Session, wanted: Any) -> None:
    # What was noted first in this transaction is what everybody else still sees.
    session.info[_BEFORE] = _audiences(session, wanted) | session.info.get(_BEFORE, {})


def _compare(session: Session) -> None:
    """Before a commit: which of the noted resources somebody will not see any more."""
    if session.in_nested_transaction() or not config.is_active():
        return
    session.flush()
    before: dict[str, Audience] = session.info.pop(_BEFORE, {})
    if left := session.info.pop(_LEFT, None):
        session.info[_WITHDRAWN] = _known_to_members(session, sorted(left))
    if before:
        after = _audiences(session, model.Resource.id.in_(list(before)))
        gone = {id for id, audience in before.items() if _is_narrower(audience, after.get(id))}
        session.info[_WITHDRAWN] = gone | session.info.get(_WITHDRAWN, set())


def _is_narrower(before: Audience, after: Audience | None) -> bool:
    return after is None or (after != before and not after.is_everybody)


def _known_to_members(session: Session, places: Iterable[str]) -> set[str]:
    """The tables of organisations and datasets that not everybody may see."""
    is_hidden = or_(model.Package.private, model.Package.state != model.State.ACTIVE)
    within = or_(model.Package.owner_org.in_(places), model.Package.id.in_(places))
    found = (
        select(model.Resource.id, model.Resource.extras)
        .select_from(model.Resource)
        .join(model.Package, model.Resource.package_id == model.Package.id)
        .where(and_(is_hidden, within))
    )
    return {id for id, extras in session.execute(found) if (extras or {}).get("datastore_active")}


def _purge(session: Session) -> None:
    if session.in_nested_transaction():
        return
    withdrawn: Iterable[str] = session.info.pop(_WITHDRAWN, ())
    if withdrawn:
        purging.purge(sorted(withdrawn))


def _forget(session: Session, ended: Any) -> None:
    if not ended.nested:
        session.info.pop(_BEFORE, None)
        session.info.pop(_LEFT, None)
        session.info.pop(_WITHDRAWN, None)


def _audiences(session: Session, wanted: Any) -> dict[str, Audience]:
    """Who can see the resources that a condition finds, in this transaction, by id."""
    found = (
        select(
            model.Resource.id,
            model.Resource.state,
            model.Package.id,
            model.Package.state,
            model.Package.private,
            model.Package.owner_org,
        )
        .select_from(model.Resource)
        .join(model.Package, model.Resource.package_id == model.Package.id)
    )
    if wanted is not None:
        found = found.where(wanted)
    with session.no_autoflush:
        return {id: Audience(*rest) for id, *rest in session.execute(found)}


_LISTENERS = {
    "before_flush": _note_objects,
    "do_orm_execute": _note_rows,
    "before_commit": _compare,
    "after_commit": _purge,
    "after_soft_rollback": _forget,
}
