"""Parquet footers written by hand, for what no writer writes."""

from __future__ import annotations

from ckanext.bigquery_datastore.dump.parquet import thrift


def ended(data: bytes, magic: bytes = b"PAR1") -> bytes:
    """Thrift as the footer of a shard."""
    return data + len(data).to_bytes(4, "little") + magic


def schema_of(*names: str) -> tuple[int, bytes]:
    root = {4: (thrift.BINARY, b"\x01s"), 5: (thrift.I32, thrift.put_integer(len(names)))}
    columns = [
        {
            1: (thrift.I32, thrift.put_integer(6)),
            4: (thrift.BINARY, thrift.put_binary(name.encode())),
        }
        for name in names
    ]
    return thrift.LIST, thrift.put_items(len(names) + 1, thrift.STRUCT) + b"".join(
        map(thrift.put_struct, (root, *columns))
    )


def footer(**fields: tuple[int, bytes] | None) -> bytes:
    """A footer without row groups, with the fields given (``f4=…``) or, where None, without."""
    default = {
        1: (thrift.I32, b"\x02"),
        2: schema_of("a"),
        3: (thrift.I64, b"\x00"),
        4: (thrift.LIST, b"\x0c"),
    }
    all_fields = default | {int(name[1:]): value for name, value in fields.items()}
    return ended(thrift.put_struct({nr: value for nr, value in all_fields.items() if value}))
