"""Each type of BigQuery in each format, in a table that CKAN did not make."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import math
import struct
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
import requests
from ckan.tests import factories, helpers
from google.cloud import bigquery

from ckanext.bigquery_datastore import compat, config, downloads
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

Field = bigquery.SchemaField
MILLISECONDS = ".123" if compat.ms_in_timestamp() else ""

# Column, a value in SQL, and what CSV, JSON and NDJSON have for it.
TYPES: list[tuple[Field, str, str, Any, Any]] = [
    (Field("truth", "BOOL"), "true", "t", True, True),
    (Field("whole", "INT64"), "-9223372036854775808", *["-9223372036854775808"] * 3),
    (Field("real", "FLOAT64"), "-2.5e-7", "-2.5e-07", -2.5e-07, -2.5e-07),
    (Field("nan", "FLOAT64"), "CAST('NaN' AS FLOAT64)", *["NaN"] * 3),
    (Field("most", "FLOAT64"), "CAST('inf' AS FLOAT64)", *["Infinity"] * 3),
    (Field("least", "FLOAT64"), "CAST('-inf' AS FLOAT64)", *["-Infinity"] * 3),
    (Field("exact", "NUMERIC"), "NUMERIC '-1.5'", "-1.5", -1.5, "-1.5"),
    (
        Field("large", "BIGNUMERIC"),
        "CAST('12345678901234567890.12345' AS BIGNUMERIC)",
        "12345678901234567890.12345",
        12345678901234567890.12345,
        "12345678901234567890.12345",
    ),
    (Field("text", "STRING"), "'a \"b\", 🙂\\n<c>'", *['a "b", 🙂\n<c>'] * 3),
    (Field("empty", "STRING"), "''", "", "", ""),
    (Field("raw", "BYTES"), "b'ab'", *["YWI="] * 3),
    (Field("day", "DATE"), "DATE '0001-02-03'", *["0001-02-03"] * 3),
    (Field("clock", "TIME"), "TIME '23:59:59.999999'", *["23:59:59.999999"] * 3),
    (
        Field("local", "DATETIME"),
        "DATETIME '2024-02-29 12:00:00.123456'",
        *[f"2024-02-29T12:00:00{MILLISECONDS}"] * 2,
        "2024-02-29T12:00:00.123456",
    ),
    (
        Field("moment", "TIMESTAMP"),
        "TIMESTAMP '2024-02-29 12:00:00.123456+00'",
        "2024-02-29 12:00:00.123456+00",
        "2024-02-29T12:00:00.123456+00:00",
        "2024-02-29 12:00:00.123456 UTC",
    ),
    (
        Field("document", "JSON"),
        "JSON '{\"a\": [1, null]}'",
        '{"a":[1,null]}',
        *[{"a": [1, None]}] * 2,
    ),
    (Field("place", "GEOGRAPHY"), "ST_GEOGPOINT(1, 2)", *["POINT(1 2)"] * 3),
    (
        Field("length", "INTERVAL"),
        "INTERVAL '1-2 3 4:5:6.5' YEAR TO SECOND",
        *["1-2 3 4:5:6.500"] * 2,
        "1-2 3 4:5:6.5",
    ),
    (Field("zero", "FLOAT64"), "CAST('-0' AS FLOAT64)", "-0", 0, -0.0),
    (
        Field("halfway", "FLOAT64"),
        "5.2990648348713776e16",
        "5.2990648348713776e+16",
        *[5.2990648348713776e16] * 2,
    ),
    (
        Field("exacts", "STRUCT", fields=[Field("n", "NUMERIC"), Field("big", "INT64")]),
        "STRUCT(NUMERIC '1.5' AS n, 9007199254740993 AS big)",
        '{"n":"1.5","big":"9007199254740993"}',
        {"n": "1.5", "big": "9007199254740993"},
        {"n": "1.5", "big": "9007199254740993"},
    ),
    (Field("word", "JSON"), "JSON '\"a\"'", '"a"', "a", "a"),
    (
        Field("span", "RANGE", range_element_type="DATE"),
        "RANGE<DATE> '[2024-01-01, 2025-01-01)'",
        *["[2024-01-01, 2025-01-01)"] * 3,
    ),
    (Field("list", "INT64", "REPEATED"), "[1, 2]", "[1,2]", [1, 2], ["1", "2"]),
    (
        Field("pair", "STRUCT", fields=[Field("a", "INT64"), Field("b", "STRING")]),
        "STRUCT(1 AS a, 'b' AS b)",
        '{"a":1,"b":"b"}',
        {"a": 1, "b": "b"},
        {"a": "1", "b": "b"},
    ),
    (
        Field("pairs", "STRUCT", "REPEATED", fields=[Field("a", "INT64")]),
        "[STRUCT(1 AS a)]",
        '[{"a":1}]',
        [{"a": 1}],
        [{"a": "1"}],
    ),
]
NAMES = [row[0].name for row in TYPES]
NULLABLE = [name for name in NAMES if name not in ("list", "pairs")]


@pytest.fixture
def table() -> str:
    """A resource with a row in which each type has a value, and one in which each is NULL."""
    downloads.TABLES.clear()
    place = Place(config.dataset(), config.export_bucket())
    resource_id = factories.Resource()["id"]
    name = f"{place.bigquery.project}.{place.dataset}.{resource_id}"
    place.bigquery.create_table(bigquery.Table(name, schema=[row[0] for row in TYPES]))
    values = ", ".join(f"{row[1]} AS `{row[0].name}`" for row in TYPES)
    place.bigquery.query(f"INSERT `{name}` SELECT {values}").result()
    # BigQuery knows no ARRAY that is NULL.
    place.bigquery.query(f"INSERT `{name}` (list, pairs) VALUES ([], [])").result()
    return resource_id


def dumped(app, table: str, format_name: str) -> bytes:
    # NULLs come last.
    answer = app.get(
        f"/datastore/dump/{table}?format={format_name}&sort=truth", follow_redirects=False
    )
    assert answer.status_code in (200, 302), answer.body
    if answer.status_code == 200:
        return answer.data
    return requests.get(answer.location, timeout=30).content


@pytest.mark.parametrize("format_name", ["csv", "tsv", "csv.gz", "tsv.gz"])
def test_text_formats_have_a_text_for_each_type(app, table, format_name):
    data = dumped(app, table, format_name)
    data = gzip.decompress(data) if format_name.endswith(".gz") else data
    delimiter = "\t" if format_name.startswith("tsv") else ","
    header, values, nulls = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter)
    assert header == NAMES
    assert dict(zip(NAMES, values, strict=True)) == {row[0].name: row[2] for row in TYPES}
    assert dict(zip(NAMES, nulls, strict=True)) == {
        **dict.fromkeys(NULLABLE, ""),
        "list": "[]",
        "pairs": "[]",
    }


def test_an_empty_text_and_a_null_differ_in_csv(app, table):
    lines = dumped(app, table, "csv").decode().split("\n")
    assert ',"",YWI=' in "\n".join(lines[1:3])
    assert lines[3].startswith(",,,,")


def test_json_has_values_for_numbers_and_documents_and_texts_for_the_rest(app, table):
    values, nulls = json.loads(dumped(app, table, "json"))["records"]
    expected = {row[0].name: row[3] for row in TYPES} | {"whole": -9223372036854775808}
    assert dict(zip(NAMES, values, strict=True)) == expected
    assert nulls == [None if name in NULLABLE else [] for name in NAMES]


def test_xml_has_the_values_of_json(app, table):
    values, nulls = ElementTree.fromstring(dumped(app, table, "xml"))
    texts = {cell.tag: cell.text or "" for cell in values if not len(cell)}
    assert texts == {
        **{row[0].name: row[2] for row in TYPES if not isinstance(row[3], (dict, list))},
        "truth": "True",
        "large": "1.2345678901234567e+19",
        "zero": "0",
        "halfway": "5.299064834871378e+16",
        "word": "a",
        "moment": "2024-02-29T12:00:00.123456+00:00",
    }
    document = values.find("document/value[@key='a']/value[@key='0']")
    assert document is not None and document.text == "1"
    assert values.findtext("pair/value[@key='b']") == "b"
    assert values.findtext("pairs/value[@key='0']/value[@key='a']") == "1"
    assert [cell.text for cell in nulls if cell.tag in NULLABLE] == [None] * len(NULLABLE)


def test_a_search_has_the_csv_of_a_dump(app, table):
    found = helpers.call_action(
        "datastore_search", resource_id=table, records_format="csv", sort="truth"
    )
    assert found["records"] == dumped(app, table, "csv").decode().split("\n", 1)[1]


@pytest.mark.parametrize("format_name", ["ndjson", "ndjson.gz"])
def test_ndjson_has_bigquerys_own_values_with_all_their_digits(app, table, format_name):
    data = dumped(app, table, format_name)
    data = gzip.decompress(data) if format_name.endswith(".gz") else data
    values, nulls = map(json.loads, data.splitlines())
    assert values == {row[0].name: row[4] for row in TYPES}
    assert {name: value for name, value in nulls.items() if value} == {}
    assert set(nulls) <= {"list", "pairs"}


def test_parquet_has_a_type_for_each_that_readers_share_and_texts_for_the_rest(app, table):
    values, nulls = pq.read_table(io.BytesIO(dumped(app, table, "parquet"))).to_pylist()
    assert math.isnan(values.pop("nan"))
    texts = {row[0].name: row[2] for row in TYPES}
    assert values == {
        **{name: texts[name] for name in ("large", "text", "empty", "document")},
        **{name: texts[name] for name in ("length", "span", "word")},
        # GeoParquet: the point in WKB.
        "place": struct.pack("<BIdd", 1, 1, 1.0, 2.0),
        "zero": 0.0,
        "halfway": 5.2990648348713776e16,
        "exacts": {"n": Decimal("1.5"), "big": 9007199254740993},
        "truth": True,
        "whole": -9223372036854775808,
        "real": -2.5e-07,
        "most": math.inf,
        "least": -math.inf,
        "exact": Decimal("-1.5"),
        "raw": b"ab",
        "day": dt.date(1, 2, 3),
        "clock": dt.time(23, 59, 59, 999999),
        "local": dt.datetime(2024, 2, 29, 12, 0, 0, 123456),
        "moment": dt.datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=dt.timezone.utc),
        "list": [1, 2],
        "pair": {"a": 1, "b": "b"},
        "pairs": [{"a": 1}],
    }
    assert {name for name, value in nulls.items() if value is not None} <= {"list", "pairs"}
