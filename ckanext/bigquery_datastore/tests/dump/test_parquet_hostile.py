"""Whatever the bytes of a footer are: it is merged or refused, and costs no more than its size.

``PARQUET_HOSTILE`` says how many hostile footers of each kind are tried.
"""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckanext.bigquery_datastore.dump import parquet
from ckanext.bigquery_datastore.dump.parquet import Shard, thrift
from ckanext.bigquery_datastore.errors import FooterError
from ckanext.bigquery_datastore.tests.dump import parquet_files as files
from ckanext.bigquery_datastore.tests.dump.parquet_files import WRITERS, Settings
from ckanext.bigquery_datastore.tests.dump.parquet_footers import ended, footer, schema_of

HOSTILE = int(os.environ.get("PARQUET_HOSTILE", "1000"))

# A look at a byte of the footer. Its schema may be read three times (its end, the marks, what
# differs), everything else once; a slice counts as one look, but is of bytes looked at before.
MOST_LOOKS_A_BYTE = 12


class Counted(bytes):
    """Bytes that count how often they are looked at."""

    looks = 0

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        self.looks += 1
        return super().__getitem__(key)


GOOD = Shard(1000, footer())


def real_footers() -> list[Shard]:
    """Small ones, so that a change hits something; with all that footers may have."""
    types = {"n": pa.int64(), "s": pa.string(), "l": pa.list_(pa.timestamp("us"))}
    found = []
    for name, can in WRITERS.items():
        kinds = {
            column: type_
            for column, type_ in types.items()
            if name != "fastparquet" or column != "l"
        }
        rows = files.table(kinds, 5, 1, 0.0)
        found.append(files.shard(can.write(rows, Settings(group_rows=3))))
        how = Settings(dictionary=False, page_index=True, bloom_filter=True)
        found.append(files.shard(can.write(rows, how)))
    return found


VARINTS = [thrift.put_integer(n) for n in (0, -1, 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63))]
EXTREMES = (*VARINTS, b"\xff" * 9 + b"\x7f", b"\xff" * 20, b"\x80" * 9 + b"\x00", b"\x1c" * 40)


