"""The files that can be loaded, and how their rows get numbers on the way up. Pure but for reading.

The number of a row is the column ``ROW``; it stands first, so that BigQuery takes the line above it
for a header even where all other columns are texts.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from ckanext.bigquery_datastore.backend.table.definition import NAME_LIMIT
from ckanext.bigquery_datastore.backend.table.model import stored_names
from ckanext.bigquery_datastore.errors import BadRequest

CHUNK_BYTES = 16 * 2**20

#: The column of the row's number. No column of the DataStore has a name that begins so.
ROW = "_row"

#: A column's place behind it is its name for BigQuery, which cannot have every name of CKAN's.
PLACE = "_column_"

# Takes the open file, and a list that the names of its columns are put into as they are met.
Numbering = Callable[[IO[bytes], list[str]], Iterator[bytes]]


@dataclass(frozen=True)
class FileFormat:
    """How BigQuery is told to read a file; ``number`` puts ``ROW`` into its rows.

    ``by_place``: BigQuery knows the columns by their places, not by their names (``place``).
    """

    name: str
    source_format: str
    number: Numbering | None
    by_place: bool = False


def numbered_csv(file: IO[bytes], names: list[str]) -> Iterator[bytes]:
    """The records of a CSV file, a header of places first, each with its number in front.

    A record ends at a line end outside quotes: quotes are doubled inside a field (RFC 4180), so an
    even count of them means that all are closed. Nothing else in the record is touched.
    """
    record, number = b"", 0
    for line in file:
        record += line
        if record.count(b'"') % 2:
            continue
        if record.strip(b"\r\n"):
            if number == 0:
                names += _header(record)
                check_names(names)
                yield b",".join([ROW.encode(), *map(place, range(len(names)))]) + b"\n"
            else:
                yield b"%d,%s" % (number, record if record.endswith(b"\n") else record + b"\n")
            number += 1
        record = b""
    if record:
        raise BadRequest("The file ends inside a quoted field: a closing quote is missing.")


def place(number: int) -> bytes:
    """What BigQuery calls the column of this place, counted from 0."""
    return b"%s%d" % (PLACE.encode(), number + 1)


def _header(record: bytes) -> list[str]:
    try:
        text = record.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise BadRequest("The names of the file's columns are not in UTF-8.") from err
    return [cell.strip() for cell in next(csv.reader(io.StringIO(text, newline="")))]


def numbered_ndjson(file: IO[bytes], names: list[str]) -> Iterator[bytes]:
    """The objects of an NDJSON file, each with its number as the first key."""
    known: set[str] = set()
    number = 0
    for number_of_line, line in enumerate(file, 1):
        text = line.strip().removeprefix(b"\xef\xbb\xbf")
        if not text:
            continue
        number += 1
        new = [name for name in _keys(text, number_of_line) if name not in known]
        if new:
            known.update(new)
            names += new
            check_names(names)
            check_keys(names)
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


def _keys(text: bytes, number_of_line: int) -> Iterator[str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadRequest(f"Line {number_of_line} of the file is not a JSON object.")
    return iter(found)


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
        FileFormat("csv", "CSV", numbered_csv, by_place=True),
        FileFormat("ndjson", "NEWLINE_DELIMITED_JSON", numbered_ndjson),
        FileFormat("parquet", "PARQUET", None),
    )
}
_SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}


def format_of(path: Path) -> FileFormat:
    """The format that a file's name tells, ``.gz`` or not.

    :raises BadRequest: it tells none
    """
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    name = _SUFFIXES.get(suffixes[-1].lower() if suffixes else "")
    if name is None:
        raise BadRequest(
            f"{path.name} does not tell its format. Name it with --format: "
            + ", ".join(FILE_FORMATS)
            + "."
        )
    return FILE_FORMATS[name]


def opened(raw: IO[bytes]) -> IO[bytes]:
    """The file's content, whether it is gzipped or not."""
    is_gzipped = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return cast("IO[bytes]", gzip.open(raw)) if is_gzipped else raw


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
