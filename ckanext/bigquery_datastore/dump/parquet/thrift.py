"""Thrift's compact protocol, read without a schema: what is not understood can still be copied.

Positions are offsets into one ``bytes``; every function takes where a thing starts and gives back
where it ends. Nothing is built but the numbers asked for, so reading costs neither memory nor more
than a few looks at each byte, however hostile the bytes are. What cannot be right is a
``FooterError``; bytes that end too early are an ``IndexError``, which the caller turns into one
(a test before every look would cost a third of the speed).

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from ckanext.bigquery_datastore.errors import FooterError

STOP, TRUE, FALSE, I8, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(14)

# Of a struct that is read as a whole: the type and the bytes of each field, by its id.
Fields = dict[int, tuple[int, bytes]]

# Parquet's own structures are seven deep, and the largest has seventeen fields.
MAX_DEPTH = 32
MOST_FIELDS = 1_000

_ONE_BYTE = tuple(bytes([n]) for n in range(256))
_LONGEST_VARINT = 10
_NOT_THRIFT = "it is not what Thrift's compact protocol allows"


def uvarint(data: bytes, pos: int) -> tuple[int, int]:
    """The unsigned number of at most 64 bits at ``pos``, and where it ends."""
    byte = data[pos]
    if byte < 0x80:
        return byte, pos + 1
    number = byte & 0x7F
    for nth in range(1, _LONGEST_VARINT):
        byte = data[pos + nth]
        number |= (byte & 0x7F) << 7 * nth
        if byte < 0x80:
            if number >> 64:
                break
            return number, pos + nth + 1
    raise FooterError("it holds a number of more than 64 bits")


def integer(data: bytes, pos: int) -> tuple[int, int]:
    """The signed number (i16, i32 or i64: all are zigzag varints) at ``pos``, and where it ends."""
    number, pos = uvarint(data, pos)
    return (number >> 1) ^ -(number & 1), pos


def binary(data: bytes, pos: int) -> tuple[bytes, int]:
    """The string at ``pos``, and where it ends."""
    length, pos = uvarint(data, pos)
    if length > len(data) - pos:
        raise FooterError("it holds a string that is longer than itself")
    return data[pos : pos + length], pos + length


def field(data: bytes, pos: int, previous: int) -> tuple[int, int, int]:
    """Id and type of the field whose header is at ``pos``, and where its value starts.

    ``previous`` is the id of the field before it in the same struct, 0 for the first. The end of
    the struct has the type ``STOP``.
    """
    header = data[pos]
    kind = header & 0x0F
    if not header:
        return previous, STOP, pos + 1
    if not kind:
        raise FooterError(_NOT_THRIFT)
    if header >> 4:
        return previous + (header >> 4), kind, pos + 1
    number, pos = integer(data, pos + 1)
    return number, kind, pos


def items(data: bytes, pos: int) -> tuple[int, int, int]:
    """How many elements the list or set at ``pos`` has, their type, and where the first starts."""
    header = data[pos]
    count, pos = header >> 4, pos + 1
    if count == 15:
        count, pos = uvarint(data, pos)
    # No element is smaller than a byte.
    if count > len(data) - pos:
        raise FooterError("it holds a list that is longer than itself")
    return count, header & 0x0F, pos


def struct(data: bytes, pos: int, previous: int = 0) -> tuple[Fields, int]:
    """The fields of the struct at ``pos``, and where it ends.

    ``pos`` may also be behind the field ``previous`` of the struct; then these are the others.
    """
    fields: Fields = {}
    while True:
        previous, kind, pos = field(data, pos, previous)
        if kind == STOP:
            return fields, pos
        if len(fields) == MOST_FIELDS:
            raise FooterError(f"it holds a struct of more than {MOST_FIELDS} fields")
        end = skip(data, pos, kind)
        fields[previous] = kind, data[pos:end]
        pos = end


def skip(data: bytes, pos: int, kind: int, depth: int = MAX_DEPTH) -> int:
    """Where the field value of type ``kind`` that starts at ``pos`` ends.

    The end may lie behind the data, when the last string is longer than what is left.
    """
    if not depth:
        raise FooterError(f"its fields are nested more than {MAX_DEPTH} deep")
    if kind == STRUCT:
        return _skip_struct(data, pos, depth)
    if I16 <= kind <= I64:
        return _skip_varint(data, pos)
    if kind == BINARY:
        length, pos = uvarint(data, pos)
        return pos + length
    if kind in (LIST, SET):
        count, kind, pos = items(data, pos)
        return _skip_elements(data, pos, count, kind, depth)
    if kind in (TRUE, FALSE):
        return pos  # a field's boolean is in its header
    if kind == I8:
        return pos + 1
    if kind == DOUBLE:
        return pos + 8
    if kind == UUID:
        return pos + 16
    if kind == MAP:
        return _skip_map(data, pos, depth)
    raise FooterError(_NOT_THRIFT)


def _skip_struct(data: bytes, pos: int, depth: int) -> int:
    while True:
        header = data[pos]
        pos += 1
        if not header:
            return pos
        if header < 0x10:
            pos = _skip_varint(data, pos)
        kind = header & 0x0F
        if I16 <= kind <= I64 and data[pos] < 0x80:
            pos += 1
        elif kind == BINARY and data[pos] < 0x80:
            pos += 1 + data[pos]
        else:
            pos = skip(data, pos, kind, depth - 1)


def _skip_varint(data: bytes, pos: int) -> int:
    start = pos
    while data[pos] > 0x7F:
        pos += 1
    if pos - start >= _LONGEST_VARINT:
        raise FooterError("it holds a number of more than 64 bits")
    return pos + 1


def _skip_elements(data: bytes, pos: int, count: int, kind: int, depth: int) -> int:
    if kind in (TRUE, FALSE):
        return pos + count  # an element's boolean is a byte of its own
    for _ in range(count):
        pos = skip(data, pos, kind, depth - 1)
    return pos


def _skip_map(data: bytes, pos: int, depth: int) -> int:
    count, pos = uvarint(data, pos)
    if not count:
        return pos
    if count > len(data) - pos:
        raise FooterError("it holds a map that is longer than itself")
    kinds, pos = data[pos], pos + 1
    for _ in range(count):
        pos = _skip_elements(data, pos, 1, kinds >> 4, depth)
        pos = _skip_elements(data, pos, 1, kinds & 0x0F, depth)
    return pos


def put_uvarint(number: int) -> bytes:
    """``number`` (not negative) as an unsigned varint."""
    if number < 0x80:
        return _ONE_BYTE[number]
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def put_integer(number: int) -> bytes:
    """``number`` (a signed number of 64 bits) as a zigzag varint."""
    return put_uvarint(number << 1 if number >= 0 else ~number << 1 | 1)


def put_binary(value: bytes) -> bytes:
    """A string with its length before it."""
    return put_uvarint(len(value)) + value


def put_field(field_id: int, kind: int, previous: int) -> bytes:
    """The header of a field that follows the field ``previous`` (0: is the struct's first)."""
    delta = field_id - previous
    if 0 < delta < 16:
        return _ONE_BYTE[delta << 4 | kind]
    return _ONE_BYTE[kind] + put_integer(field_id)


def put_struct(fields: Fields, previous: int = 0) -> bytes:
    """The struct of these fields, or what is left of it after the field ``previous``."""
    out = bytearray()
    for field_id, (kind, value) in sorted(fields.items()):
        out += put_field(field_id, kind, previous) + value
        previous = field_id
    return bytes(out) + b"\0"


def put_items(count: int, kind: int) -> bytes:
    """The header of a list of ``count`` elements."""
    if count < 15:
        return _ONE_BYTE[count << 4 | kind]
    return _ONE_BYTE[0xF0 | kind] + put_uvarint(count)
