"""Row groups moved: the short way and the long way are the same way."""

from __future__ import annotations

import random
import re
import time
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckanext.bigquery_datastore.dump import parquet
from ckanext.bigquery_datastore.dump.parquet import groups, thrift
from ckanext.bigquery_datastore.errors import FooterError
from ckanext.bigquery_datastore.tests.dump import parquet_files as files
from ckanext.bigquery_datastore.tests.dump.parquet_files import FLAT, WRITERS, Settings

BASE = 123_456_789_012
NOTHING = re.compile(rb"(?!)")


class Counting:
    """The pattern of known chunks, which counts what it did and did not know."""

    def __init__(self) -> None:
        self.pattern = groups._known_chunk()
        self.known = self.unknown = 0

    def match(self, data: bytes, pos: int) -> re.Match[bytes] | None:
        found = self.pattern.match(data, pos)
        self.known += found is not None
        self.unknown += found is None
        return found


def moved(footer: bytes, at: int, end: int) -> tuple[int, int, bytes] | str:
    """What becomes of the row groups, or why nothing does."""
    out = BytesIO()
    try:
        return *groups.move_groups(footer, at, BASE, end, out), out.getvalue()
    except FooterError as err:
        return str(err)
    except IndexError:
        return "too early"


def moved_both_ways(
    monkeypatch: pytest.MonkeyPatch, footer: bytes, at: int, end: int
) -> tuple[object, object]:
    short = moved(footer, at, end)
    with monkeypatch.context() as patch:
        patch.setattr(groups, "_known_chunk", lambda: NOTHING)
        return short, moved(footer, at, end)


def groups_of(data: bytes) -> tuple[bytes, int, int]:
    shard = files.shard(data)
    at = parquet._read_head(shard.footer).groups_at
    return shard.footer, at, shard.size - len(shard.footer)


SETTINGS = (
    Settings(group_rows=20),
    Settings(group_rows=20, dictionary=False, statistics=False),
    Settings(group_rows=20, page_index=True),
    Settings(group_rows=20, bloom_filter=True, dictionary=False),
    Settings(group_rows=20, bloom_filter=True, page_index=True),
)


@pytest.mark.parametrize("how", SETTINGS, ids=repr)
@pytest.mark.parametrize("writer", WRITERS)
def test_the_short_way_leads_where_the_long_way_does(
    monkeypatch: pytest.MonkeyPatch, writer: str, how: Settings
) -> None:
    can = WRITERS[writer]
    rows = files.table({name: files.TYPES[name] for name in can.types}, 50, 1, can.nulls[-1] / 5)
    short, long = moved_both_ways(monkeypatch, *groups_of(can.write(rows, how)))
    assert short == long
    assert isinstance(short, tuple)
    assert short[0] == 50


