"""EXPORT DATA: rules, files and bytes as BigQuery's (facts, section 1)."""

from __future__ import annotations

import base64
import gzip
import io
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery, storage

from ..conftest import LOCATION, Emulator, run, until

ALL_TYPES = """
SELECT 1 AS pos, 9007199254740993 AS i, TRUE AS b, 'plain' AS s, b'\\x01\\x02\\x03' AS y,
  NUMERIC '1.50' AS n, DATE '2020-01-02' AS d, TIMESTAMP '2014-11-10 13:12:06.5+00' AS ts
UNION ALL SELECT 2, -1, FALSE, 'a,"b"<c>&', b'', NUMERIC '10', DATE '1999-12-31',
  TIMESTAMP '2014-11-10 13:12:06+00'
UNION ALL SELECT 3, NULL, NULL, '', NULL, NULL, NULL, TIMESTAMP '2020-01-01 00:00:00.123456+00'
UNION ALL SELECT 4, 0, NULL, 'two\\nlines', NULL, NULL, NULL, NULL
UNION ALL SELECT 5, 0, NULL, NULL, NULL, NULL, NULL, NULL
ORDER BY pos
"""


def export(
    bq: bigquery.Client,
    prefix: str,
    select: str,
    form: str = "CSV",
    more: str = "",
    shards: int | None = None,
    **options: object,
) -> bigquery.QueryJob:
    labels = {} if shards is None else {"emulator_shards": str(shards)}
    uri = f"gs://exports/{prefix}/part-*.{form.lower()}"
    sql = f"EXPORT DATA OPTIONS(uri='{uri}', format='{form}'{more}) AS {select}"
    return run(bq, sql, labels=labels, **options)


def files(bucket: storage.Bucket, prefix: str) -> list[bytes]:
    return [blob.download_as_bytes() for blob in bucket.list_blobs(prefix=f"{prefix}/")]


def counts(job: bigquery.QueryJob) -> dict[str, str]:
    found: dict[str, str] = job._properties["statistics"]["query"]["exportDataStatistics"]
    return found


# -- what is refused -----------------------------------------------------------------------

