"""A result as files of an export: spooled once to disk, cut into shards, uploaded.

Memory stays at a few batches however large the result. Rows keep their order, and
shard after shard holds the next of them: "the globally sorted result set is
distributed sequentially across the generated files".
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import geoparquet
from .disorder import shuffled
from .texts import Kind, csv_header, csv_line, json_line, parquet_columns

_BATCH_ROWS = 100_000
_CHUNK = 1 << 20
BYTES_PER_SHARD = 64 << 20


@dataclass(frozen=True)
class Format:
    """How the files of one export look."""

    name: str  # CSV, JSON, PARQUET
    compression: str = ""  # GZIP, SNAPPY, ZSTD
    header: bool = False
    delimiter: str = ","


@dataclass(frozen=True)
class Source:
    """Rows to export: a SELECT of DuckDB with its parameters, and its columns.

    With a ``seed`` they have no order, and are written in one that follows from it.
    """

    sql: str
    parameters: list[Any]
    names: list[str]
    kinds: list[Kind]
    seed: str | None = None

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any]) -> Source:
        """Find out the columns of a SELECT."""
        found = connection.execute(f"SELECT * FROM ({sql}) LIMIT 0", parameters or None)
        described = found.description or []
        return cls(sql, parameters, [d[0] for d in described], [Kind.of(d[1]) for d in described])

    def select(self, expression: str) -> str:
        """The rows, each as ``expression`` over the columns c0, c1, ..."""
        columns = ", ".join(f"c{i}" for i in range(len(self.names)))
        return f"SELECT {expression} FROM ({self.sql}) AS exported({columns})"

    @property
    def columns(self) -> list[tuple[str, str, Kind]]:
        """Name, SQL and kind of each column."""
        return [
            (name, f"c{i}", kind)
            for i, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True))
        ]


class Spool:
    """A whole result on disk, of which any run of rows can be read."""

    rows: int
    size: int

    def shard(self, first: int, last: int) -> Iterator[bytes]:
        """The file with rows ``first`` to ``last`` (not included), in chunks."""
        raise NotImplementedError


class TextSpool(Spool):
    """Lines one after another, and where each ends."""

    def __init__(self, folder: Path, source: Source, form: Format) -> None:
        self._lines, self._ends_file = folder / "lines", folder / "ends"
        self._form = form
        self._head = (
            csv_header(source.names, form.delimiter).encode()
            if form.name == "CSV" and form.header
            else b""
        )
        columns = source.columns
        self._expression = (
            csv_line([(value, kind) for _, value, kind in columns], form.delimiter)
            if form.name == "CSV"
            else json_line(columns)
        )
        self._source = source

    def fill(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Run the query and write its lines."""
        _, batches = _batches(connection, self._source, f"{self._expression} AS line")
        position = 0
        with self._lines.open("wb") as lines, self._ends_file.open("wb") as ends:
            for batch in batches:
                texts = batch.column(0)
                if not len(texts):
                    continue
                wide = pa.types.is_large_string(texts.type)
                offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64 if wide else np.int32)[
                    texts.offset : texts.offset + len(texts) + 1
                ].astype(np.int64)
                lines.write(memoryview(texts.buffers()[2])[offsets[0] : offsets[-1]])
                (offsets[1:] - offsets[0] + position).tofile(ends)
                position += int(offsets[-1] - offsets[0])
        self.rows, self.size = self._ends_file.stat().st_size // 8, position

    def shard(self, first: int, last: int) -> Iterator[bytes]:
        begin, end = self._end_of(first), self._end_of(last)
        plain = _with_head(self._head, _slice(self._lines, begin, end))
        return _gzipped(plain) if self._form.compression == "GZIP" else plain

    def _end_of(self, row: int) -> int:
        if row == 0:
            return 0
        with self._ends_file.open("rb") as ends:
            ends.seek((row - 1) * 8)
            return int.from_bytes(ends.read(8), "little")


