"""What has to be so at Google, asked of the emulators; with ``pytest -m live``, of Google itself.

    BIGQUERY_LIVE_DATASET   project.dataset, of which nothing but new tables is touched
    BIGQUERY_LIVE_BUCKET    a bucket in the same location; only names below dumps/live- are used
    BIGQUERY_LIVE_LOCATION  of both; US by default

`make live` sets them, and makes the dataset. One beside it, whose tables expire, is made here.
With Application Default Credentials that may do what the README's read-write identity may. It costs
a few cents at most: every table is small.
"""

from __future__ import annotations

import functools
import io
import json
import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import google.auth
import google.auth.transport.requests
import pyarrow.parquet as pq
import pytest
import requests
from google.api_core import exceptions as gexc
from google.cloud import bigquery, storage
from google.oauth2 import service_account

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend.table.model import stored_names
from ckanext.bigquery_datastore.dump import export, pages
from ckanext.bigquery_datastore.dump.objects import Headers
from ckanext.bigquery_datastore.dump.state import Ready
from ckanext.bigquery_datastore.dump.storage import Gone, Taken
from ckanext.bigquery_datastore.tests.dump.exporting import Place, a_place

FIELDS = [
    bigquery.SchemaField(name, type_, *rest)
    for name, type_, *rest in (
        ("_id", "INT64"),
        ("text", "STRING"),
        ("int", "INT64"),
        ("float", "FLOAT64"),
        ("num", "NUMERIC"),
        ("big", "BIGNUMERIC"),
        ("bool", "BOOL"),
        ("bytes", "BYTES"),
        ("date", "DATE"),
        ("time", "TIME"),
        ("datetime", "DATETIME"),
        ("moment", "TIMESTAMP"),
        ("json", "JSON"),
        ("geo", "GEOGRAPHY"),
        ("list", "STRING", "REPEATED"),
    )
]
# Values whose text is easily got wrong: the n-th of each column is in the n-th row.
VALUES: dict[str, list[Any]] = {
    "text": [
        *("plain", "", None, 'a "quoted", text', "two\nlines", "carriage\r\nreturn\ttab"),
        *(" spaces ", "Ünï 🙂 \\. <tag>&amp;", "=1+1", "NULL"),
    ],
    "int": ["9223372036854775807", "-1", None, "0"],
    "float": [0.1, "NaN", "-Infinity", 1e20, 1.0, 5e-324, 2.5e-7, 1e15, 1.7976931348623157e308],
    "num": ["1.5", "-0.000000001", None, "100", "0"],
    "big": ["0.00000000000000000000000000000000000001", None, "5"],
    "bool": [True, False],
    "bytes": ["AP8=", "", None],
    "date": ["2024-02-29", "0001-01-01", "9999-12-31"],
    "time": ["23:59:59.999999", "00:00:00", "12:30:00.5"],
    "datetime": ["2024-02-29T12:00:00.123456", "0001-01-01T00:00:00", "2024-02-29T12:00:00"],
    "moment": ["1969-12-31T23:59:59.5Z", "9999-12-31T23:59:59.999999Z", "2024-02-29T12:00:00Z"],
    "json": [{"a": [1, None]}, ["é", '"'], 5],
    "geo": ["POINT(1 2)", None, "POINT(0 0)"],
    "list": [["a", 'b,"c"'], [], [""]],
}
# Columns of types that are easier to write in SQL.
MORE = """
    IF(_id = 1, INTERVAL '1-2 3 4:5:6.7' YEAR TO SECOND, INTERVAL -5 DAY) AS span,
    IF(_id = 1, RANGE(DATE '2024-01-01', NULL), NULL) AS period,
    IF(_id < 3, STRUCT(_id AS x, text AS y), NULL) AS pair
"""
ROWS = [
    {"_id": number + 1, **{n: v[number] for n, v in VALUES.items() if number < len(v)}}
    for number in range(10)
]


@dataclass(frozen=True)
class LivePlace(Place):
    """A dataset and a bucket at Google, with Application Default Credentials."""

    @functools.cached_property
    def bigquery(self) -> bigquery.Client:
        location = os.environ.get("BIGQUERY_LIVE_LOCATION", "US")
        return bigquery.Client(self.project, location=location)

    @functools.cached_property
    def storage(self) -> storage.Client:
        return storage.Client(self.project)


