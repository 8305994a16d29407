"""Parquet files of every kind for the tests: random tables, four writers, three readers."""

from __future__ import annotations

import datetime as dt
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import fastparquet
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ckanext.bigquery_datastore.dump import parquet

UTC = dt.timezone.utc
EPOCH = dt.datetime(1970, 1, 1)

FLAT: Mapping[str, pa.DataType] = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "uint8": pa.uint8(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "binary": pa.binary(),
    "fixed": pa.binary(5),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "datetime": pa.timestamp("us"),
    "timestamp": pa.timestamp("us", "UTC"),
    "numeric": pa.decimal128(38, 9),
    "price": pa.decimal128(7, 2),
}
NESTED: Mapping[str, pa.DataType] = {
    "list": pa.list_(pa.int64()),
    "list of strings": pa.list_(pa.string()),
    "list of lists": pa.list_(pa.list_(pa.float64())),
    "struct": pa.struct({"a": pa.int64(), "b": pa.string()}),
    "struct of lists": pa.struct({"l": pa.list_(pa.date32()), "s": pa.struct({"n": pa.bool_()})}),
    "list of structs": pa.list_(pa.struct({"at": pa.timestamp("us"), "n": pa.decimal128(9, 3)})),
    "map": pa.map_(pa.string(), pa.int64()),
}
TYPES = {**FLAT, **NESTED}


def value(type_: pa.DataType, rng: random.Random, nulls: float) -> Any:
    """A random value as Arrow takes it, or None."""
    if rng.random() < nulls:
        return None
    if pa.types.is_map(type_):
        return [(str(n), rng.randint(-9, 9)) for n in range(rng.randint(0, 3))]
    if pa.types.is_list(type_):
        return [value(type_.value_type, rng, nulls) for _ in range(rng.randint(0, 4))]
    if pa.types.is_struct(type_):
        return {part.name: value(part.type, rng, nulls) for part in type_}
    if pa.types.is_decimal(type_):
        digits = rng.randint(0, 10**type_.precision - 1) * rng.choice((1, -1))
        return Decimal(digits).scaleb(-type_.scale)
    if pa.types.is_fixed_size_binary(type_):
        return rng.randbytes(type_.byte_width)
    if pa.types.is_binary(type_):
        return rng.randbytes(rng.choice((0, 3, 16, 40)))
    if pa.types.is_string(type_):
        return rng.choice("aäß😀z ") * rng.choice((0, 1, 2, 7, 30, 150))
    if pa.types.is_boolean(type_):
        return rng.random() < 0.5
    if pa.types.is_floating(type_):
        return rng.choice((0.0, 1e300, 2.5, -7.125, rng.randint(-1000, 1000) / 4))
    if pa.types.is_date(type_):
        return (EPOCH + dt.timedelta(days=rng.randint(-9999, 9999))).date()
    if pa.types.is_time(type_):
        return dt.time(rng.randint(0, 23), rng.randint(0, 59), 0, rng.randint(0, 999999))
    if pa.types.is_timestamp(type_):
        naive = EPOCH + dt.timedelta(microseconds=rng.randint(-(10**15), 10**15))
        return naive.replace(tzinfo=UTC) if type_.tz else naive
    low, high = (0, 2**8 - 1) if type_ == pa.uint8() else (-(2**31), 2**31 - 1)
    return rng.choice((0, high, low, rng.randint(low, high)))


