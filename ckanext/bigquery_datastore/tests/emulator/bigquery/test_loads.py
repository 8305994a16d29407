"""Load jobs: BigQuery's options, all rows or none (facts, section 7)."""

from __future__ import annotations

import datetime
import gzip
import io
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError, NotFound
from google.cloud import bigquery, storage
from google.cloud.bigquery import SchemaField

from ..conftest import LOCATION, run

A_AND_B = [SchemaField("a", "INT64"), SchemaField("b", "STRING")]


def load(bq: bigquery.Client, dataset: str, content: bytes, **options: Any) -> bigquery.LoadJob:
    options = {"source_format": "CSV", "schema": A_AND_B, **options}
    if options["schema"] is None:
        del options["schema"]
    config = bigquery.LoadJobConfig(**options)
    job = bq.load_table_from_file(
        io.BytesIO(content), f"local.{dataset}.t", job_config=config, location=LOCATION
    )
    job.result()
    return job


def rows(bq: bigquery.Client, dataset: str) -> list[tuple[Any, ...]]:
    """The table's rows, by their values."""
    found = [tuple(row) for row in bq.list_rows(f"local.{dataset}.t")]
    return sorted(found, key=lambda row: [(value is None, str(value)) for value in row])


CSVS: dict[str, tuple[bytes, dict[str, Any], list[tuple[Any, ...]]]] = {
    "plain": (b"1,x\n2,\n", {}, [(1, "x"), (2, None)]),
    "empty text": (b'1,""\n2,\n', {}, [(1, ""), (2, None)]),
    "header": (b"a,b\n1,x\n", {"skip_leading_rows": 1}, [(1, "x")]),
    "null marker": (b"NA,NA\n2,x\n", {"null_marker": "NA"}, [(None, None), (2, "x")]),
    "tab": (b"1\ta,b\n", {"field_delimiter": "\t"}, [(1, "a,b")]),
    "quotes": (b'1,"say ""hi"", you"\n', {}, [(1, 'say "hi", you')]),
    "quoted line end": (b'1,"x\ny"\n', {"allow_quoted_newlines": True}, [(1, "x\ny")]),
    "gzipped": (gzip.compress(b"1,x\n"), {}, [(1, "x")]),
    "unicode": ("1,ä€😀\n".encode(), {}, [(1, "ä€😀")]),
    "CRLF": (b"1,x\r\n2,y\r\n", {}, [(1, "x"), (2, "y")]),
    "nothing": (b"", {}, []),
    "jagged": (b"1\n2,y\n", {"allow_jagged_rows": True}, [(1, None), (2, "y")]),
}


@pytest.mark.parametrize("case", CSVS)
def test_csv_is_read_as_bigquery_reads_it(bq: bigquery.Client, dataset: str, case: str) -> None:
    content, options, expected = CSVS[case]
    job = load(bq, dataset, content, **options)
    assert job.output_rows == len(expected)
    assert sorted(rows(bq, dataset), key=str) == sorted(expected, key=str)


