"""How far an object has been read, what is asked for next, and which answers are accepted. Pure.

A connection that breaks is followed by another one that asks for the rest by Range. What
arrives is checked against what is known of the object, so that bytes of two generations
are never mixed and a short answer is never taken for the whole. An object that is read whole is
compared with its CRC32C (https://cloud.google.com/storage/docs/data-validation) before its last
bytes are handed out.

Which header says that it is still the same object: ``x-goog-generation``, which Cloud
Storage sends with every object
(https://cloud.google.com/storage/docs/xml-api/reference-headers); elsewhere a strong ETag.
The request header ``x-goog-if-generation-match`` is not used: an x-goog- header has to be
signed with the URL, and whoever signs can put the generation into the URL as well.
"""

from __future__ import annotations

import base64
import logging
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

import google_crc32c

from ckanext.bigquery_datastore.dump.stream.parts import Piece
from ckanext.bigquery_datastore.errors import NotReachable, OutsideError, PermissionMissing

log = logging.getLogger(__name__)

# Answers after which the same request may well succeed
# (https://cloud.google.com/storage/docs/retry-strategy).
PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

# A connection that brought this much has proved itself: the tries are counted anew.
PROVEN_BYTES = 1024 * 1024

# What is read of a refusal: Cloud Storage's word for it stands near its beginning.
REFUSAL_BYTES = 4096

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.ASCII)
_ERROR_CODE = re.compile(rb"<Code>(\w{1,60})</Code>", re.ASCII)


@dataclass(frozen=True)
class Patience:
    """How long to wait for Cloud Storage, in seconds, and how often to try again.

    ``connect`` is for a connection, ``read`` for the answer's head and for each next
    bytes of it. ``tries`` connections in a row may fail; the pause before the n-th
    doubles from ``pause`` on, less a random part. All of this ends when the first byte of a
    download is not here after ``first_byte``.
    """

    connect: float
    read: float
    tries: int = 4
    pause: float = 0.2
    first_byte: float = 60


def not_now() -> NotReachable:
    """What a visitor is told when patience has ended."""
    return NotReachable("Cloud Storage does not send the file at present. Please try again later.")


class Passing(Exception):
    """This connection failed; another one may do better. The text is for the log."""