@pytest.mark.parametrize("writer", ["pyarrow", "polars", "duckdb"])
def test_the_flat_columns_of_a_writer_go_the_short_way(
    monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    counting = Counting()
    monkeypatch.setattr(groups, "_known_chunk", lambda: counting)
    can = WRITERS[writer]
    types = {name: type_ for name, type_ in FLAT.items() if name in can.types and name != "string"}
    rows = files.table(types, 50, 1, 0.0)
    for how in SETTINGS[:3]:
        moved(*groups_of(can.write(rows, how)))
    assert counting.unknown == 0
    assert counting.known >= 3 * len(types)


def mutated(data: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(out))
        change = rng.randrange(4)
        if change == 0:
            out[at] = rng.randrange(256)
        elif change == 1:
            out[at] ^= 1 << rng.randrange(8)
        elif change == 2:
            del out[at : at + rng.randint(1, 4)]
        else:
            out[at:at] = rng.randbytes(rng.randint(1, 4))
    return bytes(out)


@pytest.mark.parametrize("writer", WRITERS)
def test_both_ways_are_the_same_on_mutated_footers(
    monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    can = WRITERS[writer]
    rows = files.table({name: files.FLAT[name] for name in ("int64", "string")}, 9, 1, 0.0)
    for how in (Settings(), Settings(page_index=True, bloom_filter=True, dictionary=False)):
        footer, at, end = groups_of(can.write(rows, how))
        for seed in range(3000):
            bad = footer[:at] + mutated(footer[at:], seed)
            short, long = moved_both_ways(monkeypatch, bad, at, end)
            assert short == long, bad.hex()


def integer_field(field: int, number: int, previous: int, kind: int = thrift.I64) -> bytes:
    return thrift.put_field(field, kind, previous) + thrift.put_integer(number)


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """Column chunks as nobody writes them: any of their fields there or not, and unknown ones."""
    numbers = st.integers(0, 2**40)
    integers = numbers.map(lambda n: (thrift.I64, thrift.put_integer(n)))
    metadata: dict[int, st.SearchStrategy[tuple[int, bytes]]] = {
        1: st.just((thrift.I32, b"\x02")),
        2: st.just((thrift.LIST, b"\x25\x00\x06")),
        3: st.just((thrift.LIST, b"\x18\x01a")),
        4: st.just((thrift.I32, b"\x02")),
        5: integers,
        6: integers,
        7: integers,
        9: integers,
    }
    optional: dict[int, st.SearchStrategy[tuple[int, bytes]]] = {
        8: st.just((thrift.LIST, b"\x1c\x18\x01k\x18\x01v\x00")),
        10: integers,
        11: integers,
        12: st.sampled_from(
            (
                (thrift.STRUCT, b"\x36\x00\x28\x01b\x18\x01a\x11\x11\x00"),
                (thrift.STRUCT, b"\x18\x01b\x18\x01a\x16\x00\x16\x08\x28\x01b\x18\x01a\x00"),
                (thrift.STRUCT, b"\x00"),
            )
        ),
        13: st.just((thrift.LIST, b"\x2c\x15\x04\x15\x00\x15\x02\x00\x15\x00\x15\x10\x15\x02\x00")),
        14: integers,
        15: st.just((thrift.I32, b"\x62")),
        16: st.sampled_from(
            ((thrift.STRUCT, b"\x16\x10\x19\x26\x02\x04\x00"), (thrift.STRUCT, b"\x00"))
        ),
        17: st.just((thrift.STRUCT, b"\x1c\x00\x00")),
        99: st.just((thrift.BINARY, b"\x03new")),
        32767: st.just((thrift.BINARY, b"\x03ext")),
    }
    inner = draw(st.fixed_dictionaries(metadata, optional=optional))
    outer = draw(
        st.fixed_dictionaries(
            {2: integers, 3: st.just((thrift.STRUCT, thrift.put_struct(inner)))},
            optional={
                4: integers,
                5: st.just((thrift.I32, b"\x02")),
                6: integers,
                7: st.just((thrift.I32, b"\x02")),
                10: st.just((thrift.BINARY, b"\x03new")),
                32767: st.just((thrift.BINARY, b"\x03ext")),
            },
        )
    )
    return thrift.put_struct(outer)


@settings(deadline=None, max_examples=400)
@given(st.lists(chunks(), min_size=1, max_size=3))
def test_both_ways_are_the_same_on_chunks_as_nobody_writes_them(them: list[bytes]) -> None:
    columns = thrift.put_items(len(them), thrift.STRUCT) + b"".join(them)
    group = thrift.put_struct({1: (thrift.LIST, columns), 3: (thrift.I64, thrift.put_integer(7))})
    with pytest.MonkeyPatch.context() as monkeypatch:
        short, long = moved_both_ways(monkeypatch, b"\x1c" + group, 0, 2**40)
    assert short == long
    assert isinstance(short, tuple)
    assert short[:2] == (7, 1 + len(group))


def one_chunk(inner: dict[int, tuple[int, bytes]], outer: dict[int, tuple[int, bytes]]) -> bytes:
    """The list of one row group of one column chunk."""
    metadata = thrift.put_struct({9: (thrift.I64, thrift.put_integer(4))} | inner)
    column = thrift.put_struct({3: (thrift.STRUCT, metadata)} | outer)
    group = {1: (thrift.LIST, b"\x1c" + column), 3: (thrift.I64, b"\x02")}
    return b"\x1c" + thrift.put_struct(group)


def number(value: int) -> tuple[int, bytes]:
    return thrift.I64, thrift.put_integer(value)


def test_every_offset_moves_and_zero_stays_zero() -> None:
    offsets = {9: number(10), 10: number(20), 11: number(0)}
    assert moved(one_chunk(offsets, {2: number(30)}), 0, 100) == (
        1,
        len(one_chunk(offsets, {2: number(30)})),
        one_chunk(
            {9: number(10 + BASE), 10: number(20 + BASE), 11: number(0)}, {2: number(30 + BASE)}
        )[1:],
    )


def test_fields_that_nobody_knows_are_copied() -> None:
    new = {99: (thrift.STRUCT, b"\x18\x02hi\x00")}
    data = one_chunk({9: number(0)} | new, {2: number(0)} | new)
    assert moved(data, 0, 100) == (1, len(data), data[1:])


def test_what_cannot_be_moved_is_left_out_and_what_follows_it_is_not() -> None:
    lost = {14: number(9), 15: number(9), 32767: (thrift.BINARY, b"\x01x")}
    kept = {16: (thrift.STRUCT, b"\x00"), 17: (thrift.STRUCT, b"\x00")}
    indexes = {4: number(9), 5: number(9), 6: number(9), 7: number(9), 32767: number(1)}
    data = one_chunk({9: number(0)} | lost | kept, indexes)
    assert moved(data, 0, 100) == (1, len(data), one_chunk({9: number(0)} | kept, {})[1:])


def test_a_column_chunks_file_offset_that_points_nowhere_becomes_zero() -> None:
    data = one_chunk({9: number(0)}, {2: number(101)})
    assert moved(data, 0, 100) == (1, len(data), one_chunk({9: number(0)}, {2: number(0)})[1:])


@pytest.mark.parametrize(
    ("inner", "outer", "says"),
    [
        ({9: number(101)}, {}, "it points to byte 101, and its data ends at 100"),
        ({11: number(2**63 - 1)}, {}, "it points to byte"),
        ({10: number(101)}, {}, "it points to byte 101"),
        ({9: number(-1)}, {}, "it points to byte -1"),
        ({9: (thrift.BINARY, b"\x00")}, {}, "not a whole number"),
        ({}, {1: (thrift.BINARY, b"\x01f")}, "in another file"),
        ({}, {8: (thrift.STRUCT, b"\x00")}, "encrypted"),
        ({}, {9: (thrift.BINARY, b"\x00")}, "encrypted"),
        ({}, {3: (thrift.I64, b"\x00")}, "not a struct"),
        ({}, {3: (thrift.STRUCT, b"\x00")}, "metadata lacks its field 9"),
    ],
)
def test_what_would_be_wrong_in_the_merged_file_is_refused(
    inner: dict[int, tuple[int, bytes]], outer: dict[int, tuple[int, bytes]], says: str
) -> None:
    answer = moved(one_chunk(inner, outer), 0, 100)
    assert isinstance(answer, str)
    assert says in answer


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x18\x00", "row groups are not a list of structs"),
        (b"\x1c\x00", "a row group lacks its field 1"),
        (b"\x1c\x19\x1c\x00\x00", "a column chunk lacks its field 3"),
        (b"\x1c\x19\x16\x00\x00", "columns are not a list of structs"),
        (b"\x1c\x16\x02\x00", "columns are not a list"),
    ],
)
def test_row_groups_of_another_shape_are_refused(data: bytes, says: str) -> None:
    answer = moved(data + bytes(9), 0, 100)
    assert isinstance(answer, str)
    assert says in answer


