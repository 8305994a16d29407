"""One file out of an ordered list of objects, while it streams through CKAN.

    stream = open_stream([Inline(head), Source(url, size), …], None, Patience(connect=5, read=20))
    Response(stream, headers={"Content-Length": stream.length, …})

The WSGI worker iterates; the event loop of the process (``loop``) fetches (``download``).
``close()``, which a WSGI server calls when the visitor leaves, closes the
upstream connections at once. A failure raises from the iteration, and a WSGI server then
breaks the visitor's connection: a short file never ends like a whole one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from ckanext.bigquery_datastore.dump.loop import shared_loop
from ckanext.bigquery_datastore.dump.stream.download import Download
from ckanext.bigquery_datastore.dump.stream.fetch import Patience
from ckanext.bigquery_datastore.dump.stream.parts import (
    Inline,
    Part,
    Piece,
    Source,
    cut,
    total_size,
)
from ckanext.bigquery_datastore.dump.stream.ranges import ByteRange
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
    """The worker's side of a download that runs in the event loop."""

    def __init__(self, pieces: Sequence[Piece | Inline], patience: Patience) -> None:
        loop = shared_loop()
        self._portal = loop.portal
        self._waiting: deque[bytes] = deque()
        self._ended = False
        self._closed = False
        download = self._portal.call(Download, loop.client, pieces, patience)
        self._take = download.pipe.take
        self._task = self._portal.start_task_soon(download.run)
        try:
            self._receive()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> _Arrivals:
        return self

    def __next__(self) -> bytes:
        if self._closed:
            raise ValueError("read of a closed stream")
        if not self._waiting and not self._ended:
            self._receive()
        if not self._waiting:
            raise StopIteration
        return self._waiting.popleft()

    def _receive(self) -> None:
        chunks = self._portal.call(self._take)
        self._waiting.extend(chunks)
        self._ended = not chunks

    def close(self) -> None:
        """Cancel the task in the loop; it closes its connections on the way out."""
        self._closed = True
        self._task.cancel()
