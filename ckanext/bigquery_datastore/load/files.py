"""The files that can be loaded, and how their rows get numbers on the way up. Pure but for reading.

The number of a row is the column ``ROW``, the first one. What is not UTF-8 is refused with its
line: BigQuery would guess, byte by byte
(https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-csv#encoding).
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, cast

from ckanext.bigquery_datastore.backend.table.model import NAME_LIMIT, stored_names
from ckanext.bigquery_datastore.errors import BadRequest

CHUNK_BYTES = 16 * 2**20

# https://cloud.google.com/bigquery/quotas#load_jobs: a row, and a cell, of a CSV file.
RECORD_BYTES = 100 * 2**20

#: The column of the row's number. No column of the DataStore has a name that begins so.
ROW = "_row"

#: The column of the line that the row begins at in a CSV file, the second one.
LINE = "_line"

#: A column's place behind it is its name for BigQuery, which cannot have every name of CKAN's.
PLACE = "_column_"


@dataclass
class Met:
    """What has been met of a file's columns while its rows were numbered.

    ``kinds`` are those of the JSON values of a column: "string", "integer", "large" (an integer
    beyond 64 bits), "number", "boolean", "object", and of a list "[]" or "[string]" and so on; null
    is none. ``notes`` are sentences for the log.
    """

    names: list[str] = field(default_factory=list)
    kinds: dict[str, set[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rows: int = 0


@dataclass(frozen=True)
class FileFormat:
    """How BigQuery is told to read what is sent to it.

    ``by_place``: it knows the columns by their places, not by their names (``place``).
    ``is_numbered``: ``ROW`` is put into the rows on their way.
    """

    name: str
    source_format: str
    by_place: bool = False
    is_numbered: bool = True


def _lines(file: Iterable[bytes]) -> Iterator[bytes]:
    for number, line in enumerate(file, 1):
        if not line.isascii():
            try:
                line.decode()
            except UnicodeDecodeError as err:
                raise BadRequest(
                    f"Line {number} of the file is not in UTF-8. Name its encoding with "
                    "--encoding, such as --encoding windows-1252."
                ) from err
        yield line


def place(number: int) -> bytes:
    """What BigQuery calls the column of this place, counted from 0."""
    return b"%s%d" % (PLACE.encode(), number + 1)


def numbered_ndjson(file: Iterable[bytes], met: Met) -> Iterator[bytes]:
    """The objects of an NDJSON file, each with its number as the first key."""
    number = 0
    for number_of_line, line in enumerate(_lines(file), 1):
        text = line.strip().removeprefix(b"\xef\xbb\xbf")
        if not text:
            continue
        number += 1
        values = _object(text, number_of_line)
        new = [name for name in values if name not in met.kinds]
        if new:
            met.names += new
            met.kinds.update((name, set()) for name in new)
            check_names(met.names)
            check_keys(met.names)
        for name, value in values.items():
            if value is not None:
                met.kinds[name].add(_kind(value))
        met.rows = number
        rest = _unescaped(text[1:].lstrip())
        separator = b"" if rest.startswith(b"}") else b","
        yield b'{"%s":%d%s%s\n' % (ROW.encode(), number, separator, rest)


# An escape of JSON: a pair of surrogates, which are one character, or another one.
_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def _unescaped(text: bytes) -> bytes:
    """The text with the characters that are escaped as pairs of surrogates written out: BigQuery
    decodes each half alone. https://github.com/googleapis/python-bigquery/issues/864
    """

    def written(found: re.Match[bytes]) -> bytes:
        if found[1] is None:
            return found[0]
        return bytes.fromhex((found[1] + found[2]).decode()).decode("utf-16-be").encode()

    return _ESCAPE.sub(written, text) if b"\\u" in text else text


def _object(text: bytes, number_of_line: int) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadRequest(f"Line {number_of_line} of the file is not a JSON object.")
    return found


_KINDS = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


def _kind(value: Any) -> str:
    if isinstance(value, list):
        inner = {_kind(item) for item in value}
        if not inner:
            return "[]"
        return f"[{inner.pop()}]" if len(inner) == 1 else "[object]"
    if type(value) is int and not -(2**63) <= value < 2**63:
        return "large"
    return _KINDS.get(type(value), "null")


def check_names(names: list[str]) -> None:
    """That the DataStore can have columns of these names, in this order.

    :raises BadRequest: which one it cannot have, and why
    """
    seen = set()
    for number, name in enumerate(names, 1):
        if not name:
            raise BadRequest(f"Column {number} of the file has no name.")
        if name in seen:
            raise BadRequest(f'The file has two columns called "{name}".')
        seen.add(name)
        if name == "_id":
            continue  # a dump of the DataStore has it; it is left out
        if name.startswith("_") or name != name.strip() or '"' in name:
            raise BadRequest(
                f"The DataStore cannot have the column {name!r}: a name may not begin with an "
                "underscore, begin or end with a space, or have a double quote in it."
            )
        if len(name) > NAME_LIMIT:
            raise BadRequest(
                f"The DataStore cannot have the column {name!r}: "
                f"a name has {NAME_LIMIT} characters at most."
            )


def check_keys(names: list[str]) -> None:
    """That BigQuery can read keys of these names.

    :raises BadRequest: which it cannot read
    """
    for name, stored in zip(names, stored_names(names), strict=True):
        if name != stored:
            raise BadRequest(
                f"BigQuery cannot read the key {name!r}: it has a character that names of columns "
                "may not have there, or differs from another key in upper and lower case only. "
                "Rename it, or load the rows as CSV."
            )


FILE_FORMATS = {
    row.name: row
    for row in (
        FileFormat("csv", "CSV", by_place=True),
        FileFormat("ndjson", "NEWLINE_DELIMITED_JSON"),
        FileFormat("parquet", "PARQUET", is_numbered=False),
    )
}


def lines(content: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, none of which may be endless.

    :raises BadRequest: one has more bytes than BigQuery takes
    """
    number = 0
    while line := content.readline(RECORD_BYTES + 1):
        number += 1
        if len(line) > RECORD_BYTES:
            raise BadRequest(f"Line {number} of the file has more than {RECORD_BYTES:,} bytes.")
        yield line