GOOGLE = pytest.param("google", marks=pytest.mark.live)


@pytest.fixture(scope="module", params=["emulators", GOOGLE])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "emulators":
        name = uuid.uuid4().hex[:12]
        with a_place(f"questions_{name}", f"questions-{name}") as found:
            yield found
        return
    project, _, dataset = os.environ["BIGQUERY_LIVE_DATASET"].partition(".")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
        patch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        yield LivePlace(dataset, os.environ["BIGQUERY_LIVE_BUCKET"], project=project)


@pytest.fixture(scope="module")
def table(place: Place) -> Iterator[str]:
    """A table with one column of each type, gone afterwards with all that was exported of it."""
    name = f"live-{uuid.uuid4().hex}"
    loaded, full = (f"{place.project}.{place.dataset}.{n}" for n in (f"{name}-loaded", name))
    job_config = bigquery.LoadJobConfig(schema=FIELDS)
    place.bigquery.load_table_from_json(ROWS, loaded, job_config=job_config).result()
    place.bigquery.query(f"CREATE TABLE `{full}` AS SELECT *, {MORE} FROM `{loaded}`").result()
    yield name
    for table in (loaded, full):
        place.bigquery.delete_table(table)
    place.store.delete(place.store.list(f"dumps/{name}/"))


@pytest.mark.parametrize("format_name", ["csv", "tsv", "json", "xml"])
def test_an_export_has_the_bytes_that_a_page_of_the_same_rows_has(place, table, format_name):
    plan = place.plan(table, format_name)
    stored = place.file(table, format_name)
    page = b"".join(pages.page(place.bigquery, plan, 60))
    assert b"".join(plan.rewritten(iter([stored]))) == page
    assert page.count(b"quoted") == 1


def test_parquet_has_the_rows_in_types_that_readers_know(place, table):
    found = pq.read_table(io.BytesIO(place.file(table, "parquet")))
    rows = {row["_id"]: row for row in found.to_pylist()}
    assert list(rows) == [row["_id"] for row in ROWS]
    assert str(found.schema.field("moment").type) == "timestamp[us, tz=UTC]"
    assert str(found.schema.field("num").type) == "decimal128(38, 9)"
    assert rows[1]["json"] == '{"a":[1,null]}'
    assert rows[1]["list"] == ["a", 'b,"c"']
    assert (rows[1]["pair"], rows[3]["pair"]) == ({"x": 1, "y": "plain"}, None)
    assert rows[2]["text"] == "" and rows[3]["text"] is None


def test_rows_are_features_and_parquet_describes_its_geographies(place, table):
    """No page of Google's says how JSON is written into a file of JSON, and what of its null."""
    found = [json.loads(line) for line in place.file(table, "geojsonl").splitlines()]
    assert [each["properties"]["_id"] for each in found] == [row["_id"] for row in ROWS]
    assert {tuple(sorted(each)) for each in found} == {("geometry", "properties", "type")}
    assert [each["geometry"] for each in found[:2]] == [
        {"type": "Point", "coordinates": [1, 2]},
        None,
    ]
    first, second = (each["properties"] for each in found[:2])
    assert (first["int"], first["num"], first["bool"]) == (2**63 - 1, 1.5, True)
    assert (first["json"], first["list"], second["float"]) == (
        {"a": [1, None]},
        ["a", 'b,"c"'],
        None,
    )
    parquet = pq.read_metadata(io.BytesIO(place.file(table, "parquet"))).metadata
    column = json.loads(parquet[b"geo"])["columns"]["geo"]
    assert (column["encoding"], column["edges"]) == ("WKB", "spherical")


def test_zero_rows_are_a_file_with_its_header(place, table):
    data = place.file(table, "csv", filters={"_id": -1}, fields=["_id", "text"])
    assert data == b"_id,text\n"


def test_many_at_once_are_one_job(place, table):
    plan = place.plan(table, "csv.gz")
    with ThreadPoolExecutor(8) as threads:
        states = list(threads.map(lambda _: place.advance(plan, 300), range(8)))
    assert all(isinstance(state, Ready) for state in states)
    # BigQuery's listings are quick, but not at once.
    wait_until(lambda: len([job for job in place.export_jobs() if plan.prefix in job.query]) == 1)


