"""One Parquet file out of many: the footer that follows the shards when they lie in a row.

A Parquet reader finds everything through the footer at the end. ``merge`` writes one in which the
row groups of all shards stand where the concatenation has put their data, so that

    shard 0, shard 1, … shard n, merge([shard 0, shard 1, … shard n])

is one Parquet file. The shards' own footers stay inside, as bytes that nobody points to. Nothing
here reads or writes anything: the caller fetches the ends of the shards and stores the result.

Why no library does it: they would have to be installed in every CKAN (pyarrow 170 MB; fastparquet
with pandas and numpy), they cannot move offsets (pyarrow), or they lose what they do not know and
hold all of it as objects. Seconds for the 100,000 column chunks of 1,000 shards, best of several:

    this module                    0.7  to read and write, in 2 times the footers' memory
    fastparquet's C code           0.8  to read and write, 20 times; moving the offsets not counted
    thrift, with its C code        0.6  only to read
    thriftpy2                      6.1  only to read
    thrift, in Python              9.3  only to read

What makes it fast is that nothing is built: the bytes between the offsets are copied as they are
(see ``groups``). A chunk in a shape that is not common takes six times as long.

Source of the fields: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from ckanext.bigquery_datastore.dump.parquet import geo, thrift
from ckanext.bigquery_datastore.dump.parquet import schema as schemas
from ckanext.bigquery_datastore.dump.parquet.groups import EXTENSION, move_groups
from ckanext.bigquery_datastore.errors import FooterError

# Enough for a shard of some 400 column chunks; a larger footer takes a second request.
TAIL_GUESS = 64 * 1024

# The key under which a merged file names the metadata in which its shards differ: a JSON list.
CONFLICTS = "ckanext.bigquery_datastore.differing_metadata"

_MAGIC, _ENCRYPTED_MAGIC = b"PAR1", b"PARE"
_ENDING = 8  # the footer's length, and the magic
_LONGEST_FOOTER = 2**32 - 1
_LARGEST_NUMBER = 2**63 - 1
_MOST_KEYS = 10_000

# FileMetaData
_VERSION, _SCHEMA, _ROWS, _GROUPS, _KEY_VALUES, _CREATED_BY, _ORDERS, _ENCRYPTION, _SIGNING_KEY = (
    range(1, 10)
)
# KeyValue
_KEY, _VALUE = 1, 2
# The key of pyarrow's and Polars' own schema, which overrules Parquet's
_ARROW_SCHEMA = b"ARROW:schema"


@dataclass(frozen=True)
class Shard:
    """One object of an export.

    ``size`` is that of the whole object in bytes, ``footer`` its last ``footer_length`` bytes.
    """

    size: int
    footer: bytes


def footer_length(tail: bytes) -> int:
    """How many bytes the footer has that a shard ends with, the last eight included.

    ``tail`` is the end of the shard, of at least eight bytes. Whether the shard is that long at
    all is for ``merge`` to see.
    """
    with _refusing("A shard"):
        return _footer_length(tail)


def shard_rows(footer: bytes) -> int:
    """How many rows a shard has, by its footer."""
    with _refusing("A shard"):
        return _read_head(footer).rows


def merge(
    shards: Sequence[Shard],
    metadata: Mapping[str, str] | None = None,
    *,
    utc_columns: Collection[str] = (),
    json_columns: Collection[str] = (),
) -> bytes:
    """The bytes that make one Parquet file of the ``shards``, laid end to end in this order.

    The schema, the column orders and the writer's name are those of the first shard, and so is
    the key/value metadata where shards differ; the keys in which they do are named under
    ``CONFLICTS``. ``metadata`` is added, and wins. ``utc_columns`` and ``json_columns`` (dotted
    paths in the table, see ``schemas.mark``) are marked as timestamps in UTC and as JSON.
    Where any of these is given, Arrow's own copy of the schema, which would hide it from pyarrow
    and Polars, is left out.

    Raises ``FooterError``, in one sentence, for shards that are not Parquet, are encrypted, do
    not fit together or contradict themselves.
    """
    if not shards:
        raise FooterError("There is no shard to merge.")
    heads = _read_heads(shards)
    with _refusing("The shards' schema"):
        schema = schemas.mark(heads[0].schema, utc_columns, json_columns)
    out = BytesIO()
    _put_head(out, schema, heads)
    rest = _move_all_groups(shards, heads, out)
    if metadata or schema != heads[0].schema:
        rest.key_values.pop(_ARROW_SCHEMA, None)
    rest.put(out, metadata or {})
    if out.tell() > _LONGEST_FOOTER:
        raise FooterError("The merged footer would be longer than a Parquet file can say (4 GiB).")
    out.write(out.tell().to_bytes(4, "little") + _MAGIC)
    return out.getvalue()


@dataclass(frozen=True)
class _Head:
    """What a footer says before its row groups, and where their list is."""

    version: int
    schema: bytes
    rows: int
    groups: int
    groups_at: int


def _read_heads(shards: Sequence[Shard]) -> list[_Head]:
    heads: list[_Head] = []
    for nth, shard in enumerate(shards):
        with _refusing(f"Shard {nth}"):
            head = _read_head(shard.footer, heads[0].schema if heads else b"")
            if shard.size < len(_MAGIC) + len(shard.footer):
                raise FooterError("it is smaller than its own footer")
            if heads and head.schema != heads[0].schema:
                name = schemas.first_difference(heads[0].schema, head.schema)
                raise FooterError(f"its schema is not that of shard 0, from the column {name!r} on")
        heads.append(head)
    return heads


def _read_head(footer: bytes, likely_schema: bytes = b"") -> _Head:
    if _footer_length(footer) != len(footer):
        raise FooterError("its footer is not as long as it says")
    schema, numbers, field_id, pos = b"", {_VERSION: 1}, 0, 0
    while True:
        field_id, kind, pos = thrift.field(footer, pos, field_id)
        if field_id in (_VERSION, _ROWS) and kind in (thrift.I32, thrift.I64):
            numbers[field_id], pos = thrift.integer(footer, pos)
        elif field_id == _SCHEMA and kind == thrift.LIST:
            if likely_schema and footer.startswith(likely_schema, pos):
                schema = likely_schema
            else:
                schema = footer[pos : thrift.skip(footer, pos, kind)]
            pos += len(schema)
        else:
            break
    if field_id != _GROUPS or kind != thrift.LIST or not schema or _ROWS not in numbers:
        raise FooterError("its footer does not begin with the schema, row count and row groups")
    if numbers[_ROWS] < 0:
        raise FooterError("its row count is negative")
    groups, _, _ = thrift.items(footer, pos)
    return _Head(numbers[_VERSION], schema, numbers[_ROWS], groups, pos)


def _footer_length(tail: bytes) -> int:
    if tail.endswith(_ENCRYPTED_MAGIC):
        raise FooterError("its footer is encrypted")
    if len(tail) < _ENDING or not tail.endswith(_MAGIC):
        raise FooterError("it is not a Parquet file")
    return int.from_bytes(tail[-_ENDING : -len(_MAGIC)], "little") + _ENDING


def _put_head(out: BytesIO, schema: bytes, heads: Sequence[_Head]) -> None:
    rows = sum(head.rows for head in heads)
    if rows > _LARGEST_NUMBER:
        raise FooterError("The shards have more rows than a Parquet file can count.")
    out.write(thrift.put_field(_VERSION, thrift.I32, 0))
    out.write(thrift.put_integer(max(head.version for head in heads)))
    out.write(thrift.put_field(_SCHEMA, thrift.LIST, _VERSION) + schema)
    out.write(thrift.put_field(_ROWS, thrift.I64, _SCHEMA) + thrift.put_integer(rows))
    out.write(thrift.put_field(_GROUPS, thrift.LIST, _ROWS))
    out.write(thrift.put_items(sum(head.groups for head in heads), thrift.STRUCT))


def _move_all_groups(shards: Sequence[Shard], heads: Sequence[_Head], out: BytesIO) -> _Rest:
    rest = _Rest()
    base = 0
    for nth, (shard, head) in enumerate(zip(shards, heads, strict=True)):
        with _refusing(f"Shard {nth}"):
            data_end = shard.size - len(shard.footer)
            if base + data_end > _LARGEST_NUMBER:
                raise FooterError("it lies further back than a Parquet file can say")
            rows, pos = move_groups(shard.footer, head.groups_at, base, data_end, out)
            if rows != head.rows:
                raise FooterError(f"it says {head.rows} rows, and its row groups say {rows}")
            fields, pos = thrift.struct(shard.footer, pos, _GROUPS)
            if pos != len(shard.footer) - _ENDING:
                raise FooterError("its footer is not as long as it says")
            rest.add(fields)
        base += shard.size
    return rest


@dataclass
class _Rest:
    """What comes after the row groups, gathered from one shard after the other."""

    fields: thrift.Fields | None = None
    key_values: dict[bytes, bytes] = field(default_factory=dict)
    conflicts: set[bytes] = field(default_factory=set)
    places: list[bytes | None] = field(default_factory=list)

    def add(self, fields: thrift.Fields) -> None:
        if _ENCRYPTION in fields or _SIGNING_KEY in fields:
            raise FooterError("it is encrypted")
        if not fields.keys().isdisjoint((_VERSION, _SCHEMA, _ROWS, _GROUPS)):
            raise FooterError("its footer says the same thing twice")
        pairs = _key_values(fields)
        self.places.append(_value(pairs[geo.KEY]) if geo.KEY in pairs else None)
        if self.fields is None:
            self.fields, self.key_values = fields, pairs
            return
        if fields.get(_ORDERS) != self.fields.get(_ORDERS):
            raise FooterError("its columns are not ordered like those of shard 0")
        if fields.get(_KEY_VALUES) != self.fields.get(_KEY_VALUES):
            ours, theirs = self.key_values.items(), pairs.items()
            self.conflicts.update(key for key, _ in ours ^ theirs if key != geo.KEY)

    def put(self, out: BytesIO, metadata: Mapping[str, str]) -> None:
        """Write it, and the end of the footer's Thrift."""
        added = dict(metadata)
        if any(place is not None for place in self.places):
            place = geo.merged(self.places)
            if place is None:
                self.key_values.pop(geo.KEY, None)
                self.conflicts.add(geo.KEY)
            else:
                added[geo.KEY.decode()] = place.decode()
        if self.conflicts:
            names = sorted(key.decode(errors="replace") for key in self.conflicts)
            added.setdefault(CONFLICTS, json.dumps(names, ensure_ascii=False))
        for name, value in added.items():
            key = name.encode()
            self.key_values[key] = thrift.put_struct(
                {
                    _KEY: (thrift.BINARY, thrift.put_binary(key)),
                    _VALUE: (thrift.BINARY, thrift.put_binary(value.encode())),
                }
            )
        fields = dict(self.fields or {})
        fields.pop(EXTENSION, None)
        fields.pop(_KEY_VALUES, None)
        if self.key_values:
            header = thrift.put_items(len(self.key_values), thrift.STRUCT)
            fields[_KEY_VALUES] = thrift.LIST, b"".join((header, *self.key_values.values()))
        out.write(thrift.put_struct(fields, _GROUPS))


