"""A download as a file on this machine: taken up where it broke off, compared with its checksum."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import google_crc32c

from ckanext.bigquery_datastore import downloads
from ckanext.bigquery_datastore.dump import sign
from ckanext.bigquery_datastore.dump.objects import StoredObject
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.state import Ready
from ckanext.bigquery_datastore.dump.stream import ByteRange, Patience, Source, open_stream
from ckanext.bigquery_datastore.errors import OutsideError

_PATIENCE = Patience(connect=5, read=60)
_READ_BYTES = 2**20

Advance = Callable[[int], object]


def save(plan: DumpPlan, ready: Ready, file: Path, advance: Advance) -> int:
    """Download into ``file``, which appears when it is whole; how many bytes it has.

    What has come of this very file stays beside it until then (``….part``), and is not asked for
    again; of a file that is rewritten on the way, nothing is kept.

    :param advance: hears how many bytes have come
    :raises OutsideError: it did not come, or not as it is in the bucket
    """
    part = file.with_name(f"{file.name}.{_digest(plan, ready)}.part")
    if plan.format.rewrite and part.exists():
        part.unlink()
    with part.open("a+b") as out:
        _fill(plan, ready, out, part, advance)
        size = out.tell()
    os.replace(part, file)
    return size


def write(plan: DumpPlan, ready: Ready, out: IO[bytes], advance: Advance) -> int:
    """Download into an open pipe or file; how many bytes.

    :raises OutsideError: as ``save``; what was written is then not the file
    """
    check = _Check(ready.objects)
    size = 0
    for chunk in check.seen(_chunks(plan, ready, 0), is_stored=not plan.format.rewrite):
        out.write(chunk)
        size += len(chunk)
        advance(len(chunk))
    return size


def _fill(plan: DumpPlan, ready: Ready, out: IO[bytes], part: Path, advance: Advance) -> None:
    """The rest of a file that has begun, compared as a whole."""
    begun = out.tell()
    if begun > ready.size:
        out.truncate(0)
        begun = 0
    check = _Check(ready.objects)
    out.seek(0)
    while chunk := out.read(_READ_BYTES):
        check.take(chunk)
        advance(len(chunk))
    try:
        rest = _chunks(plan, ready, begun)
        for chunk in check.seen(rest, is_stored=not plan.format.rewrite):
            out.write(chunk)
            advance(len(chunk))
    except Differs:
        part.unlink(missing_ok=True)
        raise


def _chunks(plan: DumpPlan, ready: Ready, first: int) -> Iterator[bytes]:
    """The bytes of the file from ``first`` on."""
    if not plan.format.rewrite and first == ready.size:
        return
    sources = [
        Source(
            sign.signed_url(
                downloads.store_rw(), found, "GET", plan.disposition, plan.content_type
            ),
            found.size,
            found.generation,
            crc32c=found.crc32c,
        )
        for found in ready.objects
    ]
    span = ByteRange(first, ready.size - 1) if first else None
    with open_stream(sources, span, _PATIENCE) as stream:
        yield from stream.rewritten(plan.rewritten) if plan.format.rewrite else stream


def _digest(plan: DumpPlan, ready: Ready) -> str:
    """What tells this very file from any other of its name."""
    told = repr((plan.etag, [(found.name, found.generation) for found in ready.objects]))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


class Differs(OutsideError):
    """What has come is not what the bucket holds."""


class _Check:
    """The CRC32C of each object that a file is made of, as its bytes go by."""

    def __init__(self, objects: Iterable[StoredObject]) -> None:
        self._objects = [found for found in objects if found.size]
        self._sum = google_crc32c.Checksum()
        self._left = self._objects[0].size if self._objects else 0

    def seen(self, chunks: Iterable[bytes], *, is_stored: bool) -> Iterator[bytes]:
        """The chunks, compared by their end; those that are rewritten are so before that."""
        for chunk in chunks:
            if is_stored:
                self.take(chunk)
            yield chunk
        if is_stored and self._objects:
            raise Differs("The download ended early. Run the command again to go on.")

    def take(self, chunk: bytes) -> None:
        """The next bytes of the file.

        :raises Differs: an object has come to its end, and is not the one in the bucket
        """
        while chunk:
            if not self._objects:
                raise Differs("The download is longer than the file in the bucket.")
            mine, chunk = chunk[: self._left], chunk[self._left :]
            self._sum.update(mine)
            self._left -= len(mine)
            if self._left == 0:
                self._compare(self._objects.pop(0))

    def _compare(self, found: StoredObject) -> None:
        come = base64.b64encode(self._sum.digest()).decode()
        if found.crc32c and come != found.crc32c:
            raise Differs(
                f"What has come is not what the bucket holds: its CRC32C is {come}, and that of "
                f"{found.name} is {found.crc32c}. It is deleted; run the command again."
            )
        self._sum = google_crc32c.Checksum()
        self._left = self._objects[0].size if self._objects else 0
