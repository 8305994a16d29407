"""The row groups of a Parquet footer, copied for a file in which their data lies further back.

Which fields change is a table a structure; a field that no table names is copied as it is. Nearly
every column chunk of nearly every writer has one of a few dozen layouts, and one regular
expression knows them all: it finds the offsets some ten times faster than Python reads the fields
one by one. A chunk that it does not know takes the long way, to the same bytes
(``test_parquet_groups`` compares the two).

Source of the fields: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import BinaryIO

from ckanext.bigquery_datastore.dump.parquet import thrift
from ckanext.bigquery_datastore.errors import FooterError


class Rule(Enum):
    """What becomes of a field."""

    MOVE = auto()  # an offset into the file
    MOVE_OR_ZERO = auto()  # one that need not be right
    DROP = auto()  # refers to what is not carried along
    COUNT = auto()  # rows: copied, and added up
    COLUMNS = auto()  # a list of column chunks
    METADATA = auto()  # a column chunk's metadata
    ELSEWHERE = auto()
    ENCRYPTED = auto()


@dataclass(frozen=True)
class Layout:
    """The fields of a structure that are not copied as they are, and the one it must have."""

    name: str
    rules: Mapping[int, Rule]
    needed: int


# A binary field with the largest id may hold anything of the writer's own, offsets too:
# https://github.com/apache/parquet-format/blob/master/BinaryProtocolExtensions.md
EXTENSION = 32767

_ROW_GROUP = Layout(
    "row group",
    {
        1: Rule.COLUMNS,
        3: Rule.COUNT,
        5: Rule.MOVE,  # file_offset
        7: Rule.DROP,  # ordinal: would start again with each shard, and is an i16
        EXTENSION: Rule.DROP,
    },
    needed=1,
)
_COLUMN = Layout(
    "column chunk",
    {
        1: Rule.ELSEWHERE,  # file_path
        # file_offset: no reader may rely on it, new writers write 0, and Polars writes what may
        # point behind its data.
        2: Rule.MOVE_OR_ZERO,
        3: Rule.METADATA,
        4: Rule.DROP,  # offset_index_offset
        5: Rule.DROP,  # offset_index_length
        6: Rule.DROP,  # column_index_offset
        7: Rule.DROP,  # column_index_length
        8: Rule.ENCRYPTED,  # crypto_metadata
        9: Rule.ENCRYPTED,  # encrypted_column_metadata
        EXTENSION: Rule.DROP,
    },
    needed=3,
)
_METADATA = Layout(
    "column chunk's metadata",
    {
        9: Rule.MOVE,  # data_page_offset
        10: Rule.MOVE,  # index_page_offset
        11: Rule.MOVE,  # dictionary_page_offset
        14: Rule.DROP,  # bloom_filter_offset
        15: Rule.DROP,  # bloom_filter_length
        EXTENSION: Rule.DROP,
    },
    needed=9,
)


def move_groups(footer: bytes, pos: int, base: int, end: int, out: BinaryIO) -> tuple[int, int]:
    """Write the row groups listed at ``pos`` to ``out``, without the list's header.

    ``base`` bytes come before this shard in the new file, ``end`` is where its data ends. Back
    come the rows in the groups, and where the list ends in ``footer``.
    """
    mover = _Mover(footer, base, end, out)
    count, kind, pos = thrift.items(footer, pos)
    if count and kind != thrift.STRUCT:
        raise FooterError("its row groups are not a list of structs")
    for _ in range(count):
        pos = mover.struct(pos, _ROW_GROUP)
    return mover.rows, pos


class _Mover:
    """Copies row groups from one footer to ``out``. All methods give back where they stopped."""

    def __init__(self, footer: bytes, base: int, end: int, out: BinaryIO) -> None:
        self.footer = footer
        self.base = base
        self.end = end
        self.out = out
        self.rows = 0

    def struct(self, pos: int, layout: Layout) -> int:
        footer, write, rule_of = self.footer, self.out.write, layout.rules.get
        read = written = 0
        complete = False
        while True:
            read, kind, pos = thrift.field(footer, pos, read)
            if kind == thrift.STOP:
                break
            complete = complete or read == layout.needed
            rule = rule_of(read)
            if rule is Rule.DROP:
                pos = thrift.skip(footer, pos, kind)
                continue
            if rule is Rule.MOVE or rule is Rule.MOVE_OR_ZERO:
                write(thrift.put_field(read, thrift.I64, written))
                number, pos = _number(footer, pos, kind)
                write(self.moved(number) if rule is Rule.MOVE else self.moved_or_zero(number))
            else:
                write(thrift.put_field(read, kind, written))
                pos = self.value(pos, kind, rule)
            written = read
        if not complete:
            raise FooterError(f"a {layout.name} lacks its field {layout.needed}")
        write(b"\0")
        return pos

    def value(self, pos: int, kind: int, rule: Rule | None) -> int:
        if rule is Rule.COLUMNS:
            return self.columns(pos, kind)
        if rule is Rule.METADATA:
            if kind != thrift.STRUCT:
                raise FooterError("a column chunk's metadata is not a struct")
            return self.struct(pos, _METADATA)
        if rule is Rule.COUNT:
            rows, _ = _number(self.footer, pos, kind)
            if rows < 0:
                raise FooterError("a row group's row count is negative")
            self.rows += rows
        elif rule is Rule.ELSEWHERE:
            raise FooterError("the data of a column chunk lies in another file")
        elif rule is Rule.ENCRYPTED:
            raise FooterError("a column is encrypted")
        end = thrift.skip(self.footer, pos, kind)
        self.out.write(self.footer[pos:end])
        return end

    def columns(self, pos: int, kind: int) -> int:
        footer, write, known = self.footer, self.out.writelines, _known_chunk().match
        if kind != thrift.LIST:
            raise FooterError("a row group's columns are not a list")
        count, kind, pos = thrift.items(footer, pos)
        if count and kind != thrift.STRUCT:
            raise FooterError("a row group's columns are not a list of structs")
        self.out.write(thrift.put_items(count, thrift.STRUCT))
        for _ in range(count):
            chunk = known(footer, pos)
            if chunk is None:
                pos = self.struct(pos, _COLUMN)
                continue
            at, before, data, dictionary, after = chunk.group(1, 2, 3, 4, 5)
            write(
                (
                    b"\x26",
                    at if at == b"\0" else self.moved_or_zero(_offset(at)),
                    before,
                    self.moved(_offset(data)),
                    b"" if dictionary is None else b"\x26" + self.moved(_offset(dictionary)),
                    after,
                    b"\0\0",
                )
            )
            pos = chunk.end()
        return pos

    def moved(self, offset: int) -> bytes:
        """Where ``offset`` is in the new file. Zero, where no data can be, means that it is unset:
        so ``file_offset`` in new files, and ``dictionary_page_offset`` in some old ones."""
        if not offset:
            return b"\0"
        if not 0 < offset <= self.end:
            raise FooterError(f"it points to byte {offset}, and its data ends at {self.end}")
        return thrift.put_integer(offset + self.base)

    def moved_or_zero(self, offset: int) -> bytes:
        return self.moved(offset) if offset <= self.end else b"\0"


def _offset(varint: bytes) -> int:
    """The same as ``thrift.integer``, but faster: most of the time goes here."""
    if len(varint) > 9:
        return thrift.integer(varint, 0)[0]
    number = shift = 0
    for byte in varint:
        number |= (byte & 0x7F) << shift
        shift += 7
    return (number >> 1) ^ -(number & 1)


def _number(footer: bytes, pos: int, kind: int) -> tuple[int, int]:
    if not thrift.I16 <= kind <= thrift.I64:
        raise FooterError("an offset or a row count is not a whole number")
    return thrift.integer(footer, pos)


@cache
def _known_chunk() -> re.Pattern[bytes]:
    """A column chunk as writers write them, its fields in the order of their ids.

    The groups: ``file_offset``, what comes before the page offsets, ``data_page_offset``,
    ``dictionary_page_offset`` or None, what comes after the page offsets. Lists and strings are
    as long as is usual; a string of 128 bytes or more, a field that parquet.thrift does not have
    there, one that is refused, and one that follows a dropped one do not match.

    Each byte decides alone how to go on, but for the ids of a few optional fields in a row: a
    chunk that is not known is given up after a bounded number of tries.
    """
    number = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
    string = _one_of(_byte(n) + b".{%d}" % n for n in range(128))
    string_field = _any_field(thrift.BINARY) + string
    number_field = _any_field(thrift.I64) + number
    flag = _one_of((_any_field(thrift.TRUE), _any_field(thrift.FALSE), b""))
    histogram = _any_field(thrift.LIST) + _few(thrift.I64, number, 8)
    statistics = (
        _maybe(string_field) * 2  # max, min
        + _maybe(number_field) * 2  # null_count, distinct_count
        + _maybe(string_field) * 2  # max_value, min_value
        + flag * 2  # is_max_value_exact, is_min_value_exact
        + _maybe(number_field)  # nan_count
        + rb"\x00"
    )
    page_encoding = (_any_field(thrift.I32) + number) * 3 + rb"\x00"
    sizes = _maybe(number_field) + _maybe(histogram) * 2 + rb"\x00"
    # A field's header counts from the field before it, so it depends on those that are there:
    # (?(4)…|…) asks for the dictionary, 6 for the statistics, 7 for the page encodings.
    metadata = (
        (rb"(\x1c\x15" + number)  # 1 type
        + (rb"\x19" + _few(thrift.I32, number, 8))  # 2 encodings
        + (rb"\x19" + _few(thrift.BINARY, string, 5))  # 3 path_in_schema
        + (rb"\x15" + number)  # 4 codec
        + (rb"\x16" + number) * 3  # 5 to 7: values, uncompressed and compressed size
        + (rb"\x26)(" + number + rb")")  # 9 data_page_offset
        + _maybe(rb"\x26(" + number + rb")")  # 11 dictionary_page_offset
        + rb"("
        + _maybe(rb"((?(4)\x1c|\x3c)" + statistics + rb")")  # 12
        + _maybe(
            rb"((?(6)\x19|(?(4)\x29|\x49))" + _few(thrift.STRUCT, page_encoding, 8) + rb")"
        )  # 13
        + _maybe(rb"((?(7)\x3c|(?(6)\x4c|(?(4)\x5c|\x7c)))" + sizes + rb")")  # 16
        + rb")(?(8)|"
        + _maybe(  # 14 and 15, where no 16 follows: bloom_filter_offset and …_length
            rb"(?(7)\x16|(?(6)\x26|(?(4)\x36|\x56)))" + number + _maybe(rb"\x15" + number)
        )
        + rb")\x00"
    )
    index = number + rb"\x15" + number  # offset and length
    indexes = _one_of((rb"\x16" + index + rb"\x16" + index, rb"[\x16\x36]" + index, b""))
    return re.compile(rb"\x26(" + number + rb")" + metadata + indexes + rb"\x00", re.DOTALL)


def _byte(value: int) -> bytes:
    return rb"\x%02x" % value


def _one_of(patterns: Iterable[bytes]) -> bytes:
    return rb"(?:" + rb"|".join(patterns) + rb")"


def _maybe(pattern: bytes) -> bytes:
    return _one_of((pattern, b""))


def _any_field(kind: int) -> bytes:
    """The header of a field that is copied with its struct: its type matters, its id does not."""
    return rb"[" + b"".join(_byte(delta << 4 | kind) for delta in range(1, 16)) + rb"]"


def _few(kind: int, item: bytes, most: int) -> bytes:
    """A list of at most ``most`` elements."""
    return _one_of(_byte(n << 4 | kind) + item * n for n in range(most + 1))