class Recoded:
    """The lines of a file in another encoding, in UTF-8. ``old_mac``: a return ends one."""

    def __init__(self, content: IO[bytes], encoding: str, *, old_mac: bool = False) -> None:
        self._encoding = encoding
        # Line ends as they are.
        self._text = io.TextIOWrapper(
            cast("Any", content), encoding, newline=None if old_mac else ""
        )

    def __iter__(self) -> Iterator[bytes]:
        number = 0
        try:
            while line := self._text.readline(RECORD_BYTES + 1):
                number += 1
                if len(line) > RECORD_BYTES:
                    raise BadRequest(
                        f"Line {number} of the file has more than {RECORD_BYTES:,} characters."
                    )
                yield line.encode()
        except UnicodeError as err:
            # The reader decodes some lines ahead.
            raise BadRequest(
                f"The file is not in {self._encoding}: at line {number + 1} or a little below it "
                "are bytes that this encoding does not have."
            ) from err


def known_encoding(name: str) -> str:
    """The name, of which Python knows an encoding.

    :raises BadRequest: there is none, or it is none of texts
    """
    try:
        with contextlib.suppress(UnicodeError):
            b"a".decode(name)
    except LookupError as err:
        raise BadRequest(f"--encoding: {name!r} is no encoding of texts.") from err
    return name


def chunks(records: Iterator[bytes], repeats_head: bool) -> Iterator[bytes]:
    """The records in pieces that BigQuery can read one by one."""
    head = next(records, b"") if repeats_head else b""
    chunk, size = [head], len(head)
    for record in records:
        chunk.append(record)
        size += len(record)
        if size >= CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [head], len(head)
    if len(chunk) > 1:
        yield b"".join(chunk)
