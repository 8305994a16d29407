"""Cloud Storage, as an export needs it: find, list, create, compose, delete.

Every write that can race carries a generation precondition: a name is created once
(``if_generation_match=0``) or replaces the generation that its writer has seen. Whoever comes
second learns so and looks at what is there.

Facts built on: at most 32 sources a compose, one write a second to one name, strong consistency
of listings (https://cloud.google.com/storage/docs/composite-objects, …/quotas, …/consistency).
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import IO, Any, TypeVar

import google_crc32c
from google.api_core import exceptions as gexc
from google.cloud import storage

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.dump.objects import Headers, StoredObject
from ckanext.bigquery_datastore.errors import NotReachable, OutsideError, PermissionMissing

# For one write or compose: they take longer than a question.
UPLOAD_SECONDS = 30.0

# For a call that is made when the time is over: to learn what became of the one before it.
_LAST_SECONDS = 1.0

_READ_BYTES = 2**20

_T = TypeVar("_T")
_R = TypeVar("_R")
_executors: dict[int, ThreadPoolExecutor] = {}


class Taken(NotReachable):
    """The name exists already, in another generation than expected."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was written by somebody else just now. Try again in a moment.")


class Gone(NotReachable):
    """An object that was listed a moment ago is not there any more."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not there any more. Try again in a moment.")


class ComposeRefused(OutsideError):
    """The bucket does not let objects be composed (a retention policy, a missing permission)."""


@dataclass(frozen=True)
class Store:
    """One bucket, seen through one identity's client.

    No call lasts longer than ``until`` (of ``time.monotonic``), or a second where that is over.
    """

    client: storage.Client
    bucket: str
    until: float = math.inf

    def within(self, until: float) -> Store:
        """The same bucket for a work that has to end by then."""
        return replace(self, until=min(self.until, until))

    def find(self, name: str) -> StoredObject | None:
        with self._told("looking for a file"):
            blob = self._bucket().get_blob(name, **self._budget())
        return _stored(blob) if blob else None

    def list(self, prefix: str, most: int | None = None) -> list[StoredObject]:
        """Every object under the prefix, in the order of their names; the first ``most``."""
        with self._told("listing files"):
            blobs = self.client.list_blobs(
                self.bucket, prefix=prefix, max_results=most, **self._budget()
            )
            return [_stored(blob) for blob in blobs]

    def read_range(self, source: StoredObject, first: int, last: int) -> bytes:
        """The bytes from ``first`` to ``last``, both included, of this very generation."""
        blob = self._bucket().blob(source.name, generation=source.generation)
        with self._told("reading a part of a file", gexc.NotFound, of=source.name):
            return blob.download_as_bytes(start=first, end=last, checksum=None, **self._budget())

    def create(
        self, name: str, data: bytes | IO[bytes], headers: Headers, replacing: int = 0
    ) -> StoredObject:
        """Write an object in one step, from bytes or from an open file.

        :param replacing: the generation that may be replaced; 0: the name must be free
        An answer may be lost, or cut, when the object is there. So the object is asked for: what
        has the bytes and the metadata that were sent is taken for what was written.

        :raises Taken: the name is in another generation than that
        """
        sum_, size = checksum(data)
        try:
            return self._upload(name, data, headers, replacing)
        except (gexc.PreconditionFailed, OutsideError) as err:
            found = self.find(name)
            if (
                found is not None
                and found.generation != replacing
                and (found.crc32c, found.size) == (sum_, size)
                and found.metadata == headers.metadata
            ):
                return found
            if isinstance(err, OutsideError):
                raise
            raise Taken(name) from err

    def _upload(
        self, name: str, data: bytes | IO[bytes], headers: Headers, replacing: int
    ) -> StoredObject:
        blob = self._blob(name, headers)
        with self._told("writing a file", gexc.PreconditionFailed):
            blob.upload_from_file(
                BytesIO(data) if isinstance(data, bytes) else data,
                # Of known size, it is one request; else a session is opened first.
                size=len(data) if isinstance(data, bytes) else None,
                content_type=headers.content_type,
                if_generation_match=replacing,
                **self._budget(UPLOAD_SECONDS),
            )
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
            with self._told("joining files", gexc.NotFound, gexc.PreconditionFailed, of=name):
                blob.compose(pinned, if_generation_match=0, **self._budget(UPLOAD_SECONDS))
        except gexc.PreconditionFailed as err:
            # By another process, or by our own call whose answer was lost.
            existing = self.find(name)
            if existing is None:
                raise Gone(name) from err
            return existing
        except PermissionMissing as err:
            raise ComposeRefused(str(err)) from err
        return _stored(blob)

    def renew(self, found: StoredObject) -> StoredObject:
        """Note on an object that it is in use now, as its custom time, which only goes forward.

        Neither its bytes nor its generation change, so nobody who reads it is disturbed
        (https://cloud.google.com/storage/docs/metadata#custom-time).

        :raises Gone: it is not there any more
        """
        blob = self._bucket().blob(found.name)
        blob.custom_time = dt.datetime.now(dt.timezone.utc)
        try:
            with self._told(
                "renewing a file", gexc.NotFound, gexc.PreconditionFailed, of=found.name
            ):
                blob.patch(if_generation_match=found.generation, **self._budget())
        except gexc.PreconditionFailed as err:
            raise Gone(found.name) from err
        return _stored(blob)

    def delete(
        self, objects: Iterable[StoredObject], until: float = math.inf, *, if_unused: bool = False
    ) -> int:
        """Delete these generations, or what can be until then (``time.monotonic``); how many.

        :param if_unused: one that was renewed since it was looked at stays
        """
        return sum(side_by_side(lambda found: self._delete_one(found, until, if_unused), objects))

    def _delete_one(self, found: StoredObject, until: float, if_unused: bool) -> int:
        if time.monotonic() > until:
            return 0
        try:
            with self._told(
                "deleting a file", gexc.NotFound, gexc.PreconditionFailed, of=found.name
            ):
                self._bucket().delete_blob(
                    found.name,
                    if_generation_match=found.generation,
                    if_metageneration_match=found.metageneration if if_unused else None,
                    **self._budget(),
                )
        except (Gone, gexc.PreconditionFailed):
            return 0
        return 1

    def _budget(self, seconds: float | None = None) -> dict[str, Any]:
        wanted = clients.CALL_SECONDS if seconds is None else seconds
        left = max(_LAST_SECONDS, self.until - time.monotonic())
        return clients.budget(min(wanted, left))

    def _bucket(self) -> storage.Bucket:
        return self.client.bucket(self.bucket)

    def _blob(self, name: str, headers: Headers) -> storage.Blob:
        blob = self._bucket().blob(name)
        blob.content_type = headers.content_type
        blob.content_disposition = headers.content_disposition
        blob.metadata = dict(headers.metadata)
        return blob

    @contextmanager
    def _told(
        self, doing: str, *answers: type[gexc.GoogleAPICallError], of: str = ""
    ) -> Iterator[None]:
        """:func:`clients.told`, but a missing object is :class:`Gone`.

        What is missing is told by what was asked: without an object (``of``) that has to be there,
        as in a list or a write, it is the bucket. The message's words cannot tell: they hold names.
        """
        doing = f"{doing} in the bucket {self.bucket!r}"
        try:
            with clients.told(doing, gexc.NotFound, *answers):
                yield
        except gexc.NotFound as err:
            if of:
                raise Gone(of) from err
            raise PermissionMissing(
                f"There was no {doing}: the bucket does not exist, or the site's credentials may "
                "not see it."
            ) from err


def checksum(data: bytes | IO[bytes]) -> tuple[str, int]:
    """The CRC32C as Cloud Storage writes it, and the size; an open file is at its start again.

    https://cloud.google.com/storage/docs/data-validation
    """
    if isinstance(data, bytes):
        return crc32c_text(google_crc32c.value(data)), len(data)
    found, size = 0, 0
    while block := data.read(_READ_BYTES):
        found, size = google_crc32c.extend(found, block), size + len(block)
    data.seek(0)
    return crc32c_text(found), size


def crc32c_text(value: int) -> str:
    return base64.b64encode(value.to_bytes(4, "big")).decode()


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
        renewed=blob.custom_time,
        metageneration=blob.metageneration or 0,
        metadata=blob.metadata or {},
    )
