"""Whatever writes the shards, and whatever is in them: the merged file is the shards' rows.

``PARQUET_EXAMPLES`` says how many random sets of shards of each writer are tried.
"""

from __future__ import annotations

import json
import os
from io import BytesIO
from itertools import chain

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckanext.bigquery_datastore.dump import parquet
from ckanext.bigquery_datastore.tests.dump import parquet_files as files
from ckanext.bigquery_datastore.tests.dump.parquet_files import FLAT, TYPES, WRITERS, Settings

EXAMPLES = int(os.environ.get("PARQUET_EXAMPLES", "30"))
COMPARABLE = ("int64", "float64", "string", "date", "datetime", "timestamp", "numeric")


@st.composite
def shards(draw: st.DrawFn, writer: str) -> tuple[list[pa.Table], list[bytes]]:
    """Tables of one schema, and the same as files of one writer."""
    can = WRITERS[writer]
    names = draw(st.lists(st.sampled_from(can.types), min_size=1, max_size=6, unique=True))
    nulls = draw(st.sampled_from(can.nulls))
    groups = draw(st.sampled_from((1, 2, 3, 50) if can.smallest_group == 1 else (1, 3)))
    group_rows = draw(st.integers(can.smallest_group, can.smallest_group + 20))
    how = Settings(
        compression=draw(st.sampled_from(can.compressions)),
        group_rows=group_rows,
        dictionary=draw(st.booleans()),
        statistics=draw(st.booleans()),
        page_index=draw(st.booleans()),
        bloom_filter=draw(st.booleans()),
    )
    seed = draw(st.integers(0, 2**20))
    types = {f"{name} {nth}": TYPES[name] for nth, name in enumerate(names)}
    tables = [
        files.table(types, draw(st.integers(0, group_rows * groups)), seed + nth, nulls)
        for nth in range(draw(st.integers(1, 4)))
    ]
    return tables, [can.write(rows, how) for rows in tables]