def test_a_job_id_is_good_for_one_job(place):
    name = f"ckan_live_{uuid.uuid4().hex}"
    place.bigquery.query("SELECT 1", job_id=name, job_retry=None).result()
    with pytest.raises(gexc.Conflict):
        place.bigquery.query("SELECT 1", job_id=name, job_retry=None)
    assert export.watch(place.bigquery, name).done


def test_a_change_of_rows_is_a_new_revision(place, table):
    before = place.plan(table, "csv").revision
    full = f"`{place.project}.{place.dataset}.{table}`"
    place.bigquery.query(f"UPDATE {full} SET int = int WHERE _id = 1").result()
    assert place.plan(table, "csv").revision > before


def test_a_name_is_written_once_also_by_compose(place, table):
    folder = f"dumps/{table}/probe/"
    headers = Headers("text/plain")
    parts = [place.store.create(f"{folder}{n}", b"%d" % n, headers) for n in range(2)]
    with pytest.raises(Taken):
        place.store.create(f"{folder}0", b"other", headers)
    whole = place.store.compose(f"{folder}whole", parts, headers)
    assert place.store.compose(f"{folder}whole", parts[::-1], headers) == whole
    assert place.store.read_range(whole, 0, 1) == b"01"


def test_a_file_is_renewed_without_being_another_one(place, table):
    made = place.store.create(f"dumps/{table}/renewed", b"abc", Headers("text/plain"))
    renewed = place.store.renew(made)
    found = place.store.find(made.name)
    assert found is not None
    assert (found.generation, found.created) == (made.generation, made.created)
    assert found.renewed == renewed.renewed
    assert place.store.read_range(made, 0, 2) == b"abc"
    # Who looked at it before it was renewed takes it for one that nobody uses.
    assert place.store.delete([made], if_unused=True) == 0
    with pytest.raises(Gone):
        place.store.renew(replace(made, generation=made.generation - 1))
    # What is withdrawn goes, in use or not.
    assert place.store.delete([made]) == 1


# https://cloud.google.com/bigquery/docs/schemas#column_names
HEADINGS = ("Größe _m²_", "a+b=c: 50%", "日付", "it's <1> #|&", "the year", "x-y", "٣")
NO_HEADINGS = ("Temp °C", "Preis in €", "Provider’s", "§", "№", "a.b", "_TABLE_x", "tab\there")


@pytest.mark.parametrize("name", [*HEADINGS, *NO_HEADINGS])
def test_which_names_a_column_may_have(place, name):
    known = f"{place.project}.{place.dataset}.live-{uuid.uuid4().hex}"
    wanted = bigquery.Table(known, schema=[bigquery.SchemaField(name, "STRING")])
    try:
        if name in NO_HEADINGS:
            assert stored_names([name]) != [name]
            with pytest.raises(gexc.BadRequest):
                place.bigquery.create_table(wanted)
        else:
            assert stored_names([name]) == [name]
            place.bigquery.create_table(wanted)
    finally:
        place.bigquery.delete_table(known, not_found_ok=True)


# What the columns of a loaded CSV file are told by (load.texts).
CASTS = {
    "SAFE_CAST('2.5' AS INT64)": None,
    "SAFE_CAST('9223372036854775808' AS INT64)": None,
    "SAFE_CAST('2024-02-30' AS DATE)": None,
    "CAST(SAFE_CAST('2024-05-06T07:08:09.5' AS DATETIME) AS STRING)": "2024-05-06 07:08:09.500",
    "CAST(SAFE_CAST('2024-05-06 07:08:09+02' AS TIMESTAMP) AS STRING)": "2024-05-06 05:08:09+00",
    "CAST(SAFE_CAST('0.30000000000000004' AS FLOAT64) AS STRING)": "0.30000000000000004",
    "IFNULL(IS_INF(SAFE_CAST('1e400' AS FLOAT64)), TRUE)": True,
    "TO_JSON_STRING(SAFE.PARSE_JSON('{x'))": "null",
}


@pytest.mark.parametrize("expression", CASTS)
def test_what_a_text_is(place, expression):
    (row,) = place.bigquery.query(f"SELECT {expression} AS v").result()
    assert row["v"] == CASTS[expression]


# --- the files of an export


