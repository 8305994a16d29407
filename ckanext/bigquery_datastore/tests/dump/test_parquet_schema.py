"""Columns marked as timestamps in UTC and as JSON, and what every reader makes of them."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from io import BytesIO
from itertools import chain
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ckanext.bigquery_datastore.dump import parquet
from ckanext.bigquery_datastore.dump.parquet import schema as schemas
from ckanext.bigquery_datastore.dump.parquet import thrift
from ckanext.bigquery_datastore.errors import FooterError
from ckanext.bigquery_datastore.tests.dump import parquet_files as files
from ckanext.bigquery_datastore.tests.dump.parquet_files import UTC, WRITERS, Settings

WHEN = dt.datetime(2026, 3, 29, 1, 30, 0, 123456)
MOMENT = WHEN.replace(tzinfo=UTC)
SAID = '{"a": [1, "ä"]}'
ROWS = pa.table(
    {
        "at": pa.array([WHEN, None], pa.timestamp("us")),
        "local": pa.array([WHEN, None], pa.timestamp("us")),
        "said": pa.array([SAID, None], pa.string()),
        "text": pa.array([SAID, None], pa.string()),
    }
)


@pytest.fixture(params=WRITERS)
def marked(request: pytest.FixtureRequest) -> bytes:
    data = WRITERS[request.param].write(ROWS, Settings())
    return files.joined([data, data], utc_columns=["at"], json_columns=["said"])


@pytest.fixture
def in_duckdb(marked: bytes) -> Iterator[duckdb.DuckDBPyConnection]:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder, "merged.parquet")
        path.write_bytes(marked)
        connection.execute("SET TimeZone = 'America/New_York'")
        connection.execute(f"CREATE VIEW merged AS FROM read_parquet('{path}')")
        yield connection


def test_pyarrow_sees_the_time_zone_and_json(marked: bytes) -> None:
    read = files.read_pyarrow(marked)
    assert read.schema.field("at").type == pa.timestamp("us", "UTC")
    assert read.schema.field("local").type == pa.timestamp("us")
    assert read.schema.field("said").type == pa.json_()
    assert not isinstance(read.schema.field("text").type, pa.JsonType)
    assert read["at"].to_pylist() == [MOMENT, None] * 2
    assert read["local"].to_pylist() == [WHEN, None] * 2
    assert read["said"].to_pylist() == [SAID, None] * 2
    assert read["text"].to_pylist() == [SAID, None] * 2


def test_pyarrow_filters_by_the_moment(marked: bytes) -> None:
    assert files.read_pyarrow(marked, filters=[("at", "==", MOMENT)]).num_rows == 2
    assert files.read_pyarrow(marked, filters=[("at", ">", MOMENT)]).num_rows == 0


def test_duckdb_sees_the_time_zone_and_json(in_duckdb: duckdb.DuckDBPyConnection) -> None:
    described = in_duckdb.execute("DESCRIBE merged").fetchall()
    assert {name: type_ for name, type_, *_ in described} == {
        "at": "TIMESTAMP WITH TIME ZONE",
        "local": "TIMESTAMP",
        "said": "JSON",
        "text": "VARCHAR",
    }
    found = in_duckdb.execute(
        """SELECT epoch_us("at"), epoch_us(local), said->>'$.a[1]', text
        FROM merged WHERE "at" = ?""",
        [MOMENT],
    ).fetchall()
    microseconds = (WHEN - files.EPOCH) // dt.timedelta(microseconds=1)
    assert found == [(microseconds, microseconds, "ä", SAID)] * 2


def test_polars_sees_the_time_zone_and_the_bytes_of_json(marked: bytes) -> None:
    read = files.read_polars(marked)
    assert read.schema == {
        "at": pl.Datetime("us", "UTC"),
        "local": pl.Datetime("us"),
        "said": pl.Binary,
        "text": pl.String,
    }
    assert read["at"].to_list() == [MOMENT, None] * 2
    assert read["said"].cast(pl.String).to_list() == [SAID, None] * 2
    assert pl.scan_parquet(BytesIO(marked)).filter(pl.col("at") == MOMENT).collect().height == 2


def test_a_column_that_is_in_utc_already_stays_so() -> None:
    rows = files.table({"at": pa.timestamp("us", "UTC")}, 20, 1)
    for can in WRITERS.values():
        data = can.write(rows, Settings())
        assert files.read_polars(files.joined([data], utc_columns=["at"]))["at"].dtype == (
            pl.Datetime("us", "UTC")
        )
        assert files.read_pyarrow(files.joined([data], utc_columns=["at"])).equals(
            files.read_pyarrow(files.joined([data], {"any": "thing"}))
        )


def test_columns_within_lists_and_structs_are_named_as_in_the_table() -> None:
    moment = pa.timestamp("us")
    rows = files.table(
        {
            "many": pa.list_(moment),
            "visits": pa.list_(pa.struct({"at": moment, "note": pa.string()})),
            "one": pa.struct({"at": moment, "times": pa.list_(moment), "deep": pa.list_(
                pa.list_(pa.struct({"at": moment}))
            )}),
            "at": moment,
        },
        30,
        1,
    )  # fmt: skip
    for writer in ("pyarrow", "polars", "duckdb"):
        data = WRITERS[writer].write(rows, Settings())
        merged = files.joined(
            [data],
            utc_columns=["many", "visits.at", "one.times", "one.deep.at"],
            json_columns=["visits.note"],
        )
        columns = pq.ParquetFile(BytesIO(merged)).schema
        told = [
            (columns.column(n).path.split(".")[0], str(columns.column(n).logical_type))
            for n in range(len(columns.names))
        ]
        assert ["UTC" if "isAdjustedToUTC=true" in type_ else type_[:4] for _, type_ in told] == [
            "UTC", "UTC", "JSON", "Time", "UTC", "UTC", "Time",
        ]  # fmt: skip
        values = files.read_polars(merged)
        assert values["at"].to_list() == rows["at"].to_pylist()
        assert list(chain(*(many or [] for many in values["many"].to_list()))) == [
            at and at.replace(tzinfo=UTC) for many in rows["many"].to_pylist() for at in many or []
        ]


@pytest.mark.parametrize(
    ("marks", "says"),
    [
        ({"utc_columns": ["nowhere"]}, "there is no column 'nowhere'"),
        ({"json_columns": ["nowhere"]}, "there is no column 'nowhere'"),
        ({"utc_columns": ["text"]}, "the column 'text' is not a timestamp"),
        ({"json_columns": ["at"]}, "the column 'at' is not text"),
        ({"json_columns": ["number"]}, "the column 'number' is not text"),
        ({"utc_columns": ["number"]}, "the column 'number' is not a timestamp"),
    ],
)
def test_a_column_that_cannot_be_what_it_is_said_to_be_is_refused(
    marks: dict[str, list[str]], says: str
) -> None:
    rows = ROWS.append_column("number", pa.array([1, 2]))
    data = files.by_pyarrow(rows, Settings())
    with pytest.raises(FooterError, match=f"^The shards' schema cannot be merged: {says}.$"):
        files.joined([data], **marks)


def test_what_a_column_says_beside_its_type_is_kept() -> None:
    """A field id of the column, and a field that nobody knows."""
    element = {
        1: (thrift.I32, thrift.put_integer(2)),
        3: (thrift.I32, thrift.put_integer(1)),
        4: (thrift.BINARY, thrift.put_binary(b"at")),
        9: (thrift.I32, thrift.put_integer(42)),
        10: (thrift.STRUCT, bytes.fromhex("8c 12 1c 1c 00 00 00 00")),
        77: (thrift.BINARY, thrift.put_binary(b"new")),
    }
    root = {4: (thrift.BINARY, b"\x01s"), 5: (thrift.I32, b"\x02")}
    schema = b"\x2c" + thrift.put_struct(root) + thrift.put_struct(element)
    in_utc = element | {10: (thrift.STRUCT, bytes.fromhex("8c 11 1c 1c 00 00 00 00"))}
    assert schemas.mark(schema, ["at"], []) == (
        b"\x2c"
        + thrift.put_struct(root)
        + thrift.put_struct(in_utc | {6: (thrift.I32, thrift.put_integer(9))})
    )
    assert schemas.mark(schema, [], []) == schema


def test_arrows_own_schema_is_left_out_where_it_would_hide_what_was_said() -> None:
    data = files.by_pyarrow(ROWS, Settings(metadata={"by": "us"}))
    for said in ({"utc_columns": ["at"]}, {"json_columns": ["said"]}, {"metadata": {"a": "b"}}):
        told = pq.read_metadata(BytesIO(files.joined([data], **said))).metadata
        assert b"ARROW:schema" not in told
        assert told[b"by"] == b"us"
    assert b"ARROW:schema" in pq.read_metadata(BytesIO(files.joined([data]))).metadata


def test_the_first_column_that_differs_is_named() -> None:
    def schema(**types: pa.DataType) -> bytes:
        data = files.by_pyarrow(files.table(types, 1, 1), Settings())
        return parquet._read_head(files.shard(data).footer).schema

    first = schema(a=pa.int64(), b=pa.string(), c=pa.date32())
    assert schemas.first_difference(first, schema(a=pa.int64(), b=pa.binary())) == "schema"
    other = schema(a=pa.int64(), b=pa.binary(), c=pa.date32())
    assert schemas.first_difference(first, other) == "b"
    other = schema(a=pa.int64(), b=pa.string(), d=pa.date32())
    assert schemas.first_difference(first, other) == "c"
