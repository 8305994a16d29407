"""What may be deleted from the export bucket, and its deletion.

A file that a newer revision supersedes stays as long as a URL that was signed for it may live: that
is, until the newest revision has been published for longer than a URL lives.

The file of a query (of some rows, of SQL) goes, too, when nobody asks for it any more: there is no
end of queries that a visitor can think of. Whoever asks for it when it is older than a URL lives
renews it (``is_to_be_renewed``), so what was not renewed for two such times has no URL left.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ckanext.bigquery_datastore.dump.objects import QUERY, StoredObject
from ckanext.bigquery_datastore.dump.storage import Store

# An answer may be given from what a process heard of a table a moment ago (metadata_ttl_seconds, an
# hour at most): a URL may be signed for a superseded file that long after the newer one is there.
MARGIN = dt.timedelta(hours=1)

# A query job runs for six hours at most (https://cloud.google.com/bigquery/quotas#query_jobs); what
# an attempt has not become by then, it never will.
ATTEMPT_LIFETIME = dt.timedelta(hours=12)


@dataclass(frozen=True)
class _Place:
    """Where an object stands: ``dumps/<resource>/<format>/<revision>/<key>/<rest>``."""

    found: StoredObject
    family: str
    revision: str
    key: str
    rest: str

    @property
    def is_file(self) -> bool:
        return self.rest.startswith("data.")

    @property
    def is_query(self) -> bool:
        return self.key.startswith(QUERY)


def sweep(store: Store, prefix: str, url_lifetime: dt.timedelta, until: float = math.inf) -> int:
    """Delete what nobody can ask for any more under the prefix; how many objects that were.

    :param until: of ``time.monotonic``; what is not deleted by then stays for the next sweep
    """
    return store.delete(swept(store, prefix, url_lifetime), until, if_unused=True)


def swept(store: Store, prefix: str, url_lifetime: dt.timedelta) -> list[StoredObject]:
    """What ``sweep`` would delete."""
    now = dt.datetime.now(dt.timezone.utc)
    return superfluous(store.list(prefix), now, url_lifetime)


def is_to_be_renewed(file: StoredObject, url_lifetime: dt.timedelta) -> bool:
    """Whether a query's file that is asked for now could go while a URL for it lives."""
    now = dt.datetime.now(dt.timezone.utc)
    return _place(file).is_query and now - file.fresh > url_lifetime


def purge(store: Store, prefix: str, until: float = math.inf) -> int:
    """Delete every object under the prefix, whoever may still hold a URL; how many."""
    return store.delete(store.list(prefix), until)


def superfluous(
    objects: Iterable[StoredObject], now: dt.datetime, url_lifetime: dt.timedelta
) -> list[StoredObject]:
    """The objects that no live URL points to and no export will use."""
    places = [_place(found) for found in objects]
    families: dict[str, list[_Place]] = {}
    for place in places:
        families.setdefault(place.family, []).append(place)
    return [
        place.found
        for family in families.values()
        for place in _superfluous_in(family, now, url_lifetime)
    ]


def _superfluous_in(
    family: Sequence[_Place], now: dt.datetime, url_lifetime: dt.timedelta
) -> list[_Place]:
    files = [place for place in family if place.is_file]
    # Revisions are times in hex of one width: the greatest is the newest.
    current = max((place.revision for place in files), default=None)
    # The first file of the newest revision tells since when nothing older was signed.
    since = min((p.found.created for p in files if p.revision == current), default=now)
    settled = now - since > url_lifetime + MARGIN
    in_parts = {place.found.metadata["parts"] for place in files if "parts" in place.found.metadata}
    published = {(place.revision, place.key) for place in files}
    expired = {
        (place.revision, place.key)
        for place in files
        if place.is_query and now - place.found.fresh > 2 * url_lifetime + MARGIN
    }

    def is_superfluous(place: _Place) -> bool:
        if (place.revision, place.key) in expired:
            return True
        if place.revision != current and settled:
            return not _is_younger(place, now)
        if place.is_file or any(place.found.name.startswith(folder) for folder in in_parts):
            return False
        # Left by an attempt: of a published file, or of one that died.
        is_left = (place.revision, place.key) in published and place.rest != "attempt"
        return (is_left and now - place.found.created > url_lifetime) or (
            now - place.found.created > ATTEMPT_LIFETIME
        )

    return [place for place in family if is_superfluous(place)]


def _is_younger(place: _Place, now: dt.datetime) -> bool:
    """Whether an attempt at another revision may still be under way."""
    return not place.is_file and now - place.found.created < ATTEMPT_LIFETIME


def _place(found: StoredObject) -> _Place:
    parts = found.name.split("/", 5)
    root, resource, format_, revision, key, rest = parts + [""] * (6 - len(parts))
    return _Place(found, f"{root}/{resource}/{format_}", revision, key, rest)
