"""A download on the event loop, as the ASGI front has it, read as ``open_stream``'s is."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ckanext.bigquery_datastore.dump.loop import shared_loop
from ckanext.bigquery_datastore.dump.stream import ByteRange, Part, Patience, Stream
from ckanext.bigquery_datastore.dump.stream.download import Download
from ckanext.bigquery_datastore.dump.stream.parts import Inline, Piece, cut, total_size


def open_in_loop(parts: Sequence[Part], span: ByteRange | None, patience: Patience) -> Stream:
    arrivals = _Arrivals(cut(parts, span), patience)
    return Stream(span.length if span else total_size(parts), arrivals, arrivals.close)


class _Arrivals:
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
        self._closed = True
        self._task.cancel()