def exported(place: Place, folder: str, select: str, **options: Any) -> list[bytes]:
    """The files that EXPORT DATA writes for a query, in the order of their names."""
    known = {"format": "CSV", **options}
    sql = export.statement(select, f"gs://{place.bucket}/{folder}/*.out", known)
    config = bigquery.QueryJobConfig(labels={"emulator_shards": "3"})
    job = place.bigquery.query(sql, job_config=config, job_retry=None)
    job.result(job_retry=None)
    found = place.store.list(f"{folder}/")
    told = job._properties["statistics"]["query"]["exportDataStatistics"]
    assert (int(told["fileCount"]), int(told["rowCount"])) == (len(found), job_rows(place, select))
    bucket = place.storage.bucket(place.bucket)
    return [bucket.blob(one.name).download_as_bytes() for one in found]


def job_rows(place: Place, select: str) -> int:
    (row,) = place.bigquery.query(f"SELECT COUNT(*) AS n FROM ({select})").result()
    return row["n"]


def test_the_files_of_a_sorted_export_follow_on_one_another(place, table):
    numbers = "SELECT n FROM UNNEST(GENERATE_ARRAY(1, 300000)) AS n ORDER BY n"
    files = exported(place, f"dumps/{table}/sorted", numbers)
    assert [int(line) for file in files for line in file.split()] == list(range(1, 300_001))


# Without a header: an empty text, NULL, line ends and spaces at the edges.
CELLS = {
    "''": b'""\n',
    "CAST(NULL AS STRING)": b"\n",
    "' x '": b" x \n",
    "'a\\rb'": b'"a\rb"\n',
    "'a\\nb'": b'"a\nb"\n',
    "'a,b'": b'"a,b"\n',
    "'a\"b'": b'"a""b"\n',
}


@pytest.mark.parametrize("cell", CELLS)
def test_the_bytes_of_a_cell_alone_in_its_file(place, table, cell):
    files = exported(place, f"dumps/{table}/{uuid.uuid4().hex}", f"SELECT {cell} AS v")
    assert b"".join(files) == CELLS[cell]


def test_an_export_goes_beside_other_files_but_not_over_them(place, table):
    place.store.create(f"dumps/{table}/beside/other", b"x", Headers("text/plain"))
    assert exported(place, f"dumps/{table}/beside/one", "SELECT 1 AS v")
    with pytest.raises(gexc.BadRequest):
        exported(place, f"dumps/{table}/beside/one", "SELECT 1 AS v")


def test_parquet_has_the_headings_that_the_table_has(place, table):
    headings = ["Größe _m²_", "a+b=c: 50%", "日付"]
    columns = ", ".join(f"{n} AS `{heading}`" for n, heading in enumerate(headings))
    files = exported(place, f"dumps/{table}/headings", f"SELECT {columns}", format="PARQUET")
    assert any(pq.read_table(io.BytesIO(file)).column_names == headings for file in files)


# --- values on their way in


def test_a_text_beside_a_statement_keeps_its_emoji_as_it_is_not_as_escapes(place):
    """https://github.com/googleapis/python-bigquery/issues/864"""
    for ascii_only, read in ((False, "🙂"), (True, "\ufffd\ufffd")):
        rows = [json.dumps(["🙂"], ensure_ascii=ascii_only)]
        config = bigquery.QueryJobConfig(
            query_parameters=[bigquery.ArrayQueryParameter("rows", "STRING", rows)]
        )
        sql = "SELECT JSON_VALUE(r, '$[0]') AS v FROM UNNEST(@rows) AS r"
        assert [row["v"] for row in place.bigquery.query(sql, job_config=config)] == [read]


def test_a_hundred_thousand_values_are_one_parameter(place):
    values = [str(number) for number in range(100_000)]
    config = bigquery.QueryJobConfig(
        query_parameters=[bigquery.ArrayQueryParameter("p", "STRING", values)]
    )
    sql = "SELECT COUNTIF(CAST(n AS STRING) IN UNNEST(@p)) AS c FROM UNNEST([5, 99999, 100000]) n"
    assert [row["c"] for row in place.bigquery.query(sql, job_config=config)] == [2]


def loaded(place: Place, content: bytes, kind: str, **options: Any) -> list[Any]:
    """The values of a file's one column, after a load job into a new table."""
    name = f"{place.project}.{place.dataset}.live-{uuid.uuid4().hex}"
    config = bigquery.LoadJobConfig(schema=[bigquery.SchemaField("v", kind)], **options)
    try:
        place.bigquery.load_table_from_file(
            io.BytesIO(content), name, job_config=config, location=place.bigquery.location
        ).result()
        return sorted(
            (row["v"] for row in place.bigquery.query(f"SELECT v FROM `{name}`")),
            key=lambda value: (value is None, value),
        )
    finally:
        place.bigquery.delete_table(name, not_found_ok=True)