def changed(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """A footer's Thrift with something wrong in it."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        length = rng.choice((1, 1, 2, 5, 40))
        change = rng.randrange(8)
        if change == 0:
            out[at : at + 1] = bytes([rng.randrange(256)])
        elif change == 1:
            out[at : at + 1] = bytes([(out[at] if at < len(out) else 0) ^ 1 << rng.randrange(8)])
        elif change == 2:
            del out[at : at + length]
        elif change == 3:
            out[at:at] = rng.randbytes(length)
        elif change == 4:
            out[at : at + rng.choice((0, 1, 5))] = rng.choice(EXTREMES)
        elif change == 5:
            out[at:at] = out[at : at + length] * rng.choice((1, 20))
        elif change == 6:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            out[at : at + length] = other[start : start + rng.choice((5, 50, 500))]
        else:
            del out[at:]
    return bytes(out)


def tried(thrift_bytes: bytes, size: int, good: Shard) -> str:
    """Everything that is done with a footer, done with a hostile one: what came of it."""
    data = Counted(ended(thrift_bytes))
    shard = Shard(size + len(data), data)
    marks = {"utc_columns": ["l"], "json_columns": ["s"]}
    attempts: tuple[Callable[[], object], ...] = (
        lambda: parquet.shard_rows(data),
        lambda: parquet.merge([shard], {"a": "b"}),
        lambda: parquet.merge([good, shard, shard]),
        lambda: parquet.merge([shard, good]),
        lambda: parquet.merge([shard], **marks),
    )
    outcome = []
    for attempt in attempts:
        data.looks = 0
        try:
            result = attempt()
        except FooterError as err:
            message = str(err)
            assert message.endswith(".")
            outcome.append("refused")
        else:
            outcome.append("merged")
            if isinstance(result, bytes):
                # What was accepted is a footer again.
                again = Shard(10 * shard.size + 10 * good.size + len(result), result)
                assert parquet.merge([again])
        assert data.looks <= MOST_LOOKS_A_BYTE * len(data) + 100
    return outcome[1]


def test_mutated_footers_are_refused_or_merged_and_never_slow() -> None:
    shards = real_footers()
    bare = [shard.footer[:-8] for shard in shards]
    outcomes = {"refused": 0, "merged": 0}
    for nth in range(HOSTILE):
        rng = random.Random(nth)
        shard = shards[nth % len(shards)]
        data = changed(shard.footer[:-8], bare, rng)
        outcomes[tried(data, shard.size - len(shard.footer), shard)] += 1
    assert outcomes["refused"] > HOSTILE / 2
    assert outcomes["merged"] > HOSTILE / 50


@settings(max_examples=HOSTILE, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    tried(data, 1000, GOOD)


HEADERS = st.integers(0, 255).map(lambda byte: bytes([byte]))
PIECES = st.one_of(
    HEADERS,
    st.sampled_from(EXTREMES),
    st.sampled_from((b"\x19", b"\x1c", b"\x2c", b"\x00", b"\x15\x02", b"\x16\x00", b"\x18\x01a")),
    st.integers(-(2**63), 2**63 - 1).map(thrift.put_integer),
)


@settings(max_examples=HOSTILE, deadline=None)
@given(st.lists(PIECES, max_size=60).map(b"".join), st.sampled_from((2, 4, 5, 7, 10)))
def test_fields_of_random_thrift_are_refused_or_merged(data: bytes, field: int) -> None:
    fields = {
        1: (thrift.I32, b"\x02"),
        2: schema_of("s", "l"),
        3: (thrift.I64, b"\x00"),
        4: (thrift.LIST, b"\x0c"),
    } | {field: (thrift.LIST, data)}
    tried(thrift.put_struct(fields), 1000, GOOD)


@pytest.mark.parametrize(
    "thrift_bytes",
    [
        pytest.param(b"\x1c" * 200_000, id="nested structs"),
        pytest.param(b"\x19" * 200_000, id="nested lists"),
        pytest.param(b"\x15\x02\x19\xfc\xa0\x8d\x06" + bytes(100_000), id="a schema of nothing"),
        pytest.param(footer()[:-9] + b"\x11" * 100_000 + b"\0", id="flags without end"),
        pytest.param(
            footer(f5=(thrift.LIST, b"\xfc\xa0\x8d\x06" + bytes(100_000)))[:-8], id="empty pairs"
        ),
        pytest.param(
            footer(f4=(thrift.LIST, b"\xfc\xa0\x8d\x06" + bytes(100_000)))[:-8], id="empty groups"
        ),
        pytest.param(
            footer(f4=(thrift.LIST, b"\xfc\xa0\x9c\x01" + b"\x19\x0c\x26\x00\x00" * 20_000))[:-8],
            id="groups without columns",
        ),
        pytest.param(
            footer(f10=(thrift.LIST, b"\xf1\xa0\x8d\x06" + bytes(100_000)))[:-8], id="many flags"
        ),
        pytest.param(
            footer(
                f4=(
                    thrift.LIST,
                    b"\x1c\x19\xfc\xa0\x9c\x01" + b"\x26\x00\x1c\x96\x00\x00\x00" * 20_000
                    + b"\x26\x00\x00",
                )
            )[:-8],
            id="chunks without size",
        ),
    ],
)  # fmt: skip
def test_a_large_hostile_footer_costs_no_more_than_its_size(thrift_bytes: bytes) -> None:
    data = ended(thrift_bytes)
    tracemalloc.start()
    try:
        for marks in ({}, {"utc_columns": ["a"]}):
            try:
                parquet.merge([Shard(len(data) + 100, data)], **marks)
            except FooterError:
                continue
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(data) + 2_000_000
    tried(thrift_bytes, 100, GOOD)