def _key_values(fields: thrift.Fields) -> dict[bytes, bytes]:
    """The key/value metadata: each as it is in the footer, by its key. Of two, the first counts."""
    if _KEY_VALUES not in fields:
        return {}
    list_kind, data = fields[_KEY_VALUES]
    count, kind, pos = thrift.items(data, 0)
    if list_kind != thrift.LIST or (count and kind != thrift.STRUCT):
        raise FooterError("its key/value metadata is not a list of pairs")
    if count > _MOST_KEYS:
        raise FooterError(f"it has more than {_MOST_KEYS} key/value pairs")
    pairs: dict[bytes, bytes] = {}
    for _ in range(count):
        pair, end = thrift.struct(data, pos)
        _, key = pair.get(_KEY, (thrift.BINARY, b"\0"))
        pairs.setdefault(thrift.binary(key, 0)[0], data[pos:end])
        pos = end
    return pairs


def _value(pair: bytes) -> bytes:
    """The value in a pair of key/value metadata, empty where it has none."""
    fields, _ = thrift.struct(pair, 0)
    _, value = fields.get(_VALUE, (thrift.BINARY, b"\0"))
    return thrift.binary(value, 0)[0]


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Say in a ``FooterError`` what it is that cannot be merged; early ends are one, too."""
    try:
        yield
    except IndexError as err:
        raise FooterError(f"{what} cannot be merged: its footer ends too early.") from err
    except FooterError as err:
        raise FooterError(f"{what} cannot be merged: {err}.") from err
