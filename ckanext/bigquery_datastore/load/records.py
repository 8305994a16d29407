"""The records of a CSV file on their way up: read, numbered, made even. Pure.

What is well-formed is sent as it stands, quotes and all: an empty text in quotes stays one. Any
other record is read as Python's ``csv`` reads it, and written anew as RFC 4180 wants it, so that
BigQuery reads what was read here. Each ends with a line feed: a reader may not take two kinds of
line ends in one file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load import headings
from ckanext.bigquery_datastore.load.faults import BadRow, RowRefused
from ckanext.bigquery_datastore.load.files import LINE, RECORD_BYTES, ROW, Met, place

# Python's own limit of a cell is 128 KiB.
csv.field_size_limit(RECORD_BYTES)

COLUMNS = 9_990  # https://cloud.google.com/bigquery/quotas#standard_tables: 10,000


@dataclass(frozen=True)
class Record:
    """One record: the line that it begins at, its bytes without a line end, its cells' number."""

    line: int
    text: bytes
    count: int


@dataclass
class Undecodable(Exception):
    """A line that is not in UTF-8; ``text`` holds it and some of what follows."""

    line: int
    text: bytes


@dataclass
class Even:
    """Makes records as wide as the heading; what does not fit is set aside, up to ``most``."""

    delimiter: str
    most: int = 0
    bad: list[BadRow] = field(default_factory=list)
    short: int = 0
    cut: int = 0

    def numbered(self, records: Iterator[Record], met: Met) -> Iterator[bytes]:
        """The records, a header of places first, each with its number and its line in front.

        :raises RowRefused: one does not fit, and no more may be set aside
        """
        first = next(records, None)
        if first is None:
            return
        cells = self._cells(first.text)
        if len(cells) > COLUMNS:
            raise BadRequest(
                f"The file has {len(cells):,} columns; a table has {COLUMNS:,} at most."
            )
        met.names[:], notes = headings.names(cells)
        met.notes += notes
        separator, width = self.delimiter.encode(), len(cells)
        places = map(place, range(width))
        yield separator.join([ROW.encode(), LINE.encode(), *places]) + b"\n"
        form = b"%d" + separator + b"%d" + separator + b"%b%b\n"
        missing = [separator * number for number in range(width + 1)]
        number = 0
        for record in records:
            text, count = record.text, record.count
            if count > width:
                cells = self._cells(text)
                if any(cell.strip() for cell in cells[width:]):
                    self._refuse(record, cells, width)
                    continue
                self.cut += 1
                text, count = self._text(cells[:width]), width
            elif count < width:
                self.short += 1
            number += 1
            yield form % (number, record.line, text, missing[width - count])
        met.rows = number

    def _refuse(self, record: Record, cells: Sequence[str], width: int) -> None:
        value = self.delimiter.join(cells[width:])
        reason = f"is more than the {width} columns of the heading"
        row = BadRow(record.line, None, value, reason, record.text.decode())
        if len(self.bad) >= self.most:
            raise RowRefused(row)
        self.bad.append(row)

    def _cells(self, text: bytes) -> list[str]:
        found = csv.reader(io.StringIO(text.decode(), newline=""), delimiter=self.delimiter)
        return next(found, [""])

    def _text(self, cells: Sequence[str]) -> bytes:
        return written(cells, self.delimiter)

    @property
    def notes(self) -> list[str]:
        """Sentences for the log."""
        said = (
            (self.short, "{0:,} rows were shorter than the heading: their last cells are empty."),
            (self.cut, "{0:,} rows had empty cells beyond the heading, which are left out."),
        )
        return [sentence.format(count) for count, sentence in said if count]


def written(cells: Sequence[str], delimiter: str) -> bytes:
    """Cells as one record, without a line end."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="").writerow(cells)
    return out.getvalue().encode()


def records(lines: Iterator[bytes], delimiter: str) -> Iterator[Record]:
    """The records of a file in UTF-8, empty lines left out.

    :raises Undecodable: a line is not in UTF-8
    :raises BadRequest: a quote is never closed
    """
    separator = delimiter.encode()
    number = 0
    source = _Lines(lines)
    for line in source:
        number = source.number
        if b'"' not in line and b"\r" not in line[:-2] and b"\0" not in line:
            text = line.rstrip(b"\r\n")
            if text:
                yield Record(number, text, text.count(separator) + 1)
            continue
        text = line.rstrip(b"\r\n")
        count = _well_formed(text, separator)
        if count:
            yield Record(number, text, count)
            continue
        source.begin(line)
        try:
            cells = next(csv.reader(source.texts(), delimiter=delimiter))
        except csv.Error as err:
            reason = f"cannot be read as CSV ({err})"
            raise RowRefused(BadRow(number, None, text.decode(), reason)) from err
        if source.is_over:
            raise BadRequest(
                f"The file ends inside a quoted field, which begins at line {number}: a closing "
                "quote is missing."
            )
        text = b"".join(source.taken).rstrip(b"\r\n")
        count = _well_formed(text, separator)
        if count:
            yield Record(number, text, count)
        elif b"\0" in text:
            reason = "has a character of the code 0 in it"
            raise RowRefused(BadRow(number, None, text.decode(), reason))
        else:
            yield Record(number, written(cells, delimiter), len(cells))


class _Lines:
    """The lines of a file, counted, and those that one record takes."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.number = 0
        self.taken: list[bytes] = []
        self.is_over = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = next(self._lines)
        self.number += 1
        if not line.isascii():
            try:
                line.decode()
            except UnicodeDecodeError as err:
                following = b"".join(text for text, _ in zip(self._lines, range(200), strict=False))
                raise Undecodable(self.number, line + following) from err
        return line

    def begin(self, line: bytes) -> None:
        self.taken = [line]

    def texts(self) -> Iterator[str]:
        """The line that a record begins with, and those that its quotes take."""
        yield self.taken[0].decode()
        first, size = self.number, len(self.taken[0])
        for line in self:
            self.taken.append(line)
            size += len(line)
            if size > RECORD_BYTES:
                raise BadRequest(
                    f"The record at line {first} of the file has more than {RECORD_BYTES:,} "
                    "bytes: a closing quote may be missing."
                )
            yield line.decode()
        self.is_over = True


def _well_formed(text: bytes, separator: bytes) -> int:
    """How many cells a record has, if its quotes stand around whole cells only; else 0."""
    parts = text.split(b'"')
    if len(parts) % 2 == 0 or b"\0" in text:
        return 0
    count, last = 1, len(parts) - 1
    for number in range(0, len(parts), 2):
        outside = parts[number]
        if not outside:
            continue  # the record's end, or a quote that is doubled
        if number > 0 and not outside.startswith(separator):
            return 0
        if number < last and not outside.endswith(separator):
            return 0
        if b"\r" in outside or b"\n" in outside:
            return 0
        count += outside.count(separator)
    return count
