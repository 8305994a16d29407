"""Exports of what is gone, or public no more, are deleted at once, whoever may hold a URL.

What happens in CKAN has happened, whatever Cloud Storage says: a purge that fails is logged, and
``ckan bigquery sweep`` does it later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.dump import sweep
from ckanext.bigquery_datastore.dump.objects import ROOT, SQL, StoredObject
from ckanext.bigquery_datastore.dump.state import FILES
from ckanext.bigquery_datastore.dump.storage import Store, side_by_side
from ckanext.bigquery_datastore.errors import OutsideError
from ckanext.bigquery_datastore.load.attempt import BAD_ROWS

log = logging.getLogger(__name__)

# For all deletions of one action.
PURGE_SECONDS = 10

# More prefixes than these are first looked at side by side: most of them have no export.
_FEW = 8


def purge(resource_ids: Iterable[str]) -> None:
    """Delete the exports of these resources, and those of queries: they may hold the same rows, as
    do rows that a load has set aside."""
    until = time.monotonic() + PURGE_SECONDS
    prefixes = _prefixes(resource_ids)
    for prefix in prefixes:
        FILES.forget_under(prefix)
    for prefix in _used(prefixes, until):
        try:
            sweep.purge(_store(), prefix, until)
        except OutsideError as err:
            log.warning("%s* is left for `ckan bigquery sweep`: %s", prefix, err)


def _used(prefixes: list[str], until: float) -> list[str]:
    """Those that something stands under; all, where there are few or Google does not say."""
    if len(prefixes) <= _FEW:
        return prefixes
    store = _store().within(until)
    try:
        found = list(side_by_side(lambda prefix: store.list(prefix, 1), prefixes))
    except OutsideError:
        return prefixes
    return [prefix for prefix, objects in zip(prefixes, found, strict=True) if objects]


def exports(resource_ids: Iterable[str]) -> list[StoredObject]:
    """What ``purge`` would delete."""
    store = _store()
    return [found for prefix in _prefixes(resource_ids) for found in store.list(prefix)]


def delete(objects: Iterable[StoredObject]) -> int:
    """Delete exports, however long it takes; how many.

    :raises OutsideError: Cloud Storage does not let us
    """
    known = list(objects)
    for found in known:
        FILES.forget_under(found.name)
    return _store().delete(known)


def _prefixes(resource_ids: Iterable[str]) -> list[str]:
    ids = list(resource_ids)
    prefixes = [f"{ROOT}{name}" for name in (*(f"{id}/" for id in ids), SQL)]
    return prefixes + [f"{BAD_ROWS}{id}/" for id in ids]


def purge_orphans(tables: Iterable[str]) -> int:
    """Delete every export that should have been purged and was not; how many objects.

    :param tables: the ids of all resources that have a table
    """
    return _store().delete(orphans(tables))


def orphans(tables: Iterable[str]) -> list[StoredObject]:
    """What ``purge_orphans`` would delete."""
    there = set(tables)
    owners: dict[str, list[StoredObject]] = {}
    for found in _store().list(ROOT):
        owners.setdefault(found.name.split("/")[1], []).append(found)
    return [
        found
        for name, objects in owners.items()
        for found in objects
        if not _may_stay(name, found, there)
    ]


def _may_stay(name: str, found: StoredObject, tables: set[str]) -> bool:
    if name.startswith(SQL):
        # Nobody asks for a result again once its tables have changed: none is kept for long.
        age = time.time() - found.fresh.timestamp()
        return age < sweep.ATTEMPT_LIFETIME.total_seconds()
    resource = door.resource(name)
    if resource is None or resource.state != "active" or name not in tables:
        return False
    dataset = resource.package
    if dataset is None or dataset.state != "active":
        return False
    # CKAN's times are UTC without saying so. What was exported before the dataset was last
    # changed may be from before it was made private.
    exported = found.created.replace(tzinfo=None)
    return not dataset.private or exported >= dataset.metadata_modified


def _store() -> Store:
    return Store(clients.storage_rw(), config.export_bucket())
