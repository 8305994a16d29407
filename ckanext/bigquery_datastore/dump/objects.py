"""Objects of Cloud Storage as values: what one is, what it says of itself, its limits. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Under which all files stand: ``dumps/<resource>/<format>/<revision>/<key>/``.
ROOT = "dumps/"

# https://cloud.google.com/storage/docs/composite-objects
COMPOSE_LIMIT = 32

# https://cloud.google.com/storage/quotas#objects
OBJECT_LIMIT = 5 * 2**40


@dataclass(frozen=True)
class StoredObject:
    """One generation of an object. ``size`` in bytes."""

    name: str
    size: int
    generation: int
    created: dt.datetime
    crc32c: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Headers:
    """What an object says of itself when it is downloaded."""

    content_type: str
    content_disposition: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
