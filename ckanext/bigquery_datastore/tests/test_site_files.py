"""What a site may choose of its files: line ends of CSV and TSV, compression of Parquet."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
import requests
from ckan.tests import factories, helpers

from ckanext.bigquery_datastore import config

pytestmark = pytest.mark.usefixtures(
    "non_clean_db", "datastore", "with_plugins", "nothing_remembered"
)

FIELDS = [
    {"id": "a 'name'", "type": "text"},
    {"id": "number", "type": "int"},
    {"id": "day", "type": "date"},
    {"id": "share", "type": "float8"},
]
HEADER = ["_id", *(field["id"] for field in FIELDS)]
TEXTS = ["plain", 'a "quoted" text', "comma, here", "two\nlines", "carriage\r\nreturn", ""]


@pytest.fixture()
def resource_id() -> str:
    found = factories.Resource()["id"]
    records = [
        dict(zip(HEADER[1:], (TEXTS[n % 6], n, "2024-02-29", n / 8), strict=True))
        for n in range(60)
    ]
    helpers.call_action(
        "datastore_create", resource_id=found, force=True, fields=FIELDS, records=records
    )
    return found


def fetched(app, resource_id: str, query: str) -> bytes:
    answer = app.get(f"/datastore/dump/{resource_id}?{query}", follow_redirects=False)
    if answer.status_code == 302:
        return requests.get(answer.location, timeout=30).content
    assert answer.status_code == 200, answer.data
    return answer.data


def test_a_file_has_one_kind_of_line_end_and_its_other_kind_is_another_file(
    app, resource_id, monkeypatch
):
    queries = ["format=csv", "format=tsv", "format=csv&bom=true", "format=csv&limit=7"]
    ours = [fetched(app, resource_id, query) for query in queries]
    compressed = fetched(app, resource_id, "format=csv.gz")
    tags = app.get(f"/datastore/dump/{resource_id}", follow_redirects=False).headers["ETag"]
    assert gzip.decompress(compressed) == ours[0]
    monkeypatch.setattr(config, "core_line_ends", lambda: True)
    for query, our in zip(queries, ours, strict=True):
        delimiter = "\t" if "tsv" in query else ","
        line = io.StringIO()
        csv.writer(line, delimiter=delimiter).writerow(HEADER)
        head = b"\xef\xbb\xbf" * ("bom" in query) + line.getvalue().encode()
        assert our.startswith(head.removesuffix(b"\r\n") + b"\n1%s" % delimiter.encode())
        # The file of the other kind is there already, and must not be taken for this one.
        assert fetched(app, resource_id, query) == our.replace(b"\n", b"\r\n", 1)
    assert fetched(app, resource_id, "format=csv.gz") == compressed
    answer = app.get(f"/datastore/dump/{resource_id}", follow_redirects=False)
    assert answer.headers["ETag"] != tags


def test_duckdb_reads_our_csv_without_being_told_anything(app, resource_id, tmp_path: Path):
    file = tmp_path / "file.csv"
    file.write_bytes(fetched(app, resource_id, "format=csv"))
    found = duckdb.sql(f"FROM '{file}'")
    types = ["BIGINT", "VARCHAR", "BIGINT", "DATE", "DOUBLE"]
    assert (found.columns, [str(kind) for kind in found.types]) == (HEADER, types)
    rows = found.order("_id").fetchall()
    assert [row[1] for row in rows[:5]] == TEXTS[:5]
    assert rows[9] == (10, "two\nlines", 9, dt.date(2024, 2, 29), 1.125)
    assert len(rows) == 60


def test_columns_of_parquet_are_compressed_as_the_site_wants_it(app, resource_id, monkeypatch):
    for codec in ("SNAPPY", "ZSTD"):
        monkeypatch.setattr(config, "parquet_compression", lambda codec=codec: codec)
        # The other one's file is there already for this very table.
        file = pq.ParquetFile(io.BytesIO(fetched(app, resource_id, "format=parquet")))
        assert file.metadata.row_group(0).column(1).compression == codec
        assert file.read().num_rows == 60