REFUSED = {
    "no wildcard": ("uri='gs://exports/x.csv', format='CSV'", "value must be a wild card URI"),
    "two wildcards": ("uri='gs://exports/*-*.csv', format='CSV'", "must be a wild card URI"),
    "wildcard in a folder": ("uri='gs://exports/*/x.csv', format='CSV'", "must be a wild card URI"),
    "no uri": ("format='CSV'", "Option 'uri' is missing or empty."),
    "empty uri": ("uri='', format='CSV'", "Option 'uri' is missing or empty."),
    "unknown format": (
        "uri='gs://exports/x-*.orc', format='ORC'",
        "'ORC' is not a valid value; failed to set 'format' in EXPORT DATA OPTIONS",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_wrong_statement_is_refused_in_bigquerys_words(bq: bigquery.Client, mistake: str) -> None:
    options, words = REFUSED[mistake]
    with pytest.raises(BadRequest) as caught:
        run(bq, f"EXPORT DATA OPTIONS({options}) AS SELECT 1 AS a")
    assert words in caught.value.message
    assert caught.value.errors[0]["reason"] == "invalidQuery"


def test_a_missing_bucket_is_not_found(bq: bigquery.Client) -> None:
    with pytest.raises(NotFound, match="Not found: bucket nowhere"):
        run(bq, "EXPORT DATA OPTIONS(uri='gs://nowhere/*.csv', format='CSV') AS SELECT 1 AS a")


def test_files_that_are_there_are_overwritten_only_on_demand(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str
) -> None:
    export(bq, fresh, "SELECT 1 AS a", shards=3)
    with pytest.raises(BadRequest, match="overwrite=true"):
        export(bq, fresh, "SELECT 2 AS a")
    export(bq, fresh, "SELECT 2 AS a", more=", overwrite=true", shards=1)
    # The first shard is new, the other two are of the run before: nothing is ever deleted.
    assert files(bucket, fresh) == [b"2\n", b"", b"1\n"]


def test_nested_columns_do_not_fit_into_csv(bq: bigquery.Client, fresh: str) -> None:
    message = "Operation cannot be performed on a nested schema. Field: many"
    with pytest.raises(BadRequest, match=message):
        export(bq, fresh, "SELECT 1 AS a, [1, 2] AS many")


# -- how many files ------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 101, 300])
def test_rows_are_spread_in_order_over_as_many_shards_as_wanted(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str, shards: int
) -> None:
    rows = "SELECT x FROM UNNEST(GENERATE_ARRAY(1, 200)) AS x ORDER BY x DESC"
    job = export(bq, fresh, rows, shards=shards)
    assert counts(job) == {"fileCount": str(shards), "rowCount": "200"}
    assert [blob.name for blob in bucket.list_blobs(prefix=f"{fresh}/")] == [
        f"{fresh}/part-{index:012d}.csv" for index in range(shards)
    ]
    found = files(bucket, fresh)
    assert b"".join(found) == "".join(f"{x}\n" for x in range(200, 0, -1)).encode()
    assert (b"" in found) is (shards > 200)


@pytest.mark.parametrize("form", ["CSV", "JSON"])
def test_no_rows_give_one_empty_file(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str, form: str
) -> None:
    job = export(bq, fresh, "SELECT 1 AS a FROM UNNEST([1]) WHERE FALSE", form)
    assert counts(job) == {"fileCount": "1", "rowCount": "0"}
    assert files(bucket, fresh) == [b""]


def test_an_empty_parquet_shard_is_a_file_with_the_schema(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str
) -> None:
    export(bq, fresh, "SELECT 1 AS a, 'x' AS s", "PARQUET", shards=2)
    empty, full = (pq.read_table(io.BytesIO(data)) for data in files(bucket, fresh))
    assert (empty.num_rows, full.num_rows) == (0, 1)
    assert empty.schema.names == ["a", "s"]
    assert empty.schema == full.schema


def test_the_admin_api_sets_how_many_shards_there_are(
    emulator: Emulator, bq: bigquery.Client, bucket: storage.Bucket, fresh: str
) -> None:
    emulator.admin("PUT", "defaults", {"shards": 4})
    export(bq, fresh, "SELECT 1 AS a")
    assert len(files(bucket, fresh)) == 4


# -- bytes ---------------------------------------------------------------------------------


def test_csv_has_bigquerys_bytes(bq: bigquery.Client, bucket: storage.Bucket, fresh: str) -> None:
    export(bq, fresh, ALL_TYPES)
    assert files(bucket, fresh) == [
        b"1,9007199254740993,true,plain,AQID,1.5,2020-01-02,2014-11-10 13:12:06.5 UTC\n"
        b'2,-1,false,"a,""b""<c>&",,10,1999-12-31,2014-11-10 13:12:06 UTC\n'
        b'3,,,"",,,,2020-01-01 00:00:00.123456 UTC\n'
        b'4,0,,"two\nlines",,,,\n'
        b"5,0,,,,,,\n"
    ]


def test_json_has_bigquerys_bytes(bq: bigquery.Client, bucket: storage.Bucket, fresh: str) -> None:
    export(bq, fresh, ALL_TYPES, "JSON")
    assert files(bucket, fresh) == [
        b'{"pos":"1","i":"9007199254740993","b":true,"s":"plain","y":"AQID","n":"1.5",'
        b'"d":"2020-01-02","ts":"2014-11-10 13:12:06.5 UTC"}\n'
        b'{"pos":"2","i":"-1","b":false,"s":"a,\\"b\\"\\u003cc\\u003e\\u0026","y":"","n":"10",'
        b'"d":"1999-12-31","ts":"2014-11-10 13:12:06 UTC"}\n'
        b'{"pos":"3","s":"","ts":"2020-01-01 00:00:00.123456 UTC"}\n'
        b'{"pos":"4","i":"0","s":"two\\nlines"}\n'
        b'{"pos":"5","i":"0"}\n'
    ]


def test_json_holds_nested_and_repeated_columns(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str
) -> None:
    export(
        bq,
        fresh,
        "SELECT [1, 2] AS many, STRUCT('q' AS x, [STRUCT(TRUE AS z)] AS y) AS st, "
        "JSON '{\"k\": [1, null]}' AS j, 1.5 AS f, ST_GEOGPOINT(1, 2) AS g",
        "JSON",
    )
    assert files(bucket, fresh) == [
        b'{"many":["1","2"],"st":{"x":"q","y":[{"z":true}]},"j":{"k":[1,null]},"f":1.5,'
        b'"g":"POINT(1 2)"}\n'
    ]


def test_a_header_stands_in_every_file(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str
) -> None:
    rows = "SELECT x AS `a b`, 1 FROM UNNEST([1, 2]) AS x ORDER BY x"
    export(bq, fresh, rows, more=", header=true, field_delimiter='\\t'", shards=2)
    assert files(bucket, fresh) == [b"a b\tf0_\n1\t1\n", b"a b\tf0_\n2\t1\n"]


@pytest.mark.parametrize("form", ["CSV", "JSON"])
def test_gzipped_shards_are_members_of_one_file_without_content_encoding(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str, form: str
) -> None:
    rows = "SELECT x FROM UNNEST([1, 2, 3]) AS x ORDER BY x"
    export(bq, f"{fresh}/plain", rows, form)
    export(bq, f"{fresh}/gz", rows, form, ", compression='GZIP'", shards=5)
    plain, packed = files(bucket, f"{fresh}/plain"), files(bucket, f"{fresh}/gz")
    assert gzip.decompress(b"".join(packed)) == b"".join(plain)
    blob = next(iter(bucket.list_blobs(prefix=f"{fresh}/gz/")))
    assert (blob.content_type, blob.content_encoding) == ("application/octet-stream", None)


def test_parquet_has_the_documented_types(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str
) -> None:
    export(
        bq,
        fresh,
        "SELECT 1 AS i, NUMERIC '1.5' AS n, BIGNUMERIC '2.5' AS bn, 1.5 AS f, 'x' AS s, "
        "JSON '{\"a\":1}' AS j, DATE '2020-01-02' AS d, DATETIME '2020-01-02 03:04:05' AS dt, "
        "TIMESTAMP '2020-01-02 03:04:05.5+00' AS ts, TIME '03:04:05' AS t, b'abc' AS y, TRUE AS b, "
        "[1, 2] AS many",
        "PARQUET",
        ", compression='SNAPPY'",
    )
    (data,) = files(bucket, fresh)
    parquet = pq.ParquetFile(io.BytesIO(data))
    logical = {
        parquet.schema.column(index).path: str(parquet.schema.column(index).logical_type)
        for index in range(len(parquet.schema))
    }
    assert logical["n"] == "Decimal(precision=38, scale=9)"
    assert logical["bn"] == "Decimal(precision=76, scale=38)"
    assert logical["s"] == logical["j"] == "String"
    assert logical["d"] == "Date"
    for name in ("dt", "ts"):
        assert "isAdjustedToUTC=false, timeUnit=microseconds" in logical[name]
    assert logical["t"] == "Time(isAdjustedToUTC=true, timeUnit=microseconds)"
    assert parquet.schema.column(0).physical_type == "INT64"
    assert parquet.metadata.row_group(0).column(0).compression == "SNAPPY"
    (row,) = parquet.read().to_pylist()
    assert (row["j"], str(row["bn"]).rstrip("0"), row["many"]) == ('{"a":1}', "2.5", [1, 2])
    assert row["ts"].isoformat() == "2020-01-02T03:04:05.500000"


# -- parameters, time, size ----------------------------------------------------------------


def test_query_parameters_reach_an_export(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str
) -> None:
    names = ["x", "it's", "", "ü"]
    parameter = bigquery.ArrayQueryParameter("names", "STRING", names)
    sql = "SELECT n FROM UNNEST(@names) AS n ORDER BY n"
    export(bq, fresh, sql, query_parameters=[parameter])
    assert files(bucket, fresh) == ['""\nit\'s\nx\nü\n'.encode()]


def test_the_shards_appear_one_after_another_and_all_before_the_end(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str
) -> None:
    sql = (
        f"EXPORT DATA OPTIONS(uri='gs://exports/{fresh}/p-*.csv', format='CSV') AS "
        "SELECT x FROM UNNEST(GENERATE_ARRAY(1, 10)) AS x"
    )
    labels = {"emulator_run_seconds": "1", "emulator_shards": "10"}
    job = bq.query(
        sql, job_config=bigquery.QueryJobConfig(labels=labels), location=LOCATION, job_retry=None
    )
    seen = set()
    while bq.get_job(job.job_id).state != "DONE":
        seen.add(len(files(bucket, fresh)))
        time.sleep(0.05)
    assert len(seen) > 3
    assert len(files(bucket, fresh)) == 10


def test_an_export_reads_the_data_of_its_start(
    bq: bigquery.Client, bucket: storage.Bucket, dataset: str, fresh: str
) -> None:
    run(bq, f"CREATE TABLE `{dataset}.t` AS SELECT 1 AS a")
    sql = (
        f"EXPORT DATA OPTIONS(uri='gs://exports/{fresh}/p-*.csv', format='CSV') AS "
        f"SELECT a FROM `{dataset}.t`"
    )
    labels = {"emulator_run_seconds": "600ms"}
    job = bq.query(
        sql, job_config=bigquery.QueryJobConfig(labels=labels), location=LOCATION, job_retry=None
    )
    # Half of the run time is over: the rows were read at its beginning.
    until(lambda: (bq.get_job(job.job_id).timeline or [None])[-1].completed_units >= 50)
    run(bq, f"INSERT INTO `{dataset}.t` (a) VALUES (2)")
    job.result()
    assert files(bucket, fresh) == [b"1\n"]


def test_a_cancelled_export_leaves_the_shards_that_it_had_written(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str
) -> None:
    sql = f"EXPORT DATA OPTIONS(uri='gs://exports/{fresh}/p-*.csv', format='CSV') AS SELECT 1 AS a"
    labels = {"emulator_run_seconds": "20", "emulator_shards": "100"}
    job = bq.query(sql, job_config=bigquery.QueryJobConfig(labels=labels), location=LOCATION)
    until(lambda: len(files(bucket, fresh)) >= 2)
    job.cancel()
    until(lambda: bq.get_job(job.job_id).state == "DONE")
    assert bq.get_job(job.job_id).error_result["reason"] == "stopped"
    assert 2 <= len(files(bucket, fresh)) < 100


# -- extract jobs --------------------------------------------------------------------------


@pytest.fixture
def table(bq: bigquery.Client, dataset: str) -> str:
    run(bq, f"CREATE TABLE `{dataset}.t` AS SELECT 1 AS a, 'x' AS s")
    return f"local.{dataset}.t"


def extract(
    bq: bigquery.Client, table: str, uris: list[str], **options: object
) -> bigquery.ExtractJob:
    config = bigquery.ExtractJobConfig(**options)
    job = bq.extract_table(table, uris, job_config=config, location=LOCATION)
    job.result()
    return job


EXTRACTS = {
    "csv": ({}, b"a,s\n1,x\n"),
    "csv without header": ({"print_header": False, "field_delimiter": "\t"}, b"1\tx\n"),
    "ndjson": (
        {"destination_format": "NEWLINE_DELIMITED_JSON"},
        b'{"a":"1","s":"x"}\n',
    ),
}


@pytest.mark.parametrize("kind", EXTRACTS)
def test_a_table_is_extracted(
    bq: bigquery.Client, bucket: storage.Bucket, table: str, fresh: str, kind: str
) -> None:
    options, content = EXTRACTS[kind]
    job = extract(bq, table, [f"gs://exports/{fresh}/x-*", f"gs://exports/{fresh}/y"], **options)
    assert job.destination_uri_file_counts == [1, 1]
    names = [blob.name for blob in bucket.list_blobs(prefix=fresh)]
    assert names == [f"{fresh}/x-000000000000", f"{fresh}/y"]
    assert content in files(bucket, fresh)


def test_a_table_is_extracted_as_parquet_and_as_gzip(
    bq: bigquery.Client, bucket: storage.Bucket, table: str, fresh: str
) -> None:
    extract(bq, table, [f"gs://exports/{fresh}/p"], destination_format="PARQUET")
    data = bucket.blob(f"{fresh}/p").download_as_bytes()
    assert pq.read_table(io.BytesIO(data)).equals(
        pa.table({"a": pa.array([1]), "s": pa.array(["x"])})
    )
    extract(bq, table, [f"gs://exports/{fresh}/g"], compression="GZIP")
    packed = bucket.blob(f"{fresh}/g").download_as_bytes(raw_download=True)
    assert gzip.decompress(packed) == b"a,s\n1,x\n"


def test_a_view_is_not_extracted(bq: bigquery.Client, table: str, dataset: str) -> None:
    run(bq, f"CREATE VIEW `{dataset}.v` AS SELECT * FROM `{table}`")
    with pytest.raises(BadRequest, match="VIEW"):
        extract(bq, f"local.{dataset}.v", ["gs://exports/v"])


def test_the_checksums_of_a_shard_are_right(
    bq: bigquery.Client, bucket: storage.Bucket, fresh: str
) -> None:
    export(bq, fresh, "SELECT 1 AS a")
    (blob,) = bucket.list_blobs(prefix=fresh)
    assert base64.b64decode(blob.md5_hash).hex() == "b026324c6904b2a9cb4b88d6d61c81d1"