def test_integers_of_ndjson_are_read_to_the_last_digit(place):
    numbers = [9007199254740993, -9223372036854775808, 9223372036854775807]
    content = b"\n".join(b'{"v": %d}' % number for number in numbers)
    found = loaded(place, content, "INT64", source_format="NEWLINE_DELIMITED_JSON")
    assert found == sorted(numbers)


@pytest.mark.parametrize("place", [GOOGLE], indirect=True)
def test_several_marks_may_stand_for_a_missing_value(place):
    """https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#JobConfigurationLoad"""
    assert loaded(place, b"1\nNA\n\n", "INT64", null_markers=["", "NA"])[:1] == [1]


# --- tables


@pytest.fixture
def scratch(place: Place) -> Iterator[bigquery.Table]:
    """A small table, gone afterwards."""
    name = f"{place.project}.{place.dataset}.live-{uuid.uuid4().hex}"
    fields = [bigquery.SchemaField("a", "INT64"), bigquery.SchemaField("b", "STRING")]
    wanted = bigquery.Table(name, schema=fields)
    wanted.clustering_fields = ["a"]
    yield place.bigquery.create_table(wanted)
    place.bigquery.delete_table(name, not_found_ok=True)


def sql_name(table: bigquery.Table) -> str:
    return f"`{table.project}.{table.dataset_id}.{table.table_id}`"


def test_the_count_of_rows_is_right_as_soon_as_a_change_is_done(place, scratch):
    for count in (1, 2):
        place.bigquery.query(f"INSERT INTO {sql_name(scratch)} (a) VALUES ({count})").result()
        assert place.bigquery.get_table(scratch).num_rows == count


def test_a_description_is_changed_only_by_who_has_seen_the_last(place, scratch):
    """What numbers of rows are reserved by (backend.write.numbers)."""
    seen = place.bigquery.get_table(scratch)
    for change in ("mine", "theirs"):
        seen.description = change
        if change == "theirs":
            with pytest.raises(gexc.PreconditionFailed):
                place.bigquery.update_table(seen, ["description"])
        else:
            place.bigquery.update_table(seen, ["description"])
    assert place.bigquery.get_table(scratch).description == "mine"


def test_a_table_is_replaced_after_its_clustering_was_changed(place, scratch):
    """And the texts among OPTIONS travel beside the statement (backend.write.replace)."""
    scratch.clustering_fields = ["b"]
    place.bigquery.update_table(scratch, ["clustering_fields"])
    texts = {"d": "of the 'table'", "k": "team", "v": "open-data", "c": "of the column"}
    config = bigquery.QueryJobConfig(
        query_parameters=[bigquery.ScalarQueryParameter(n, "STRING", v) for n, v in texts.items()]
    )
    place.bigquery.query(
        f"CREATE OR REPLACE TABLE {sql_name(scratch)} (b STRING OPTIONS(description=@c)) "
        "CLUSTER BY b OPTIONS(description=@d, labels=[(@k, @v)]) AS SELECT 'x'",
        job_config=config,
    ).result()
    found = place.bigquery.get_table(scratch)
    assert (found.description, found.labels) == (texts["d"], {"team": "open-data"})
    assert [(field.name, field.description) for field in found.schema] == [("b", texts["c"])]


def test_a_view_has_no_list_of_rows(place, scratch):
    view = bigquery.Table(f"{place.project}.{place.dataset}.live-{uuid.uuid4().hex}")
    view.view_query = f"SELECT * FROM {sql_name(scratch)}"
    place.bigquery.create_table(view)
    try:
        with pytest.raises(gexc.BadRequest):
            list(place.bigquery.list_rows(view, selected_fields=scratch.schema))
    finally:
        place.bigquery.delete_table(view)


@pytest.fixture
def mortal(place: Place) -> Iterator[str]:
    """A dataset whose tables expire after an hour, gone afterwards."""
    made = bigquery.Dataset(f"{place.project}.{place.dataset}_{uuid.uuid4().hex[:8]}")
    made.location = place.bigquery.location
    made.default_table_expiration_ms = 3_600_000
    place.bigquery.create_dataset(made)
    yield f"{place.project}.{made.dataset_id}"
    place.bigquery.delete_dataset(made, delete_contents=True)