class Reading:
    """Of one piece, over as many connections as that takes.

    All of it raises OutsideError or a subclass where there is nothing more to be tried.
    """

    def __init__(self, piece: Piece, patience: Patience) -> None:
        self._piece = piece
        self._patience = patience
        self._at = piece.first
        self._last = piece.last
        self._asked_range = False
        self._seal: tuple[str, str] | None = None
        self._sum = google_crc32c.Checksum()
        self._failures = 0
        self._proven = 0

    @property
    def remaining(self) -> int | None:
        """Bytes still to come, None while that is not known."""
        return None if self._last is None else self._last + 1 - self._at

    def request(self) -> dict[str, str]:
        """The headers that ask for what is still to come."""
        self._asked_range = self._at > 0 or not self._piece.is_whole
        headers = dict(self._piece.source.headers)
        if self._asked_range:
            headers["Range"] = f"bytes={self._at}-{'' if self._last is None else self._last}"
        return headers

    def is_answer(self, status: int) -> bool:
        """Whether the object follows; otherwise ``refuse`` tells what this is.

        :raises Passing: the same may succeed in a moment
        """
        if status in PASSING_STATUSES:
            raise Passing(f"HTTP {status}")
        return status == (206 if self._asked_range else 200)

    def accept(self, headers: Mapping[str, str]) -> None:
        """Take note of what an answer's head says of the object; names have no case."""
        self._check_generation(headers)
        if headers.get("content-encoding", "identity") != "identity":
            raise OutsideError("The file is stored with a Content-Encoding, which is not expected.")
        if self._asked_range:
            self._check_range(headers)
        else:
            self._check_length(headers)

    def refuse(self, status: int, body: bytes) -> OutsideError:
        """What a visitor is told of this refusal; the rest of its body repeats what was signed."""
        match = _ERROR_CODE.search(body)
        code = match.group(1).decode() if match else "without a reason"
        log.warning("%r: HTTP %d %s", self._piece.source, status, code)
        if status in (401, 403):
            return PermissionMissing(
                f"Cloud Storage refuses to hand out the file (HTTP {status} {code}). The site's "
                "credentials need the permission storage.objects.get on the export bucket."
            )
        if status in (404, 410, 412, 416):
            return OutsideError(
                f"The file is not in the export bucket any more (HTTP {status}). "
                "Please start the download again."
            )
        return OutsideError(f"Cloud Storage gave an answer that is not expected (HTTP {status}).")

    def take(self, chunk: bytes) -> None:
        """Note that these bytes have come, and whether they are the object's."""
        self._at += len(chunk)
        if self.remaining is not None and self.remaining < 0:
            raise OutsideError("Cloud Storage sent more bytes than the file has.")
        self._compare(chunk)
        self._proven += len(chunk)
        if self._proven >= PROVEN_BYTES:
            self._failures = 0

    def end(self) -> None:
        """An answer has ended.

        :raises Passing: too early
        """
        if self.remaining:
            raise Passing(f"the answer ended {self.remaining} bytes early")

    def pause(self, err: Exception) -> float:
        """Seconds to wait before the next connection, as this one failed."""
        self._failures += 1
        self._proven = 0
        why = f"{type(err).__name__}: {err}".rstrip(": ")
        if self._failures >= self._patience.tries:
            raise not_now() from err
        if self._at > self._piece.first and self._seal is None:
            raise OutsideError(
                "The connection to the storage broke, and the storage does not say whether the "
                "rest of the file would still be of the same version."
            ) from err
        log.info("%r: %s at byte %d, trying again", self._piece.source, why, self._at)
        pause = self._patience.pause * 2 ** (self._failures - 1)
        return pause * random.uniform(0.5, 1)

    def _compare(self, chunk: bytes) -> None:
        wanted = self._piece.source.crc32c
        if not wanted or not self._piece.is_whole:
            return
        self._sum.update(chunk)
        if self.remaining == 0 and base64.b64encode(self._sum.digest()).decode() != wanted:
            log.error("%r: the bytes that arrived are not those of its CRC32C", self._piece.source)
            raise OutsideError(
                "The file was damaged on its way from Cloud Storage. Please start the download "
                "again."
            )

    def _check_generation(self, headers: Mapping[str, str]) -> None:
        seal = _seal(headers)
        expected = self._seal
        generation = self._piece.source.generation
        if expected is None and generation is not None:
            expected = ("x-goog-generation", str(generation))
        if expected is not None and seal != expected:
            raise OutsideError(
                "The file was replaced by another version. Please start the download again."
            )
        self._seal = seal

    def _check_range(self, headers: Mapping[str, str]) -> None:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        first, last, total = match.groups() if match else ("", "", "")
        size = self._piece.source.size
        expected_last = self._last if self._last is not None else total and int(total or 0) - 1
        if (
            match is None
            or int(first) != self._at
            or int(last) != expected_last
            or (size is not None and total != str(size))
        ):
            raise OutsideError("Cloud Storage sent other bytes of the file than were asked for.")
        self._last = int(last)

    def _check_length(self, headers: Mapping[str, str]) -> None:
        length = headers.get("content-length")
        if length is None:
            # Without either, a broken connection looks like the end of the file.
            if "chunked" not in headers.get("transfer-encoding", ""):
                raise OutsideError("Cloud Storage does not say how long the file is.")
        elif self._last is None:
            self._last = int(length) - 1
        elif int(length) != self._last + 1:
            raise OutsideError(
                f"The file should have {self._last + 1} bytes, and has {length}. "
                "Please start the download again."
            )


def _seal(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """The header that names the object's version byte for byte, and its value."""
    for name in ("x-goog-generation", "etag"):
        value = headers.get(name, "")
        if value and not value.startswith("W/"):
            return (name, value)
    return None