def table(types: Mapping[str, pa.DataType], rows: int, seed: int, nulls: float = 0.2) -> pa.Table:
    """A random table of these columns. After 500 rows it starts again, as random rows are slow."""
    rng = random.Random(seed)
    distinct = pa.table(
        {
            name: pa.array([value(type_, rng, nulls) for _ in range(min(rows, 500))], type_)
            for name, type_ in types.items()
        }
    )
    return pa.concat_tables([distinct] * (rows // 500 + 1)).slice(0, rows).combine_chunks()


@dataclass(frozen=True)
class Settings:
    """How a file is to be written, as far as its writer has a choice."""

    compression: str = "SNAPPY"
    group_rows: int = 1000
    dictionary: bool = True
    statistics: bool = True
    page_index: bool = False
    bloom_filter: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


def by_pyarrow(rows: pa.Table, settings: Settings) -> bytes:
    out = BytesIO()
    flat = [
        name for name in rows.column_names if not pa.types.is_nested(rows.schema.field(name).type)
    ]
    with_bloom = {
        name: {"ndv": 100, "fpp": 0.1}
        for name in flat
        if settings.bloom_filter and not pa.types.is_boolean(rows.schema.field(name).type)
    }
    pq.write_table(
        rows.replace_schema_metadata(settings.metadata),
        out,
        row_group_size=settings.group_rows,
        compression=settings.compression,
        use_dictionary=settings.dictionary,
        write_statistics=settings.statistics,
        write_page_index=settings.page_index,
        bloom_filter_options=with_bloom or None,
        data_page_version="2.0" if settings.page_index else "1.0",
    )
    return out.getvalue()


def by_polars(rows: pa.Table, settings: Settings) -> bytes:
    out = BytesIO()
    pl.DataFrame(rows).write_parquet(
        out,
        compression={"NONE": "uncompressed"}.get(
            settings.compression, settings.compression.lower()
        ),
        row_group_size=settings.group_rows,
        statistics="full" if settings.statistics else False,
        metadata=dict(settings.metadata) or None,
    )
    return out.getvalue()


def by_duckdb(rows: pa.Table, settings: Settings) -> bytes:
    codec = {"NONE": "UNCOMPRESSED", "LZ4": "LZ4_RAW"}.get(
        settings.compression, settings.compression
    )
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder, "shard.parquet")
        connection.register("rows", rows)
        connection.execute("SET threads = 1")
        connection.execute(
            f"COPY rows TO '{path}' (FORMAT parquet, CODEC {codec},"
            f" ROW_GROUP_SIZE {max(settings.group_rows, 2048)},"
            f" DICTIONARY_SIZE_LIMIT {10_000 if settings.dictionary else 1},"
            f" WRITE_BLOOM_FILTER {settings.bloom_filter})"
        )
        return path.read_bytes()


def by_fastparquet(rows: pa.Table, settings: Settings) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shard.parquet")
        fastparquet.write(
            str(path),
            rows.to_pandas(),
            object_encoding="utf8",
            row_group_offsets=settings.group_rows,
            compression={"NONE": "UNCOMPRESSED"}.get(settings.compression, settings.compression),
            stats=settings.statistics,
            write_index=False,
        )
        return path.read_bytes()


@dataclass(frozen=True)
class Writer:
    """A writer, the types it can write, and the codecs it knows."""

    write: Callable[[pa.Table, Settings], bytes]
    types: Sequence[str]
    compressions: Sequence[str]
    nulls: Sequence[float] = (0.0, 0.2, 1.0)
    smallest_group: int = 1


_UNFIT_FOR_POLARS = {"map", "fixed"}
_FIT_FOR_FASTPARQUET = ("int64", "int32", "float64", "bool", "string", "datetime", "timestamp")
WRITERS = {
    "pyarrow": Writer(
        by_pyarrow, tuple(TYPES), ("NONE", "SNAPPY", "GZIP", "BROTLI", "ZSTD", "LZ4")
    ),
    "polars": Writer(
        by_polars,
        tuple(name for name in TYPES if name not in _UNFIT_FOR_POLARS),
        ("NONE", "SNAPPY", "GZIP", "BROTLI", "ZSTD", "LZ4"),
    ),
    "duckdb": Writer(by_duckdb, tuple(TYPES), ("NONE", "SNAPPY", "GZIP", "BROTLI", "ZSTD", "LZ4")),
    "fastparquet": Writer(
        by_fastparquet,
        _FIT_FOR_FASTPARQUET,
        ("NONE", "SNAPPY", "GZIP", "BROTLI", "ZSTD"),
        nulls=(0.0,),  # a pandas column of whole numbers with gaps is one of floats
    ),
}


def shard(data: bytes) -> parquet.Shard:
    """The shard as the caller of ``merge`` has it: its size and its footer."""
    length = parquet.footer_length(data[-8:])
    return parquet.Shard(len(data), data[-length:])


def joined(files: Sequence[bytes], *args: Any, **kwargs: Any) -> bytes:
    """The files laid end to end, with the merged footer; arguments as for ``merge``."""
    return b"".join(files) + parquet.merge([shard(data) for data in files], *args, **kwargs)


def read_pyarrow(data: bytes, **kwargs: Any) -> pa.Table:
    return pq.read_table(BytesIO(data), **kwargs)


def read_polars(data: bytes) -> pl.DataFrame:
    return pl.read_parquet(BytesIO(data))


def read_duckdb(files: Sequence[bytes], where: str = "", *args: Any) -> pa.Table:
    """The rows of all ``files``, in order."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        for nth, data in enumerate(files):
            Path(folder, f"{nth:05d}.parquet").write_bytes(data)
        connection.execute("SET threads = 1")
        connection.execute("SET TimeZone = 'UTC'")
        query = f"SELECT * FROM read_parquet('{folder}/*.parquet', filename = false) {where}"
        return connection.execute(query, args or None).to_arrow_table()


def read_fastparquet(data: bytes) -> pa.Table:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "merged.parquet")
        path.write_bytes(data)
        return pa.Table.from_pandas(fastparquet.ParquetFile(str(path)).to_pandas())


def statistics(data: bytes) -> list[list[dict[str, Any]]]:
    """What a file says of its column chunks, row group by row group, but for where they are."""
    metadata = pq.read_metadata(BytesIO(data))
    moving = {
        "file_offset",
        "data_page_offset",
        "dictionary_page_offset",
        "index_page_offset",
        "bloom_filter_offset",
        "bloom_filter_length",
    }
    return [
        [
            {
                key: said
                for key, said in metadata.row_group(group).column(column).to_dict().items()
                if key not in moving
            }
            for column in range(metadata.num_columns)
        ]
        for group in range(metadata.num_row_groups)
    ]


def same(left: pa.Table, right: pa.Table) -> bool:
    """Equality in which NaN, and chunks of another size, do not count."""
    return left.schema.equals(right.schema) and left.combine_chunks().equals(right.combine_chunks())


def median(rows: pa.Table, column: str) -> Any:
    """A value in the middle of a column, to filter by; None where all are null."""
    values = pc.drop_null(rows[column]).combine_chunks()
    return values.sort()[len(values) // 2].as_py() if len(values) else None