BAD = {
    "wrong type": (b"1,x\nzz,y\n", "Could not parse 'zz' as INT64 for field a .* in row 2"),
    "too many": (b"1,x\n1,2,3\n", "Too many values in line. Row 2. Found 3 column"),
    "too few": (b"1,x\n1\n", "line contains only 1 columns. Row 2."),
    "line end in quotes": (b'1,"x\ny"\n', "Missing close quote character"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_and_nothing_is_loaded(
    bq: bigquery.Client, dataset: str, case: str
) -> None:
    load(bq, dataset, b"7,kept\n")
    before = bq.get_table(f"local.{dataset}.t")
    content, words = BAD[case]
    with pytest.raises(BadRequest, match=words) as caught:
        load(bq, dataset, content)
    assert "Error while reading data, error message: " in caught.value.message
    after = bq.get_table(f"local.{dataset}.t")
    assert rows(bq, dataset) == [(7, "kept")]
    assert after.modified == before.modified


def test_a_load_moves_the_modified_time_and_the_row_count(
    bq: bigquery.Client, dataset: str
) -> None:
    load(bq, dataset, b"1,x\n")
    before = bq.get_table(f"local.{dataset}.t")
    load(bq, dataset, b"2,y\n3,z\n")
    after = bq.get_table(f"local.{dataset}.t")
    assert (before.num_rows, after.num_rows) == (1, 3)
    assert after.modified > before.modified


def test_the_write_disposition_is_kept_to(bq: bigquery.Client, dataset: str) -> None:
    load(bq, dataset, b"1,x\n")
    load(bq, dataset, b"2,y\n", write_disposition="WRITE_TRUNCATE")
    assert rows(bq, dataset) == [(2, "y")]
    with pytest.raises(Conflict):
        load(bq, dataset, b"3,z\n", write_disposition="WRITE_EMPTY")
    with pytest.raises(BadRequest, match="Cannot add fields"):
        load(bq, dataset, b"3,z,1\n", schema=[*A_AND_B, SchemaField("c", "INT64")])
    load(
        bq,
        dataset,
        b"3,z,1\n",
        schema=[*A_AND_B, SchemaField("c", "INT64")],
        schema_update_options=["ALLOW_FIELD_ADDITION"],
    )
    assert rows(bq, dataset) == [(2, "y", None), (3, "z", 1)]


def test_a_schema_is_detected(bq: bigquery.Client, dataset: str) -> None:
    content = b"n,when,word,yes,day,x\n1,2020-01-01T00:00:00Z,a,true,2020-01-01,1.5\n2,,b,,,\n"
    load(bq, dataset, content, schema=None, autodetect=True)
    fields = bq.get_table(f"local.{dataset}.t").schema
    assert [(field.name, field.field_type) for field in fields] == [
        ("n", "INTEGER"),
        ("when", "TIMESTAMP"),
        ("word", "STRING"),
        ("yes", "BOOLEAN"),
        ("day", "DATE"),
        ("x", "FLOAT"),
    ]


# https://cloud.google.com/bigquery/docs/schema-detect
DETECTED = {
    "codes are numbers": (b"code,n\n01067,1\n00500,2.5\n", {}, ["code INTEGER", "n FLOAT"]),
    "no header": (b"x,1\ny,2\n", {}, ["string_field_0 STRING", "int64_field_1 INTEGER"]),
    "all of it text": (b"a,b\nc,d\n", {}, ["string_field_0 STRING", "string_field_1 STRING"]),
    "a text below": (b"a,b\n1,2\n1,N\n", {}, ["a INTEGER", "b STRING"]),
    "told to have none": (
        b"a,1\nb,2\n",
        {"skip_leading_rows": 0},
        ["string_field_0 STRING", "int64_field_1 INTEGER"],
    ),
    "told to skip": (b"# note\na,b\n1,x\n", {"skip_leading_rows": 2}, ["a INTEGER", "b STRING"]),
    "beyond the sample": (b"n,s\n" + b"1,a\n" * 500 + b"x,a\n", {}, None),
}


@pytest.mark.parametrize("case", DETECTED)
def test_types_and_header_are_told_from_the_first_rows(
    bq: bigquery.Client, dataset: str, case: str
) -> None:
    content, options, columns = DETECTED[case]
    if columns is None:
        with pytest.raises(BadRequest, match="Could not parse 'x' as INT64 for field n"):
            load(bq, dataset, content, schema=None, autodetect=True, **options)
        return
    load(bq, dataset, content, schema=None, autodetect=True, **options)
    fields = bq.get_table(f"local.{dataset}.t").schema
    assert [f"{field.name} {field.field_type}" for field in fields] == columns


def test_strings_of_json_are_read_as_what_they_look_like(bq: bigquery.Client, dataset: str) -> None:
    content = b'{"code": "01067", "b": true}\n{"code": "7", "day": "2024-02-29", "s": "x"}\n'
    how = {"source_format": "NEWLINE_DELIMITED_JSON", "schema": None, "autodetect": True}
    load(bq, dataset, content, **how)
    fields = bq.get_table(f"local.{dataset}.t").schema
    kinds = {"code": "INTEGER", "b": "BOOLEAN", "day": "DATE", "s": "STRING"}
    assert {field.name: field.field_type for field in fields} == kinds
    with pytest.raises(GoogleAPICallError, match="nested field o: give a schema"):
        load(bq, dataset, b'{"o": {"a": 1}}\n', write_disposition="WRITE_TRUNCATE", **how)


def test_without_schema_and_table_there_is_no_load(bq: bigquery.Client, dataset: str) -> None:
    with pytest.raises(BadRequest, match="No schema specified on job or table"):
        load(bq, dataset, b"1,x\n", schema=None)
    with pytest.raises(NotFound, match="Not found: Dataset local:nowhere"):
        load(bq, "nowhere", b"1,x\n")


EVERY_TYPE = [
    SchemaField("i", "INT64"),
    SchemaField("f", "FLOAT64"),
    SchemaField("b", "BOOL"),
    SchemaField("s", "STRING"),
    SchemaField("y", "BYTES"),
    SchemaField("n", "NUMERIC"),
    SchemaField("bn", "BIGNUMERIC"),
    SchemaField("d", "DATE"),
    SchemaField("t", "TIME"),
    SchemaField("dt", "DATETIME"),
    SchemaField("ts", "TIMESTAMP"),
    SchemaField("j", "JSON"),
    SchemaField("g", "GEOGRAPHY"),
    SchemaField("many", "STRING", "REPEATED"),
    SchemaField("st", "RECORD", fields=A_AND_B),
]


def test_json_rows_of_every_type_come_back_as_they_were(bq: bigquery.Client, dataset: str) -> None:
    row = {
        "i": 9007199254740993,
        "f": 1.5,
        "b": True,
        "s": 'ä"b,\nc',
        "y": "AQID",
        "n": "1.5",
        "bn": "2.25",
        "d": "2020-01-02",
        "t": "03:04:05.5",
        "dt": "2020-01-02T03:04:05",
        "ts": "2020-01-02T03:04:05.123Z",
        "j": {"k": [1, None]},
        "g": "POINT(1 2)",
        "many": ["a", "b"],
        "st": {"a": 1, "b": "q"},
    }
    config = bigquery.LoadJobConfig(schema=EVERY_TYPE)
    job = bq.load_table_from_json([row, {"i": "5"}, {}], f"local.{dataset}.t", job_config=config)
    job.result()
    sql = f"SELECT * FROM `{dataset}.t` ORDER BY i DESC"
    first, second, third = (dict(found) for found in run(bq, sql).result())
    utc = datetime.timezone.utc
    assert first == {
        "i": 9007199254740993,
        "f": 1.5,
        "b": True,
        "s": 'ä"b,\nc',
        "y": b"\x01\x02\x03",
        "n": Decimal("1.5"),
        "bn": Decimal("2.25"),
        "d": datetime.date(2020, 1, 2),
        "t": datetime.time(3, 4, 5, 500000),
        "dt": datetime.datetime(2020, 1, 2, 3, 4, 5),
        "ts": datetime.datetime(2020, 1, 2, 3, 4, 5, 123000, tzinfo=utc),
        "j": {"k": [1, None]},
        "g": "POINT(1 2)",
        "many": ["a", "b"],
        "st": {"a": 1, "b": "q"},
    }
    assert (second["i"], second["many"], third["i"]) == (5, [], None)


def test_a_parquet_file_brings_its_schema(bq: bigquery.Client, dataset: str) -> None:
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", None]}), stream)
    load(bq, dataset, stream.getvalue(), source_format="PARQUET", schema=None)
    assert rows(bq, dataset) == [(1, "x"), (2, None)]


def test_a_large_file_comes_in_pieces(bq: bigquery.Client, dataset: str) -> None:
    line = b"1," + b"x" * 998 + b"\n"
    load(bq, dataset, line * 12_000)  # 12 MB: more than the client sends in one request
    assert bq.get_table(f"local.{dataset}.t").num_rows == 12_000


def test_files_come_from_cloud_storage(
    bq: bigquery.Client, bucket: storage.Bucket, dataset: str, fresh: str
) -> None:
    bucket.blob(f"{fresh}/one.csv").upload_from_string("1,x\n")
    bucket.blob(f"{fresh}/two.csv.gz").upload_from_string(gzip.compress(b"2,y\n"))
    config = bigquery.LoadJobConfig(source_format="CSV", schema=A_AND_B)
    target = f"local.{dataset}.t"
    bq.load_table_from_uri(f"gs://exports/{fresh}/*", target, job_config=config).result()
    assert sorted(rows(bq, dataset)) == [(1, "x"), (2, "y")]
    with pytest.raises(NotFound, match=r"Not found: URI gs://exports/nothing\.csv"):
        bq.load_table_from_uri("gs://exports/nothing.csv", target, job_config=config).result()


def test_a_query_result_is_loaded_rows_and_all(bq: bigquery.Client, dataset: str) -> None:
    load(bq, dataset, b"1,x\n2,y\n")
    sql = f"SELECT COUNT(*) AS n, MAX(b) AS last FROM `{dataset}.t`"
    assert [dict(row) for row in run(bq, sql).result()] == [{"n": 2, "last": "y"}]


def test_lines_that_no_columns_can_be_found_in_fail_the_job(
    bq: bigquery.Client, dataset: str
) -> None:
    with pytest.raises(BadRequest, match="Error while reading data"):
        load(bq, dataset, b"n,a,b\n1,2,3\n2,3\n", schema=None, autodetect=True, skip_leading_rows=1)
