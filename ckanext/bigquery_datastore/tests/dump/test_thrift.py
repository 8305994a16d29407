"""Thrift's compact protocol: numbers, strings, and structs that nobody knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckanext.bigquery_datastore.dump.parquet import thrift
from ckanext.bigquery_datastore.errors import FooterError


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "00"),
        (-1, "01"),
        (1, "02"),
        (63, "7e"),
        (64, "8001"),
        (-64, "7f"),
        (2**31, "8080808010"),
        (2**63 - 1, "feffffffffffffffff01"),
        (-(2**63), "ffffffffffffffffff01"),
    ],
)
def test_a_signed_number_is_a_zigzag_varint(number: int, written: str) -> None:
    assert thrift.put_integer(number).hex() == written
    assert thrift.integer(bytes.fromhex(written), 0) == (number, len(written) // 2)


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_a_number_is_read_back_wherever_it_lies(number: int, before: bytes, after: bytes) -> None:
    written = thrift.put_integer(number)
    data = before + written + after
    end = len(before) + len(written)
    assert thrift.integer(data, len(before)) == (number, end)
    assert thrift.skip(data, len(before), thrift.I64) == end


@given(st.binary(max_size=300))
def test_a_string_is_read_back(value: bytes) -> None:
    written = thrift.put_binary(value)
    assert thrift.binary(written + b"x", 0) == (value, len(written))
    assert thrift.skip(written + b"x", 0, thrift.BINARY) == len(written)


@given(st.integers(-(2**15), 2**15 - 1), st.integers(-(2**15), 2**15 - 1))
def test_a_field_is_read_back_whatever_comes_before_it(field: int, previous: int) -> None:
    header = thrift.put_field(field, thrift.MAP, previous)
    assert thrift.field(header, 0, previous) == (field, thrift.MAP, len(header))
    assert (len(header) == 1) == (0 < field - previous < 16)


@given(st.integers(0, 100_000))
def test_the_header_of_a_list_is_read_back(count: int) -> None:
    header = thrift.put_items(count, thrift.I32)
    assert thrift.items(header + bytes(count), 0) == (count, thrift.I32, len(header))


VARINTS = st.integers(-(2**63), 2**63 - 1).map(thrift.put_integer)
SCALARS: dict[int, st.SearchStrategy[bytes]] = {
    thrift.I8: st.binary(min_size=1, max_size=1),
    thrift.I16: VARINTS,
    thrift.I32: VARINTS,
    thrift.I64: VARINTS,
    thrift.DOUBLE: st.binary(min_size=8, max_size=8),
    thrift.BINARY: st.binary(max_size=200).map(thrift.put_binary),
    thrift.UUID: st.binary(min_size=16, max_size=16),
}
Value = tuple[int, bytes]


def scalars() -> st.SearchStrategy[Value]:
    return st.one_of(
        *(st.tuples(st.just(kind), values) for kind, values in SCALARS.items()),
    )


def lists(of: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    """Lists and sets of one element, repeated: the simplest way to have all of one type."""
    return st.tuples(st.sampled_from((thrift.LIST, thrift.SET)), of, st.integers(0, 20)).map(
        lambda it: (it[0], thrift.put_items(it[2], it[1][0]) + it[1][1] * it[2])
    )


def maps(of: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    def put(key: Value, value: Value, count: int) -> Value:
        kinds = bytes([key[0] << 4 | value[0]]) if count else b""
        return thrift.MAP, thrift.put_uvarint(count) + kinds + (key[1] + value[1]) * count

    return st.builds(put, of, of, st.integers(0, 3))


def structs(of: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    ids = st.integers(-100, 32767)
    flags = st.sampled_from(((thrift.TRUE, b""), (thrift.FALSE, b"")))
    return st.dictionaries(ids, st.one_of(of, flags), max_size=5).map(
        lambda fields: (thrift.STRUCT, thrift.put_struct(fields))
    )


VALUES = st.recursive(
    scalars(), lambda of: st.one_of(lists(of), maps(of), structs(of)), max_leaves=10
)


@given(VALUES, st.binary(max_size=5))
def test_any_value_is_passed_over_to_its_very_end(value: Value, after: bytes) -> None:
    kind, data = value
    assert thrift.skip(data + after, 0, kind) == len(data)


@given(st.dictionaries(st.integers(1, 32767), VALUES, max_size=8), st.binary(max_size=5))
def test_a_struct_is_written_as_it_was_read(fields: thrift.Fields, after: bytes) -> None:
    data = thrift.put_struct(fields)
    assert thrift.struct(data + after, 0) == (fields, len(data))


def test_booleans_in_a_list_are_a_byte_each() -> None:
    assert thrift.skip(b"\x31\x01\x02\x01rest", 0, thrift.LIST) == 4


def test_a_map_without_entries_is_one_byte() -> None:
    assert thrift.skip(b"\x00rest", 0, thrift.MAP) == 1


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        (thrift.STRUCT, b"\x1c" * 100, "nested"),
        (thrift.LIST, b"\x19" * 100, "nested"),
        (thrift.SET, b"\x1a" * 100, "nested"),
        (thrift.MAP, b"\x01\xbb" * 100, "nested"),
        (thrift.LIST, b"\xf6\xff\xff\xff\xff\x0f", "longer than itself"),
        (thrift.MAP, b"\xff\xff\xff\xff\x0f\x66", "longer than itself"),
        (thrift.I64, b"\xff" * 10 + b"\x01", "64 bits"),
        (thrift.BINARY, b"\xff" * 10 + b"\x01", "64 bits"),
        (thrift.BINARY, b"\xff" * 9 + b"\x7f", "64 bits"),
        (thrift.STRUCT, b"\x10\x00", "not what Thrift"),
        (thrift.STRUCT, b"\x1e\x00", "not what Thrift"),
        (thrift.LIST, b"\x1f\x00", "not what Thrift"),
    ],
)
def test_what_cannot_be_right_is_refused(kind: int, data: bytes, says: str) -> None:
    with pytest.raises(FooterError, match=says):
        thrift.skip(data, 0, kind)


def test_a_struct_of_ever_more_fields_is_not_read_as_a_whole() -> None:
    with pytest.raises(FooterError, match="more than 1000 fields"):
        thrift.struct(b"\x11" * 2000 + b"\0", 0)


def test_a_string_that_is_longer_than_the_data_is_refused() -> None:
    with pytest.raises(FooterError, match="longer than itself"):
        thrift.binary(b"\x05abcd", 0)


@pytest.mark.parametrize("data", [b"", b"\x1c", b"\x16", b"\x16\x80", b"\x18\x05abc", b"\x19"])
def test_bytes_that_end_too_early_are_an_index_error(data: bytes) -> None:
    with pytest.raises(IndexError):
        thrift.skip(data, 0, thrift.STRUCT)
