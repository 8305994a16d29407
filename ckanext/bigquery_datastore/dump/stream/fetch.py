"""Read one object to its end, over as many connections as that takes.

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
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import google_crc32c
import httpx

from ckanext.bigquery_datastore.dump.stream.parts import Piece
from ckanext.bigquery_datastore.errors import NotReachable, OutsideError, PermissionMissing

log = logging.getLogger(__name__)

# Answers after which the same request may well succeed
# (https://cloud.google.com/storage/docs/retry-strategy).
PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})

# A connection that brought this much has proved itself: the tries are counted anew.
PROVEN_BYTES = 1024 * 1024

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


class _Passing(Exception):
    """This connection failed; another one may do better. The text is for the log."""


class Fetch:
    """The bytes of one piece, in order: ``open()`` ahead of time, ``next()`` until empty.

    Both raise OutsideError or a subclass. ``aclose()`` ends it at any time.
    """

    def __init__(self, client: httpx.AsyncClient, piece: Piece, patience: Patience) -> None:
        self._client = client
        self._piece = piece
        self._patience = patience
        self._at = piece.first
        self._last = piece.last
        self._seal: tuple[str, str] | None = None
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._sum = google_crc32c.Checksum()
        self._failures = 0
        self._proven = 0
        self._turn = anyio.Lock()
        self._ahead: bytes | None = None
        self._refusal: OutsideError | None = None

    @property
    def remaining(self) -> int | None:
        """Bytes still to come, None while that is not known."""
        return None if self._last is None else self._last + 1 - self._at

    async def open(self) -> None:
        """Have the first bytes at hand. What it raises, ``next()`` raises again."""
        async with self._turn:
            if self._ahead is None and self._refusal is None:
                try:
                    self._ahead = await self._next()
                except OutsideError as err:
                    self._refusal = err
            if self._refusal is not None:
                raise self._refusal

    async def next(self) -> bytes:
        """The next bytes, at most 64 KiB of them; empty at the end of the piece."""
        async with self._turn:
            if self._refusal is not None:
                raise self._refusal
            if self._ahead is not None:
                ahead, self._ahead = self._ahead, None
                return ahead
            return await self._next()

    async def _next(self) -> bytes:
        while True:
            try:
                if self._response is None:
                    await self._connect()
                return await self._read()
            except (_Passing, httpx.TransportError) as err:
                await self.aclose()
                await self._wait_before_next_try(err)

    async def aclose(self) -> None:
        """Close the connection, unless it was read to its end."""
        response, self._response, self._chunks = self._response, None, None
        if response is not None:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _read(self) -> bytes:
        assert self._chunks is not None
        try:
            chunk = await self._chunks.__anext__()
        except StopAsyncIteration:
            if self.remaining:
                raise _Passing(f"the answer ended {self.remaining} bytes early") from None
            await self.aclose()
            return b""
        self._at += len(chunk)
        if self.remaining is not None and self.remaining < 0:
            raise OutsideError("Cloud Storage sent more bytes than the file has.")
        self._compare(chunk)
        self._proven += len(chunk)
        if self._proven >= PROVEN_BYTES:
            self._failures = 0
        return chunk

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

    async def _wait_before_next_try(self, err: Exception) -> None:
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
        await anyio.sleep(pause * random.uniform(0.5, 1))

    async def _connect(self) -> None:
        range_asked = self._at > 0 or not self._piece.is_whole
        headers = dict(self._piece.source.headers)
        if range_asked:
            headers["Range"] = f"bytes={self._at}-{'' if self._last is None else self._last}"
        request = self._client.build_request(
            "GET", self._piece.source.url, headers=headers, timeout=self._timeout()
        )
        response = await self._send(request)
        try:
            await self._accept(response, range_asked)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await response.aclose()
            raise
        self._response = response
        self._chunks = response.aiter_raw()

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """The answer's head. A connection that is being made is waited for, even if cancelled.

        httpcore loses a connection that is cancelled in between, and it stays open
        (https://github.com/encode/httpcore/issues/1093). From the request on it does not.
        """
        with anyio.CancelScope(shield=True) as connecting:

            async def trace(event: str, _: object) -> None:
                if event.endswith("send_request_headers.started"):
                    connecting.shield = False

            request.extensions["trace"] = trace
            return await self._client.send(request, stream=True)
        raise AssertionError("nobody cancels this scope itself")

    def _timeout(self) -> httpx.Timeout:
        connect, read = self._patience.connect, self._patience.read
        return httpx.Timeout(connect=connect, read=read, write=connect, pool=connect)

    async def _accept(self, response: httpx.Response, range_asked: bool) -> None:
        """Take note of what the answer's head says of the object, or refuse the answer."""
        if response.status_code != (206 if range_asked else 200):
            await self._refuse(response)
        self._check_generation(response)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise OutsideError("The file is stored with a Content-Encoding, which is not expected.")
        if range_asked:
            self._check_range(response)
        else:
            self._check_length(response)

    async def _refuse(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in PASSING_STATUSES:
            raise _Passing(f"HTTP {status}")
        code = await _error_code(response)
        log.warning("%r: HTTP %d %s", self._piece.source, status, code)
        if status in (401, 403):
            raise PermissionMissing(
                f"Cloud Storage refuses to hand out the file (HTTP {status} {code}). The site's "
                "credentials need the permission storage.objects.get on the export bucket."
            )
        if status in (404, 410, 412, 416):
            raise OutsideError(
                f"The file is not in the export bucket any more (HTTP {status}). "
                "Please start the download again."
            )
        raise OutsideError(f"Cloud Storage gave an answer that is not expected (HTTP {status}).")

    def _check_generation(self, response: httpx.Response) -> None:
        seal = _seal(response)
        expected = self._seal
        generation = self._piece.source.generation
        if expected is None and generation is not None:
            expected = ("x-goog-generation", str(generation))
        if expected is not None and seal != expected:
            raise OutsideError(
                "The file was replaced by another version. Please start the download again."
            )
        self._seal = seal

    def _check_range(self, response: httpx.Response) -> None:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
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

    def _check_length(self, response: httpx.Response) -> None:
        length = response.headers.get("content-length")
        if length is None:
            # Without either, a broken connection looks like the end of the file.
            if "chunked" not in response.headers.get("transfer-encoding", ""):
                raise OutsideError("Cloud Storage does not say how long the file is.")
        elif self._last is None:
            self._last = int(length) - 1
        elif int(length) != self._last + 1:
            raise OutsideError(
                f"The file should have {self._last + 1} bytes, and has {length}. "
                "Please start the download again."
            )


def _seal(response: httpx.Response) -> tuple[str, str] | None:
    """The header that names the object's version byte for byte, and its value."""
    for name in ("x-goog-generation", "etag"):
        value = response.headers.get(name, "")
        if value and not value.startswith("W/"):
            return (name, value)
    return None


async def _error_code(response: httpx.Response) -> str:
    """Cloud Storage's word for a refusal; the rest of its body repeats what was signed."""
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > 4096:
            break
    match = _ERROR_CODE.search(body)
    return match.group(1).decode() if match else "without a reason"
