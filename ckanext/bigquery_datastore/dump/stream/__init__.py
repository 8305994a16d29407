"""One file out of an ordered list of objects, while it streams through CKAN.

    stream = open_stream([Inline(head), Source(url, size), …], None, Patience(connect=5, read=20))
    Response(stream, headers={"Content-Length": stream.length, …})

The WSGI worker iterates and fetches (``direct``); under ASGI, the event loop does (``download``).
``close()``, which a WSGI server calls when the visitor leaves, closes the
upstream connection at once. A failure raises from the iteration, and a WSGI server then
breaks the visitor's connection: a short file never ends like a whole one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from ckanext.bigquery_datastore.dump.stream.direct import DirectFetch
from ckanext.bigquery_datastore.dump.stream.parts import (
    Inline,
    Part,
    Piece,
    Source,
    cut,
    total_size,
)
from ckanext.bigquery_datastore.dump.stream.ranges import ByteRange
from ckanext.bigquery_datastore.dump.stream.reading import Patience
from ckanext.bigquery_datastore.errors import OutsideError

__all__ = ["ByteRange", "Inline", "Part", "Patience", "Source", "Stream", "open_stream"]


def open_stream(parts: Sequence[Part], byte_range: ByteRange | None, patience: Patience) -> Stream:
    """The bytes of ``parts`` in a row, or those of ``byte_range`` only.

    Returns when the first byte from Cloud Storage is here, so a refusal surfaces before
    any header is sent: raises PermissionMissing, NotReachable or OutsideError, with a
    message for a person. Raises ValueError for a range of parts of unknown size.
    """
    pieces = cut(parts, byte_range)
    length = byte_range.length if byte_range else total_size(parts)
    arrivals = _Arrivals(pieces, patience)
    return Stream(length, arrivals, arrivals.close)


class Stream:
    """A body for a WSGI answer: ``length`` in bytes or None, an iterator, ``close()``."""

    def __init__(
        self, length: int | None, chunks: Iterator[bytes], release: Callable[[], None]
    ) -> None:
        self.length = length
        self._chunks = chunks
        self._release = release
        self._sent = 0

    def when_closed(self, then: Callable[[], None]) -> None:
        """Have ``then`` called, too, when this is closed."""
        release = self._release

        def both() -> None:
            release()
            then()

        self._release = both

    def rewritten(self, rewrite: Callable[[Iterator[bytes]], Iterator[bytes]]) -> Stream:
        """The same download with its bytes passed through ``rewrite``; of unknown length."""
        return Stream(None, rewrite(self), self.close)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            if self.length is not None and self._sent != self.length:
                raise OutsideError(
                    f"The file ended after {self._sent} of {self.length} bytes."
                ) from None
            # All of it is read: what it held is free, however late a server closes it.
            self.close()
            raise
        self._sent += len(chunk)
        return chunk

    def close(self) -> None:
        """Give up what is still to come. Does no harm when called again."""
        self._release()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Arrivals:
    """The chunks of all pieces in a row, each fetched when it is asked for."""

    def __init__(self, pieces: Sequence[Piece | Inline], patience: Patience) -> None:
        self._pieces = deque(pieces)
        self._patience = patience
        self._fetch: DirectFetch | None = None
        self._ahead: deque[bytes] = deque()
        self._is_closed = False
        self._reach_first_object()

    def _reach_first_object(self) -> None:
        """A refusal has to come before the first byte, even if that is an inline one."""
        for piece in self._pieces:
            if isinstance(piece, Piece):
                deadline = time.monotonic() + self._patience.first_byte
                self._fetch = DirectFetch(piece, self._patience, deadline)
                self._ahead.append(self._fetched())
                return

    def __iter__(self) -> _Arrivals:
        return self

    def __next__(self) -> bytes:
        while self._pieces and not self._is_closed:
            piece = self._pieces[0]
            if isinstance(piece, Inline):
                self._pieces.popleft()
                return piece.data
            if self._fetch is None:
                self._fetch = DirectFetch(piece, self._patience)
            if chunk := self._ahead.popleft() if self._ahead else self._fetched():
                return chunk
            self._pieces.popleft()
            self._fetch = None
        if self._is_closed:
            raise ValueError("read of a closed stream")
        raise StopIteration

    def _fetched(self) -> bytes:
        assert self._fetch is not None
        try:
            return self._fetch.next()
        except BaseException:
            self._fetch.close()
            raise

    def close(self) -> None:
        self._is_closed = True
        if self._fetch is not None:
            self._fetch.close()
