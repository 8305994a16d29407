"""What cannot become one Parquet file is refused, in one sentence that says which shard and why."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from ckanext.bigquery_datastore.dump import parquet
from ckanext.bigquery_datastore.dump.parquet import Shard, thrift
from ckanext.bigquery_datastore.errors import FooterError
from ckanext.bigquery_datastore.tests.dump import parquet_files as files
from ckanext.bigquery_datastore.tests.dump.parquet_files import Settings
from ckanext.bigquery_datastore.tests.dump.parquet_footers import ended, footer


def refused(*shards: Shard, **kwargs: Any) -> str:
    with pytest.raises(FooterError) as caught:
        parquet.merge(shards, **kwargs)
    return str(caught.value)


def lone(data: bytes) -> Shard:
    return Shard(len(data) + 100, data)


GOOD = lone(footer())


def test_the_footer_that_the_others_are_made_of_is_fine() -> None:
    assert parquet.merge([GOOD]) == GOOD.footer
    assert parquet.merge([GOOD, GOOD]) == GOOD.footer


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b"", "it is not a Parquet file"),
        (b"PAR1", "it is not a Parquet file"),
        (b"a,b\r\n1,2\r\n", "it is not a Parquet file"),
        (ended(b"x" * 50, b"PARE"), "its footer is encrypted"),
        (footer()[1:], "its footer is not as long as it says"),
        (b"x" + footer(), "its footer is not as long as it says"),
        (ended(footer()[:-8] + b"\0"), "its footer is not as long as it says"),
        (ended(footer()[:-9]), "its footer is not as long as it says"),
        (ended(b""), "does not begin with"),
        (ended(b"\x15"), "does not begin with"),
        (ended(b"\x15\x02\x19\xfc"), "not what Thrift's compact protocol allows"),
        (ended(b"\x15\x02\x19\x2c\x48\x7fab"), "its footer ends too early"),
        (ended(b"\x1c" * 1000), "does not begin with"),
        (footer(f2=(thrift.LIST, b"\x1c" + b"\x1c" * 1000)), "nested more than 32 deep"),
        (footer(f5=(thrift.STRUCT, b"\x1c" * 1000)), "nested more than 32 deep"),
        (footer(f4=(thrift.LIST, b"\x1c\x9c" + b"\x1c" * 1000)), "nested more than 32 deep"),
        (footer(f2=None), "does not begin with the schema, row count and row groups"),
        (footer(f3=None), "does not begin with the schema, row count and row groups"),
        (footer(f4=None), "does not begin with the schema, row count and row groups"),
        (footer(f3=(thrift.I64, b"\x01")), "its row count is negative"),
        (footer(f3=(thrift.I64, b"\x02")), "it says 1 rows, and its row groups say 0"),
        (footer(f4=(thrift.LIST, b"\xfc\xff\xff\xff\xff\x0f")), "longer than itself"),
        (footer(f5=(thrift.LIST, b"\xfc\xff\xff\xff\xff\x0f")), "longer than itself"),
        (footer(f5=(thrift.LIST, b"\x15\x02")), "its key/value metadata is not a list of pairs"),
        (footer(f8=(thrift.STRUCT, b"\x1c\x00\x00")), "it is encrypted"),
        (footer(f9=(thrift.BINARY, b"\x03key")), "it is encrypted"),
        (ended(footer()[:-9] + b"\x09\x06\x0c\x00"), "says the same thing twice"),
    ],
)
def test_a_shard_that_cannot_be_merged_is_named(bad: bytes, says: str) -> None:
    for shards in ([lone(bad)], [GOOD, lone(bad)]):
        with pytest.raises(FooterError) as caught:
            parquet.merge(shards)
        message = str(caught.value)
        assert message.startswith(f"Shard {len(shards) - 1} cannot be merged: ")
        assert says in message
        assert message.count(".") == 1
        assert message.endswith(".")


def test_no_shards_are_refused() -> None:
    assert refused() == "There is no shard to merge."


def test_shards_that_are_smaller_than_their_footers_are_refused() -> None:
    assert refused(Shard(len(GOOD.footer) + 3, GOOD.footer)) == (
        "Shard 0 cannot be merged: it is smaller than its own footer."
    )


def test_rows_and_bytes_that_no_file_can_count_are_refused() -> None:
    rows = thrift.put_integer(2**63 - 1)
    group = thrift.put_struct({1: (thrift.LIST, b"\x0c"), 3: (thrift.I64, rows)})
    full = lone(footer(f3=(thrift.I64, rows), f4=(thrift.LIST, b"\x1c" + group)))
    assert "more rows than a Parquet file can count" in refused(full, full)
    assert "further back than a Parquet file can say" in refused(Shard(2**63, GOOD.footer), GOOD)


@pytest.mark.parametrize(
    ("types", "column"),
    [
        ({"a": pa.int64(), "b": pa.binary()}, "b"),
        ({"a": pa.int64(), "c": pa.string()}, "b"),
        ({"b": pa.string(), "a": pa.int64()}, "a"),
        ({"a": pa.int32(), "b": pa.string()}, "a"),
    ],
)
def test_shards_of_different_columns_are_refused(
    types: dict[str, pa.DataType], column: str
) -> None:
    first = files.by_pyarrow(files.table({"a": pa.int64(), "b": pa.string()}, 3, 1), Settings())
    other = files.by_pyarrow(files.table(types, 3, 1), Settings())
    says = refused(files.shard(first), files.shard(first), files.shard(other))
    assert says.startswith("Shard 2 cannot be merged: its schema is not that of shard 0, from the")
    assert says.endswith(f" column '{column}' on.")


def test_shards_of_differing_nullability_are_refused() -> None:
    needed = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    rows = pa.table({"a": [1, 2]})
    first = files.by_pyarrow(rows, Settings())
    other = files.by_pyarrow(rows.cast(needed), Settings())
    assert "from the column 'a' on" in refused(files.shard(first), files.shard(other))


def test_shards_of_differing_column_order_are_refused() -> None:
    other = lone(footer(f7=(thrift.LIST, b"\x1c\x2c\x00\x00")))
    assert "its columns are not ordered like those of shard 0" in refused(GOOD, other)


class OpenKms(pe.KmsClient):
    """Keeps its keys as who trusts everybody."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


@pytest.mark.parametrize(
    ("plaintext_footer", "says"), [(False, "its footer is encrypted"), (True, "encrypted")]
)
def test_encrypted_files_are_refused(plaintext_footer: bool, says: str) -> None:
    config = pe.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["b"]}, plaintext_footer=plaintext_footer
    )
    factory = pe.CryptoFactory(lambda _: OpenKms())
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
    out = BytesIO()
    pq.write_table(pa.table({"a": [1], "b": [2]}), out, encryption_properties=properties)
    data = out.getvalue()
    if plaintext_footer:
        assert says in refused(files.shard(data))
    else:
        with pytest.raises(FooterError, match=says):
            parquet.footer_length(data[-8:])


def test_a_length_that_is_told_of_what_is_not_parquet_is_refused() -> None:
    for tail in (b"", b"PAR1", b"1,2,3,4,5\r\n", b"PK\x05\x06" + bytes(18)):
        with pytest.raises(FooterError, match=r"^A shard cannot be merged: it is not a Parquet"):
            parquet.footer_length(tail)
