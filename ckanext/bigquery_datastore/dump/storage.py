"""Cloud Storage, as an export needs it: find, list, create, compose, delete.

Every write that can race carries a generation precondition: a name is created once
(``if_generation_match=0``) or replaces the generation that its writer has seen. Whoever comes
second learns so and looks at what is there.

Facts built on: at most 32 sources a compose, one write a second to one name, strong consistency
of listings (https://cloud.google.com/storage/docs/composite-objects, …/quotas, …/consistency).
"""

from __future__ import annotations

import datetime as dt
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, TypeVar

from google.api_core import exceptions as gexc
from google.cloud import storage

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.errors import OutsideError, PermissionMissing

# https://cloud.google.com/storage/docs/composite-objects
COMPOSE_LIMIT = 32

# https://cloud.google.com/storage/quotas#objects
OBJECT_LIMIT = 5 * 2**40

# For one write or compose: they take longer than a question.
UPLOAD_SECONDS = 30.0

_T = TypeVar("_T")
_R = TypeVar("_R")
_executors: dict[int, ThreadPoolExecutor] = {}


class Taken(Exception):
    """The name exists already, in another generation than expected."""


class Gone(Exception):
    """An object that was listed a moment ago is not there any more."""


class ComposeRefused(OutsideError):
    """The bucket does not let objects be composed (a retention policy, a missing permission)."""


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


@dataclass(frozen=True)
class Store:
    """One bucket, seen through one identity's client."""

    client: storage.Client
    bucket: str

    def find(self, name: str) -> StoredObject | None:
        with self._told("looking for a file"):
            blob = self._bucket().get_blob(name, **clients.budget())
        return _stored(blob) if blob else None

    def list(self, prefix: str, most: int | None = None) -> list[StoredObject]:
        """Every object under the prefix, in the order of their names; the first ``most``."""
        with self._told("listing files"):
            blobs = self.client.list_blobs(
                self.bucket, prefix=prefix, max_results=most, **clients.budget()
            )
            return [_stored(blob) for blob in blobs]

    def read_range(self, source: StoredObject, first: int, last: int) -> bytes:
        """The bytes from ``first`` to ``last``, both included, of this very generation."""
        blob = self._bucket().blob(source.name, generation=source.generation)
        with self._told("reading a part of a file"):
            return blob.download_as_bytes(start=first, end=last, checksum=None, **clients.budget())

    def create(
        self, name: str, data: bytes | IO[bytes], headers: Headers, replacing: int = 0
    ) -> StoredObject:
        """Write an object in one step, from bytes or from an open file.

        :param replacing: the generation that may be replaced; 0: the name must be free
        :raises Taken: the name is in another generation than that
        """
        blob = self._blob(name, headers)
        try:
            with self._told("writing a file"):
                blob.upload_from_file(
                    BytesIO(data) if isinstance(data, bytes) else data,
                    # Of known size, it is one request; else a session is opened first.
                    size=len(data) if isinstance(data, bytes) else None,
                    content_type=headers.content_type,
                    if_generation_match=replacing,
                    **clients.budget(UPLOAD_SECONDS),
                )
        except gexc.PreconditionFailed as err:
            raise Taken(name) from err
        return _stored(blob)

    def compose(self, name: str, sources: Sequence[StoredObject], headers: Headers) -> StoredObject:
        """Join up to 32 objects into a new one; what is there already is taken as it is.

        :raises Gone: a source is not there any more
        :raises ComposeRefused: the bucket does not allow it
        """
        # A new Blob for each call: one that was used carries the size and checksum of its last use.
        blob = self._blob(name, headers)
        bucket = self._bucket()
        pinned = [bucket.blob(source.name, generation=source.generation) for source in sources]
        try:
            with self._told("joining files"):
                blob.compose(pinned, if_generation_match=0, **clients.budget(UPLOAD_SECONDS))
        except gexc.PreconditionFailed as err:
            # By another process, or by our own call whose answer was lost.
            existing = self.find(name)
            if existing is None:
                raise Gone(name) from err
            return existing
        except PermissionMissing as err:
            raise ComposeRefused(str(err)) from err
        return _stored(blob)

    def delete(self, objects: Iterable[StoredObject], until: float = math.inf) -> int:
        """Delete these generations, or what can be until then (``time.monotonic``); how many."""
        return sum(side_by_side(lambda found: self._delete_one(found, until), objects))

    def _delete_one(self, found: StoredObject, until: float) -> int:
        if time.monotonic() > until:
            return 0
        try:
            with self._told("deleting a file"):
                self._bucket().delete_blob(
                    found.name, if_generation_match=found.generation, **clients.budget()
                )
        except (Gone, gexc.PreconditionFailed):
            return 0
        return 1

    def _bucket(self) -> storage.Bucket:
        return self.client.bucket(self.bucket)

    def _blob(self, name: str, headers: Headers) -> storage.Blob:
        blob = self._bucket().blob(name)
        blob.content_type = headers.content_type
        blob.content_disposition = headers.content_disposition
        blob.metadata = dict(headers.metadata)
        return blob

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """:func:`clients.told`, but a missing object is :class:`Gone`, and 412 an answer."""
        doing = f"{doing} in the bucket {self.bucket!r}"
        try:
            with clients.told(doing, gexc.NotFound, gexc.PreconditionFailed):
                yield
        except gexc.NotFound as err:
            if "bucket" not in err.message.lower():
                raise Gone(doing) from err
            raise PermissionMissing(
                f"There was no {doing}: the bucket does not exist, or the site's credentials may "
                "not see it."
            ) from err


def side_by_side(work: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """The results of ``work`` for each item, in order, done by the process's storage threads."""
    return _executor().map(work, items)


def in_background(work: Callable[[], _R]) -> Future[_R]:
    """The result of ``work`` to come, done by one of the same threads."""
    return _executor().submit(work)


def _executor() -> ThreadPoolExecutor:
    pid = os.getpid()
    if pid not in _executors:
        _executors[pid] = ThreadPoolExecutor(clients.POOL_SIZE, thread_name_prefix="storage")
    return _executors[pid]


def _stored(blob: storage.Blob) -> StoredObject:
    return StoredObject(
        name=blob.name,
        size=blob.size or 0,
        generation=blob.generation or 0,
        created=blob.time_created or dt.datetime.now(dt.timezone.utc),
        crc32c=blob.crc32c or "",
        metadata=blob.metadata or {},
    )