def test_a_chunk_that_is_nearly_known_is_given_up_in_bounded_time() -> None:
    """Everything that the pattern could read in more than one way, and at the end what it does
    not know. The steps of a regular expression cannot be counted, so that this one is about time,
    next to that of a chunk that it knows."""
    text = thrift.put_binary(b"x" * 127)
    statistics = (b"\x18" + text) * 2 + (b"\x16\x00") * 2 + (b"\x18" + text) * 2 + b"\x11\x11\x00"
    encodings = b"\x8c" + b"\x15\x00\x15\x00\x15\x00\x00" * 8
    sizes = b"\x16\x00\x19\x86" + b"\x00" * 8 + b"\x19\x86" + b"\x00" * 8 + b"\x00"
    known = (
        b"\x26\x00\x1c\x15\x00\x19\x85" + b"\x00" * 8 + b"\x19\x58" + text * 5
        + b"\x15\x00\x16\x00\x16\x00\x16\x00\x26\x00\x26\x00"
        + b"\x1c" + statistics + b"\x19" + encodings + b"\x3c" + sizes + b"\x00"
    )  # fmt: skip
    match = groups._known_chunk().match
    assert match(known + b"\x00")

    def seconds(data: bytes) -> float:
        start = time.perf_counter()
        for _ in range(20):
            match(data)
        return time.perf_counter() - start

    knows = min(seconds(known + b"\x00") for _ in range(5))
    gives_up = min(seconds(known + b"\x18\x00\x00") for _ in range(5))
    assert gives_up < 100 * knows
