"""Where the bytes of a file come from, and how it is unpacked: bounded, counted, never on trust."""

from __future__ import annotations

import gzip
import hashlib
import io
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from ckanext.bigquery_datastore.errors import BadRequest, TooLarge
from ckanext.bigquery_datastore.load.kinds import Kind, kind_of_name

_BLOCK = 2**20

# Deflate packs a thousand to one at most; no table that anybody needs comes near to this.
_RATIO = 250
_RATIO_FROM = 10**9


class Source(Protocol):
    """A file that can be opened more than once.

    ``kind`` is what is known of it beforehand, ``sheet`` the one that its address names.
    """

    name: str
    kind: Kind | None
    sheet: str | None

    def open(self, known: Mapping[str, Any] | None) -> AbstractContextManager[Opened]:
        """The bytes from the beginning.

        :param known: what was told of it when it was read last (``Opened.told``)
        :raises Unchanged: it has not changed since
        :raises BadRequest: it cannot be had
        """
        ...


@dataclass(frozen=True)
class Opened:
    """``size`` in bytes, where it is known; ``told`` is what tells a later change (JSON)."""

    stream: IO[bytes]
    size: int | None = None
    told: Mapping[str, Any] | None = None
    path: Path | None = None


@dataclass(frozen=True)
class Limits:
    """The most bytes of a file, packed or unpacked, and when its reading has to end (monotonic)."""

    most: int | None = None
    until: float = float("inf")


@dataclass
class LocalFile:
    """A file of this machine."""

    path: Path
    name: str
    kind: Kind | None = None
    sheet: str | None = None

    @contextmanager
    def open(self, known: Mapping[str, Any] | None) -> Iterator[Opened]:
        try:
            raw = self.path.open("rb")
        except OSError as err:
            raise BadRequest(f"The file {self.name} cannot be read: {err.strerror}.") from err
        with raw:
            yield Opened(raw, self.path.stat().st_size, path=self.path)


class Counted(io.RawIOBase):
    """The bytes of a stream as they are read: hashed, counted, bounded."""

    def __init__(self, stream: IO[bytes], limits: Limits, told: Callable[[int], None]) -> None:
        super().__init__()
        self._stream, self._limits, self._told = stream, limits, told
        self._sum = hashlib.sha256()
        self.size = 0

    @property
    def hash(self) -> str:
        return f"sha256:{self._sum.hexdigest()}"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        buffer[: len(block)] = block
        self._sum.update(block)
        self.size += len(block)
        _check(self.size, self._limits)
        self._told(len(block))
        return len(block)

    def drain(self) -> None:
        """Read what is left, so that the hash is that of the whole file."""
        while self.read(_BLOCK):
            pass


class _Unpacked(io.RawIOBase):
    """What a packed stream holds: never more than is allowed, nor suspiciously much."""

    def __init__(self, stream: IO[bytes], counted: Counted, limits: Limits) -> None:
        super().__init__()
        self._stream, self._counted, self._limits = stream, counted, limits
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._stream.read(len(buffer))
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as err:
            raise BadRequest(f"The packed file cannot be read: {err}.") from err
        buffer[: len(block)] = block
        self._size += len(block)
        _check(self._size, self._limits)
        if self._size > _RATIO_FROM and self._size > _RATIO * max(1, self._counted.size):
            raise TooLarge("The packed file unpacks to suspiciously much, and is not loaded.")
        return len(block)


class _Rejoined(io.RawIOBase):
    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        super().__init__()
        self._head, self._rest = io.BytesIO(head), rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._head.read(len(buffer)) or self._rest.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


def rejoined(head: bytes, rest: IO[bytes]) -> IO[bytes]:
    """A stream with the head that was read off it in front again."""
    return cast("IO[bytes]", io.BufferedReader(_Rejoined(head, rest), _BLOCK))


def _check(size: int, limits: Limits) -> None:
    if limits.most is not None and size > limits.most:
        raise TooLarge(
            f"The file has more than {limits.most:,} bytes, the most that this site loads "
            "(ckanext.bigquery_datastore.load_maximum_bytes)."
        )
    if time.monotonic() > limits.until:
        raise BadRequest(
            "The file takes too long to read (ckanext.bigquery_datastore.load_timeout_seconds)."
        )


@dataclass(frozen=True)
class Content:
    """What is in a file: its bytes unpacked, its kind, the name of the part that was taken; its
    path where it lies on this machine, unpacked."""

    stream: IO[bytes]
    kind: Kind
    name: str
    path: Path | None = None


@contextmanager
def unpacked(
    counted: Counted, name: str, kind: Kind | None, limits: Limits, path: Path | None
) -> Iterator[Content]:
    """The content of a file, whether it is gzipped, zipped or neither.

    :param path: where the file is, if it is on this machine
    :raises BadRequest: nothing in it is a table, or more than one thing
    """
    stream = io.BufferedReader(counted, _BLOCK)
    start = stream.peek(4)[:4]
    kind = kind or kind_of_name(name)
    if start[:2] == b"\x1f\x8b":
        packed = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
        inner = cast("IO[bytes]", io.BufferedReader(_Unpacked(packed, counted, limits), _BLOCK))
        yield Content(inner, _known(kind, name), name.removesuffix(".gz"))
    elif start == b"PK\x03\x04":
        with on_disk(cast("IO[bytes]", stream), path) as file:
            with _archive(file) as archive:
                member = _member(archive, name, kind)
                if member is not None:
                    with archive.open(member) as packed:
                        held = _Unpacked(packed, counted, limits)
                        inner = cast("IO[bytes]", io.BufferedReader(held, _BLOCK))
                        found = kind_of_name(member.filename) or kind
                        yield Content(inner, _known(found, name), member.filename)
                    return
            with file.open("rb") as whole:
                yield Content(whole, _known(kind, name), name, file)
    else:
        yield Content(cast("IO[bytes]", stream), _known(kind, name), name)


def _known(kind: Kind | None, name: str) -> Kind:
    if kind is None:
        raise BadRequest(
            f"{name} does not tell its format. Name it with --format: csv, tsv, ndjson, parquet, "
            "xlsx, xls or ods."
        )
    return kind


@contextmanager
def _archive(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError) as err:
        raise BadRequest(f"The zip file cannot be read: {err}.") from err
    with archive:
        yield archive


def _member(archive: zipfile.ZipFile, name: str, kind: Kind | None) -> zipfile.ZipInfo | None:
    """The one part of a zip that is a table; None where the zip is a spreadsheet itself."""
    members = [part for part in archive.infolist() if not part.is_dir()]
    names = {part.filename for part in members}
    if "[Content_Types].xml" in names or "mimetype" in names:
        return None
    members = [part for part in members if not part.filename.startswith("__MACOSX/")]
    tables = members if len(members) == 1 else [p for p in members if kind_of_name(p.filename)]
    if len(tables) != 1:
        found = ", ".join(part.filename for part in tables[:10]) or "none"
        raise BadRequest(f"{name} must hold one table; it holds {len(tables)}: {found}.")
    if tables[0].flag_bits & 1:
        raise BadRequest(f"{name} is protected by a password.")
    return tables[0]


@contextmanager
def on_disk(stream: IO[bytes], path: Path | None = None) -> Iterator[Path]:
    """The stream as a file of this machine, for what cannot be read from front to back."""
    if path is not None:
        yield path
        return
    with tempfile.NamedTemporaryFile(prefix="ckan-load-") as copy:
        while block := stream.read(_BLOCK):
            copy.write(block)
        copy.flush()
        yield Path(copy.name)