def test_the_expiration_of_a_dataset_is_inherited_until_it_is_taken_away(place, mortal):
    """By every way that a table or a view of ours is made (definition.kept)."""
    field = bigquery.SchemaField("n", "INT64")
    made = place.bigquery.create_table(bigquery.Table(f"{mortal}.t", schema=[field]))
    view = bigquery.Table(f"{mortal}.v")
    view.view_query = f"SELECT * FROM `{mortal}.t`"
    for one in (made, place.bigquery.create_table(view)):
        assert one.expires is not None
        one.expires = None
        assert place.bigquery.update_table(one, ["expires"]).expires is None
    place.bigquery.query(f"CREATE OR REPLACE TABLE `{mortal}.t` (n INT64) AS SELECT 1").result()
    assert place.bigquery.get_table(f"{mortal}.t").expires is not None
    null = "OPTIONS(expiration_timestamp=NULL)"
    place.bigquery.query(f"CREATE TABLE `{mortal}.u` (n INT64) {null}").result()
    assert place.bigquery.get_table(f"{mortal}.u").expires is not None


# --- bounds, and what only Google can say


def test_a_statement_is_bounded(place):
    with pytest.raises(gexc.BadRequest):
        place.bigquery.query("SELECT 1" + " " * 1024 * 1024).result()


@pytest.mark.parametrize("place", [GOOGLE], indirect=True)
def test_2000_columns_of_floats_are_exported_by_one_statement(place):
    name = f"live-{uuid.uuid4().hex}"
    fields = [bigquery.SchemaField(f"measurement no {n}", "FLOAT64") for n in range(2_000)]
    full = bigquery.Table(f"{place.project}.{place.dataset}.{name}")
    full.schema = [bigquery.SchemaField("_id", "INT64"), *fields]
    place.bigquery.create_table(full)
    try:
        lines = place.file(name, "csv").split(b"\n")
        assert [line.count(b",") for line in lines if line] == [2_000]
    finally:
        place.bigquery.delete_table(full)
        place.store.delete(place.store.list(f"dumps/{name}/"))


@pytest.mark.parametrize("place", [GOOGLE], indirect=True)
def test_the_order_of_floats_begins_with_what_is_no_number(place):
    floats = "UNNEST([1, CAST('-inf' AS FLOAT64), CAST('nan' AS FLOAT64), NULL]) AS x"
    found = place.bigquery.query(f"SELECT CAST(x AS STRING) AS t FROM {floats} ORDER BY x").result()
    assert [row["t"] for row in found] == [None, "nan", "-inf", "1"]
    (row,) = place.bigquery.query(f"SELECT COUNTIF(x = x) AS c FROM {floats}").result()
    assert row["c"] == 2


@pytest.mark.parametrize("place", [GOOGLE], indirect=True)
def test_a_table_takes_five_changes_of_its_metadata_in_ten_seconds(place, scratch):
    """https://cloud.google.com/bigquery/quotas#standard_tables; by what name it says so."""
    with pytest.raises((gexc.Forbidden, gexc.TooManyRequests)) as refused:
        for number in range(30):
            scratch.description = str(number)
            scratch._properties.pop("etag", None)
            place.bigquery.update_table(scratch, ["description"], retry=None)
    assert clients.is_throttled(refused.value)


# What the emulator's bills assume (emulator.bigquery.billing): rows of 16 bytes, ten in each
# partition, and one beside all of them; the rows that each statement reads.
BILLED = {
    "SELECT * FROM {t}": 101,
    "SELECT * FROM {t} WHERE _id BETWEEN 10 AND 19": 11,
    "SELECT * FROM {t} WHERE _id IN UNNEST(@several)": 21,
    "SELECT * FROM {t} WHERE _id = CAST(@text AS INT64)": 11,
    "SELECT * FROM {t} WHERE _id = (SELECT 5)": 101,
    "SELECT *, (SELECT COUNT(*) FROM {t} WHERE _id < 10) FROM {t} WHERE _id < 10": 11,
    "SELECT a.* FROM {t} AS a JOIN {t} AS b USING (_id)": 101,
    "DELETE FROM {t} WHERE _id = 5": 11 + 11 / 2,
    "MERGE {t} AS t USING (SELECT 5 AS n) AS s ON t._id = s.n AND t._id IN (5, 15) "
    "WHEN MATCHED THEN UPDATE SET x = 2": 21 + 21 / 2,
}