class ParquetSpool(Spool):
    """Arrow batches on disk, written as Parquet shard by shard."""

    def __init__(self, folder: Path, source: Source, form: Format) -> None:
        self._folder, self._source = folder, source
        self._file = folder / "rows.arrow"
        self._codec = form.compression.lower() or "none"
        self._starts: list[int] = [0]

    def fill(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Run the query and keep its batches."""
        schema, batches = _batches(connection, self._source, parquet_columns(self._source.columns))
        self._schema = pa.schema(
            [
                _parquet_field(field, kind)
                for field, (_, _, kind) in zip(schema, self._source.columns, strict=True)
            ]
        )
        with (
            pa.OSFile(str(self._file), "wb") as stream,
            pa.ipc.new_file(stream, self._schema) as writer,
        ):
            for batch in batches:
                writer.write_batch(
                    pa.RecordBatch.from_arrays(
                        [
                            column.cast(field.type)
                            for column, field in zip(batch.columns, self._schema, strict=True)
                        ],
                        schema=self._schema,
                    )
                )
                self._starts.append(self._starts[-1] + batch.num_rows)
        self.rows, self.size = self._starts[-1], self._file.stat().st_size

    def shard(self, first: int, last: int) -> Iterator[bytes]:
        file = self._folder / f"shard-{first}-{last}-{os.urandom(4).hex()}.parquet"
        try:
            self._write(file, first, last)
            yield from _slice(file, 0, file.stat().st_size)
        finally:
            file.unlink(missing_ok=True)

    def _write(self, file: Path, first: int, last: int) -> None:
        options: dict[str, Any] = {
            "compression": self._codec,
            "version": "2.6",
            "write_time_adjusted_to_utc": True,
        }
        with (
            pa.memory_map(str(self._file)) as stream,
            pq.ParquetWriter(file, self._schema, **options) as writer,
        ):
            reader = pa.ipc.open_file(stream)
            taken = []
            for index, start in enumerate(self._starts[:-1]):
                begin, end = max(first, start), min(last, self._starts[index + 1])
                if begin < end:
                    taken.append(reader.get_batch(index).slice(begin - start, end - begin))
            rows = pa.Table.from_batches(taken, self._schema)
            if taken:
                writer.write_table(rows)
            places = {
                name: (value.as_py() for value in rows.column(name))
                for name, _, kind in self._source.columns
                if kind.name == "geography"
            }
            if places:
                writer.add_key_value_metadata({"geo": geoparquet.described(places)})


def _parquet_field(field: pa.Field, kind: Kind) -> pa.Field:
    if pa.types.is_decimal(field.type) and field.type.scale > 9:
        return pa.field(field.name, pa.decimal256(76, 38))
    return pa.field(field.name, field.type)


def spool(folder: Path, source: Source, form: Format) -> TextSpool | ParquetSpool:
    """An empty spool for rows of ``source``."""
    return (ParquetSpool if form.name == "PARQUET" else TextSpool)(folder, source, form)


def cuts(rows: int, shards: int) -> list[tuple[int, int]]:
    """First and last row of each shard, as even as can be; some are empty if rows are few."""
    bounds = [rows * i // shards for i in range(shards + 1)]
    return list(pairwise(bounds))


def _batches(
    connection: duckdb.DuckDBPyConnection, source: Source, expression: str
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The columns of the rows, and the rows."""
    sql = source.select(expression)
    reader = connection.execute(sql, source.parameters or None).to_arrow_reader(_BATCH_ROWS)
    return reader.schema, reader if source.seed is None else _shuffled(reader, source.seed)


def _shuffled(batches: Iterator[pa.RecordBatch], seed: str) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows = shuffled(pa.Table.from_batches([batch]), seed)
        yield from rows.combine_chunks().to_batches()


def _slice(file: Path, begin: int, end: int) -> Iterator[bytes]:
    with file.open("rb") as stream:
        stream.seek(begin)
        while begin < end and (chunk := stream.read(min(_CHUNK, end - begin))):
            begin += len(chunk)
            yield chunk


def _with_head(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _gzipped(plain: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    for chunk in plain:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()
