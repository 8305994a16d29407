"""New and changed files of resources, seen where they are written: in CKAN's database session.

Not action by action: a file may come by ``resource_create`` as well as among the resources of a
dataset that is updated, revised or harvested. What counts is what tells the file: its address, its
kind, when it was uploaded. A resource of which something else changes, such as that it has a table
now, is not loaded again. The load is asked for after the commit, when other processes see it.
"""

from __future__ import annotations

import logging
from typing import Any

from ckan import model
from sqlalchemy import event, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ckanext.bigquery_datastore import config, loading
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError
from ckanext.bigquery_datastore.load.kinds import kind_of

log = logging.getLogger(__name__)

_CHANGED = "bigquery_datastore_files"
_TELLING = ("url", "url_type", "format", "last_modified", "mimetype")


def watch() -> None:
    """Listen to every session that CKAN writes with; once a process."""
    for sessions in (model.meta.Session, model.meta.create_local_session):
        for name, listener in _LISTENERS.items():
            if not event.contains(sessions, name, listener):
                event.listen(sessions, name, listener)


def _note(session: Session, *_: Any) -> None:
    """After objects are written: those whose file is new, as it is now."""
    if not config.load_on_upload():
        return
    for obj in (*session.new, *session.dirty):
        if isinstance(obj, model.Resource) and obj.id and _has_new_file(obj, session):
            session.info.setdefault(_CHANGED, {})[obj.id] = _described(obj)


def _has_new_file(resource: model.Resource, session: Session) -> bool:
    if resource.state != model.State.ACTIVE:
        return False
    if resource in session.new:
        return True
    attributes = inspect(resource).attrs
    return any(attributes[name].history.has_changes() for name in _TELLING)


def _described(resource: model.Resource) -> dict[str, Any]:
    named = {name: getattr(resource, name) for name in _TELLING}
    return {**(resource.extras or {}), **named}


def _submit(session: Session) -> None:
    if session.in_nested_transaction():
        return
    changed: dict[str, dict[str, Any]] = session.info.pop(_CHANGED, {})
    for id, resource in changed.items():
        if kind_of(resource) is None:
            continue
        try:
            loading.submit(id, loading.wish_of(resource))
        except (BigQueryDatastoreError, SQLAlchemyError) as err:
            # What was written is written: whoever did it hears of no failure.
            log.warning("The file of %s is not loaded: %s", id, err)


def _forget(session: Session, ended: Any) -> None:
    if not ended.nested:
        session.info.pop(_CHANGED, None)


_LISTENERS = {"after_flush": _note, "after_commit": _submit, "after_soft_rollback": _forget}
