"""Objects of Cloud Storage as values: what one is, what it says of itself, its limits. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Under which all files stand: ``dumps/<resource>/<format>/<revision>/<key>/``.
ROOT = "dumps/"

#: How the keys of files begin that hold a whole table, or what a query asks for.
WHOLE, QUERY = "all-", "query-"

#: How the names of results of SQL begin, which stand in the place of a resource's id.
SQL = "sql-"

# https://cloud.google.com/storage/docs/composite-objects
COMPOSE_LIMIT = 32

# https://cloud.google.com/storage/quotas#objects
OBJECT_LIMIT = 5 * 2**40


@dataclass(frozen=True)
class StoredObject:
    """One generation of an object. ``size`` in bytes; ``renewed`` as in :meth:`Store.renew`.

    ``metageneration`` counts the changes of what it says of itself.
    """

    name: str
    size: int
    generation: int
    created: dt.datetime
    crc32c: str = ""
    renewed: dt.datetime | None = None
    metageneration: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def fresh(self) -> dt.datetime:
        """When it was written, or renewed."""
        return max(self.created, self.renewed or self.created)


@dataclass(frozen=True)
class Headers:
    """What an object says of itself when it is downloaded."""

    content_type: str
    content_disposition: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