@pytest.mark.parametrize("writer", WRITERS)
def test_every_reader_finds_the_rows_of_all_shards_in_order(writer: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(shards(writer))
    def check(given_shards: tuple[list[pa.Table], list[bytes]]) -> None:
        tables, written = given_shards
        merged = files.joined(written)

        by_pyarrow = files.read_pyarrow(merged)
        assert files.same(by_pyarrow, pa.concat_tables(map(files.read_pyarrow, written)))
        assert by_pyarrow.num_rows == sum(rows.num_rows for rows in tables)
        if writer == "pyarrow":
            assert files.same(by_pyarrow, pa.concat_tables(tables))

        assert files.same(files.read_duckdb([merged]), files.read_duckdb(written))

        if not any(pa.types.is_map(type_) for type_ in by_pyarrow.schema.types):
            assert files.read_polars(merged).equals(pl.concat(map(files.read_polars, written)))

        if writer == "fastparquet":
            expected = [files.read_fastparquet(data).to_pylist() for data in written]
            assert files.read_fastparquet(merged).to_pylist() == list(chain(*expected))

        assert files.statistics(merged) == list(chain.from_iterable(map(files.statistics, written)))

    check()


@pytest.mark.parametrize(
    ("writer", "type_"),
    [(name, type_) for name, can in WRITERS.items() for type_ in COMPARABLE if type_ in can.types],
)
def test_a_filter_that_skips_row_groups_gives_the_rows_it_gives_on_the_shards(
    writer: str, type_: str
) -> None:
    # Sorted, so that most row groups lie wholly on one side of the filter.
    tables = [
        files.table({"v": FLAT[type_], "n": FLAT["int64"]}, 5000, seed, 0.0).sort_by("v")
        for seed in range(3)
    ]
    how = Settings(group_rows=max(100, WRITERS[writer].smallest_group), bloom_filter=True)
    written = [WRITERS[writer].write(rows, how) for rows in tables]
    merged = files.joined(written)
    limit = files.median(files.read_pyarrow(merged), "v")
    for operator, expression in {
        ">": pl.col("v") > limit,
        "<=": pl.col("v") <= limit,
        "==": pl.col("v") == limit,
    }.items():
        condition = [("v", operator, limit)]
        found = files.read_pyarrow(merged, filters=condition)
        assert found.num_rows > 0
        assert files.same(
            found,
            pa.concat_tables(files.read_pyarrow(data, filters=condition) for data in written),
        )
        where = f"WHERE v {operator} ?"
        assert files.same(
            files.read_duckdb([merged], where, limit), files.read_duckdb(written, where, limit)
        )
        by_polars = [
            pl.scan_parquet(BytesIO(data)).filter(expression).collect()
            for data in (merged, *written)
        ]
        assert by_polars[0].equals(pl.concat(by_polars[1:]))


def test_fastparquet_reads_flat_columns_of_other_writers() -> None:
    types = {name: FLAT[name] for name in ("int64", "float64", "string", "datetime")}
    tables = [files.table(types, 100, seed, 0.0) for seed in range(3)]
    merged = files.joined([files.by_pyarrow(rows, Settings(group_rows=30)) for rows in tables])
    assert files.read_fastparquet(merged).to_pylist() == pa.concat_tables(tables).to_pylist()


@pytest.mark.parametrize("writer", ["pyarrow", "duckdb"])
def test_page_indexes_and_bloom_filters_of_the_shards_are_not_pointed_to(writer: str) -> None:
    rows = files.table({"n": pa.int64(), "s": pa.string()}, 100, 1)
    how = Settings(page_index=writer == "pyarrow", bloom_filter=True)
    data = WRITERS[writer].write(rows, how)
    told = pq.read_metadata(BytesIO(data)).row_group(0).column(0)
    assert told.bloom_filter_offset
    assert (told.has_offset_index, told.has_column_index) == (how.page_index, how.page_index)

    metadata = pq.read_metadata(BytesIO(files.joined([data, data])))
    for group in range(2):
        for column in range(2):
            told = metadata.row_group(group).column(column)
            assert not told.has_offset_index
            assert not told.has_column_index
            assert told.bloom_filter_offset is None
            assert told.bloom_filter_length is None


def test_offsets_may_be_as_large_as_the_largest_object() -> None:
    data = files.by_pyarrow(files.table({"n": pa.int64()}, 10, 1), Settings())
    small = files.shard(data)
    five_tebibytes = 5 * 2**40
    merged = parquet.merge([parquet.Shard(five_tebibytes, small.footer), small])
    metadata = pq.read_metadata(BytesIO(b"PAR1" + merged))
    here, moved = (metadata.row_group(group).column(0) for group in range(2))
    assert moved.dictionary_page_offset - here.dictionary_page_offset == five_tebibytes
    assert moved.data_page_offset - here.data_page_offset == five_tebibytes


def test_there_may_be_more_row_groups_than_an_ordinal_can_count() -> None:
    data = files.by_pyarrow(files.table({"n": pa.int64()}, 10, 1), Settings(group_rows=1))
    merged = pq.ParquetFile(BytesIO(files.joined([data] * 4000)))
    assert merged.metadata.num_row_groups == 40_000
    assert merged.read_row_group(39_999).equals(pq.ParquetFile(BytesIO(data)).read_row_group(9))


def test_one_shard_is_merged_like_many() -> None:
    data = files.by_pyarrow(files.table({"n": pa.int64()}, 10, 1), Settings())
    assert files.read_pyarrow(files.joined([data])).equals(files.read_pyarrow(data))


def test_shards_without_rows_give_a_file_without_rows() -> None:
    rows = files.table({"n": pa.int64(), "s": pa.string()}, 0, 1)
    for can in WRITERS.values():
        data = can.write(rows, Settings())
        assert parquet.shard_rows(files.shard(data).footer) == 0
        merged = files.joined([data, data])
        assert files.read_pyarrow(merged).num_rows == 0
        assert files.read_duckdb([merged]).num_rows == 0
        assert files.read_polars(merged).height == 0
        assert files.read_pyarrow(merged).column_names == ["n", "s"]


def test_the_rows_of_a_shard_are_told_by_its_footer() -> None:
    for can in WRITERS.values():
        data = can.write(files.table({"n": pa.int64()}, 12345, 1, 0.0), Settings())
        assert parquet.shard_rows(files.shard(data).footer) == 12345


def test_the_length_of_a_footer_is_told_by_the_last_eight_bytes() -> None:
    data = files.by_pyarrow(files.table({"n": pa.int64()}, 10, 1), Settings())
    length = parquet.footer_length(data[-8:])
    assert length == parquet.footer_length(data)
    assert length == pq.read_metadata(BytesIO(data)).serialized_size + 8


def test_metadata_of_the_first_shard_is_kept_and_what_is_given_added() -> None:
    rows = files.table({"n": pa.int64()}, 10, 1)
    shards_ = [files.by_pyarrow(rows, Settings(metadata={"by": "us", "no": "1"}))] * 2
    merged = files.joined(shards_, {"dictionary": '{"n": "Zahl, größer"}', "no": "2"})
    told = files.read_pyarrow(merged).schema.metadata
    assert told == {b"by": b"us", b"no": b"2", b"dictionary": '{"n": "Zahl, größer"}'.encode()}


def test_metadata_in_which_shards_differ_is_that_of_the_first_and_named() -> None:
    rows = files.table({"n": pa.int64()}, 10, 1)
    first, second, third = (
        files.by_polars(rows, Settings(metadata=told))
        for told in ({"same": "x", "a": "1"}, {"same": "x", "a": "2"}, {"same": "x", "ä": "3"})
    )
    told = pq.read_metadata(BytesIO(files.joined([first, second, third]))).metadata
    assert told[b"same"] == b"x"
    assert told[b"a"] == b"1"
    assert json.loads(told[parquet.CONFLICTS.encode()]) == ["a", "ä"]
    assert "ä".encode() not in told


def test_the_writer_is_named_as_in_the_shards() -> None:
    rows = files.table({"n": pa.int64()}, 10, 1)
    for can in WRITERS.values():
        data = can.write(rows, Settings())
        merged = pq.read_metadata(BytesIO(files.joined([data, data])))
        assert merged.created_by == pq.read_metadata(BytesIO(data)).created_by
        assert merged.format_version == pq.read_metadata(BytesIO(data)).format_version