@pytest.fixture(scope="module")
def partitioned(place: Place) -> Iterator[str]:
    name = f"{place.project}.{place.dataset}.live-{uuid.uuid4().hex}"
    place.bigquery.query(
        f"CREATE TABLE `{name}` (_id INT64, x INT64) PARTITION BY RANGE_BUCKET(_id, "
        "GENERATE_ARRAY(0, 100, 10)) AS SELECT n, n FROM UNNEST(GENERATE_ARRAY(0, 99)) AS n "
        "UNION ALL SELECT 1000, 1000"
    ).result()
    yield f"`{name}`"
    place.bigquery.delete_table(name)


@pytest.mark.parametrize("sql", BILLED)
def test_what_a_statement_is_billed_for(place, partitioned, sql):
    parameters = [
        bigquery.ArrayQueryParameter("several", "INT64", [1, 2, 99]),
        bigquery.ScalarQueryParameter("text", "STRING", "55"),
    ]
    asked = bigquery.QueryJobConfig(query_parameters=parameters, dry_run=True)
    job = place.bigquery.query(sql.format(t=partitioned), job_config=asked)
    assert job.total_bytes_processed == 16 * BILLED[sql]


def test_a_statement_over_its_limit_is_known_by_its_reason(place, partitioned):
    most = bigquery.QueryJobConfig(maximum_bytes_billed=1, use_query_cache=False)
    with pytest.raises(gexc.GoogleAPICallError) as refused:
        place.bigquery.query_and_wait(f"SELECT * FROM {partitioned}", job_config=most)
    assert clients.is_too_expensive(refused.value)
    assert "10485760" in clients.reason(refused.value)


@pytest.mark.parametrize("place", [GOOGLE], indirect=True)
def test_the_bucket_does_not_keep_what_is_deleted(place):
    bucket = place.storage.get_bucket(place.bucket)
    assert not bucket.retention_period
    assert not bucket.soft_delete_policy.retention_duration_seconds


# --- signed URLs


@pytest.fixture
def url(place: Place, table: str) -> str:
    """A signed URL of a small file: by a private key, or by IAM."""
    made = place.store.create(f"dumps/{table}/{uuid.uuid4().hex}", b"abc", Headers("text/plain"))
    blob = place.storage.bucket(place.bucket).blob(made.name)
    if not isinstance(place, LivePlace):
        key = service_account.Credentials.from_service_account_file(config.credentials())
        address = os.environ["STORAGE_EMULATOR_HOST"]
        return blob.generate_signed_url(
            version="v4", expiration=600, credentials=key, api_access_endpoint=address
        )
    found, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    if isinstance(found, google.auth.credentials.Signing):
        return blob.generate_signed_url(version="v4", expiration=600, credentials=found)
    found.refresh(google.auth.transport.requests.Request())
    return blob.generate_signed_url(
        version="v4",
        expiration=600,
        service_account_email=found.service_account_email,
        access_token=found.token,
    )


def test_a_signed_url_is_refused_to_who_shows_another_proof_as_well(url):
    assert requests.get(url, timeout=60).content == b"abc"
    refused = requests.get(url, headers={"Authorization": "a-token-of-ckan"}, timeout=60)
    assert refused.status_code in (400, 401, 403)


@pytest.mark.parametrize("origin", ["https://portal.example", "null"])
def test_scripts_of_other_sites_may_read_where_the_bucket_is_set_up_as_the_docs_say(
    place, url, origin
):
    bucket = place.storage.get_bucket(place.bucket)
    if not isinstance(place, LivePlace):
        bucket.cors = json.loads(cors_of_docs())
        bucket.patch()
    is_open = any("*" in rule["origin"] for rule in bucket.cors)
    answer = requests.get(url, headers={"Origin": origin}, timeout=60)
    assert answer.content == b"abc"
    assert answer.headers.get("Access-Control-Allow-Origin") == ("*" if is_open else None)


def cors_of_docs() -> str:
    page = Path(__file__).resolve().parents[3] / "docs/operators/install.md"
    text = page.read_text(encoding="utf-8").partition("into `cors.json`")[2]
    return text.partition("```json\n")[2].partition("```")[0]


def wait_until(holds: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(1)
