"""What a download is made of: objects behind signed URLs, and bytes held in memory.

Pure: ``cut`` computes which piece of which part makes up a byte range.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ckanext.bigquery_datastore.dump.stream.ranges import ByteRange


@dataclass(frozen=True)
class Source:
    """An object of Cloud Storage that ``url``, signed by the caller, gives access to.

    ``size`` in bytes and ``generation`` are checked against what arrives when they
    are known, and ``crc32c``, as Cloud Storage writes it, against an object of known size that
    is fetched whole: a range has no checksum. ``headers`` are sent along; a header that begins
    with ``x-goog-`` must have been signed with the URL, Cloud Storage refuses it otherwise. To
    make sure of one generation already at the server, sign the URL with a ``generation``
    parameter.
    """

    url: str
    size: int | None = None
    generation: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    crc32c: str | None = None

    def __repr__(self) -> str:
        # The signature in the URL opens the object to whoever reads a log.
        return f"Source({self.url.partition('?')[0]!r}, {self.size}, {self.generation})"


@dataclass(frozen=True)
class Inline:
    """Bytes at hand, such as the header line of a csv file."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)


Part = Source | Inline


@dataclass(frozen=True)
class Piece:
    """The part of ``source`` to be fetched: from ``first`` to ``last``, both included.

    ``last`` is None for "to the end", where that end is not known.
    """

    source: Source
    first: int = 0
    last: int | None = None

    @property
    def is_whole(self) -> bool:
        size = self.source.size
        return self.first == 0 and (
            self.last is None or (size is not None and self.last == size - 1)
        )


def total_size(parts: Sequence[Part]) -> int | None:
    """The bytes of all ``parts`` together; None if the size of one is not known."""
    sizes = [part.size for part in parts]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def cut(parts: Sequence[Part], span: ByteRange | None) -> list[Piece | Inline]:
    """The pieces that make up ``span`` of all ``parts`` in a row, or all of them.

    Empty pieces are left out: nothing is fetched for them. Raises ValueError for a
    span of parts whose sizes are not all known, or one that passes their end.
    """
    if span is None:
        return [piece for part in parts for piece in _entire(part)]
    total = total_size(parts)
    if total is None or not 0 <= span.first <= span.last < total:
        raise ValueError(f"bytes {span.first}-{span.last} cannot be cut from {total} bytes")
    return [piece for part, at in _placed(parts) for piece in _slice(part, at, span)]


def _entire(part: Part) -> Iterator[Piece | Inline]:
    if part.size == 0:
        return
    if isinstance(part, Inline):
        yield part
    else:
        yield Piece(part, 0, None if part.size is None else part.size - 1)


def _placed(parts: Sequence[Part]) -> Iterator[tuple[Part, int]]:
    """Each part of known size with the place of its first byte in the row."""
    at = 0
    for part in parts:
        yield part, at
        at += part.size or 0


def _slice(part: Part, at: int, span: ByteRange) -> Iterator[Piece | Inline]:
    first = max(span.first - at, 0)
    last = min(span.last - at, (part.size or 0) - 1)
    if first > last:
        return
    if isinstance(part, Inline):
        yield Inline(part.data[first : last + 1])
    else:
        yield Piece(part, first, last)
