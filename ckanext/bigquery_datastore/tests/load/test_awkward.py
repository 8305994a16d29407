"""Awkward files, and the table that comes out of each: its columns with their types, its rows.

What cannot be a table has the sentence in its place that says why.
"""

from __future__ import annotations

import datetime as dt
import functools
import gzip
import io
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ckanext.bigquery_datastore import clients, config, downloads, load
from ckanext.bigquery_datastore.backend.table.lookup import from_api, reference
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError
from ckanext.bigquery_datastore.load import engine
from ckanext.bigquery_datastore.load.engine import Ended
from ckanext.bigquery_datastore.load.kinds import KINDS, kind_of_name
from ckanext.bigquery_datastore.load.source import Limits, LocalFile
from ckanext.bigquery_datastore.load.wish import Wish
from ckanext.bigquery_datastore.tests.load.spreadsheets import ods, xlsx

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
    return out.getvalue()


class File(NamedTuple):
    name: str
    data: bytes
    columns: str  # "name type, name type"; or the sentence that says why there is no table
    rows: list[tuple[Any, ...]] = []  # noqa: RUF012
    wish: dict[str, Any] = {}  # noqa: RUF012


DAY = dt.date(2024, 2, 1)

FILES = {
    # --- values that must not change
    "what looks like a number, and what is one": File(
        "a.csv",
        b"zip,na,phone,version,range,date,day,none,float,large,int\n"
        b"01067,1,+49351488,1.10,1-5,01/02/2024,2024-02-30,,0.5,12345678901234567890,-1\n"
        b"99999,NA,030/1234,1.2.3,6-10,31/12/2024,2024-02-29,,1e3,1,20\n",
        "zip text, na text, phone text, version text, range text, date text, day text, none text, "
        "float float8, large numeric, int int8",
        [
            (
                *("01067", "1", "+49351488", "1.10", "1-5", "01/02/2024", "2024-02-30", None),
                *(0.5, 12345678901234567890, -1),
            ),
            (
                *("99999", "NA", "030/1234", "1.2.3", "6-10", "31/12/2024", "2024-02-29", None),
                *(1000, 1, 20),
            ),
        ],
    ),
    "codes with a letter, late": File(
        "a.csv",
        b"code\n" + b"1640\n" * 1000 + b"0164A\n",
        "code text",
        [*[("1640",)] * 1000, ("0164A",)],
    ),
    "decimal commas": File(
        "a.csv", b"a;b\n1,5;2\n2,5;3\n", "a text, b int8", [("1,5", 2), ("2,5", 3)]
    ),
    "NA as a missing value": File(
        "a.csv", b"n\n1\nNA\n", "n int8", [(1,), (None,)], {"null": "NA"}
    ),
    "moments": File(
        "a.csv",
        b"d,t,z\n2024-02-01,2024-02-01 07:08:09,2024-02-01T07:08:09Z\n",
        "d date, t timestamp, z timestamptz",
        [("2024-02-01", "2024-02-01T07:08:09.000", "2024-02-01T07:08:09+00:00")],
    ),
    "dates with the day first, asked for": File(
        "a.csv",
        b"d,e,f\n01/02/2024,1.2.2024,13.1.2024 07:08:09\n,31-12-2024,\n",
        "d date, e date, f timestamp",
        [("2024-02-01", "2024-02-01", "2024-01-13T07:08:09.000"), (None, "2024-12-31", None)],
        {"day_first": True},
    ),
    "a type that is asked for": File(
        "a.csv", b"n\n1\n2\n", "n text", [("1",), ("2",)], {"types": {"n": "text"}}
    ),
    # --- how a file is written
    "UTF-16 of Excel, with tabs": File(
        "a.csv", "größe\tb\nä\t1\n".encode("utf-16"), "größe text, b int8", [("ä", 1)]
    ),
    "windows-1252, seen late": File(
        "a.csv",
        b"a;b\n" + b"%b;1\n" % (b"x" * 2000) * 150 + "Straße;2\n".encode("cp1252"),
        "a text, b int8",
        [*[("x" * 2000, 1)] * 150, ("Straße", 2)],
    ),
    "line ends of an old Mac": File(
        "a.csv", b"a,b\r1,x\r2,y\r", "a int8, b text", [(1, "x"), (2, "y")]
    ),
    "quoted line ends": File(
        "a.csv", b'a,b\r\n"x\r\ny",1\r\nz,2', "a text, b int8", [("x\r\ny", 1), ("z", 2)]
    ),
    "quotes inside cells": File(
        "a.csv",
        b'a,b\n5" pipe,1\n"say ""hi""",2\n',
        "a text, b int8",
        [('5" pipe', 1), ('say "hi"', 2)],
    ),
    "tabs": File("a.tsv", b"a\tb\n1,5\tx y\n", "a text, b text", [("1,5", "x y")]),
    "one column with commas": File(
        "a.csv", b"name\nDoe, Jane\nRoe, Max\n", "name text", [("Doe, Jane",), ("Roe, Max",)]
    ),
    "short rows and empty cells beyond": File(
        "a.csv", b"a,b\n1\n2,x,,\n", "a int8, b text", [(1, None), (2, "x")]
    ),
    "headings": File(
        "a.csv",
        b'a,a,,_x,"b""c"\n1,2,3,4,5\n',
        "a int8, a_2 int8, column_3 int8, x int8, b'c int8",
        [(1, 2, 3, 4, 5)],
    ),
    # --- packed
    "gzipped": File("a.csv.gz", gzip.compress(b"a\n1\n"), "a int8", [(1,)]),
    "zipped, beside a text": File(
        "a.zip", zipped(a_csv=b"a\n1\n", readme_md=b"x"), "a int8", [(1,)]
    ),
    "a zip of two tables": File(
        "a.zip", zipped(a_csv=b"a\n1\n", b_csv=b"a\n1\n"), "must hold one table; it holds 2"
    ),
    "gzip that breaks off": File(
        "a.csv.gz", gzip.compress(b"a\n" + bytes(range(48, 58)) * 999)[:-20], "cannot be read"
    ),
    # --- other kinds
    "JSON lines": File(
        "a.jsonl",
        b'{"a": "01", "b": [1]}\n{"a": "2", "c": {"d": 1}}\n',
        "a text, b _int8, c nested",
        [("01", [1], None), ("2", None, {"d": 1})],
    ),
    "Parquet": File("a.parquet", parquet(a=["01"], n=[1]), "a text, n int8", [("01", 1)]),
    "Excel": File(
        "a.xlsx",
        xlsx(
            {
                "Daten": [
                    ["code", "n", "d", "ok", None],
                    ["01067", 1, DAY, True, None],
                    [None] * 5,
                    ["x", 2.5, None, False, None],
                ]
            }
        ),
        "code text, n float8, d date, ok bool",
        [("01067", 1, "2024-02-01", True), ("x", 2.5, None, False)],
    ),
    "the second sheet": File(
        "a.xlsx",
        xlsx({"One": [["a"], [1]], "Two": [["b"], [2]]}),
        "b int8",
        [(2,)],
        {"sheet": "Two"},
    ),
    "a sheet that is not there": File(
        "a.xlsx",
        xlsx({"One": [["a"], [1]]}),
        "has no sheet \"Two\", but 'One'",
        [],
        {"sheet": "Two"},
    ),
    "OpenDocument": File(
        "a.ods",
        ods({"T": [["a", "b"], ["01", 1], ["x", 2]]}),
        "a text, b int8",
        [("01", 1), ("x", 2)],
    ),
    "no spreadsheet": File("a.xlsx", b"no", "The spreadsheet cannot be read"),
    # --- what is no table
    "a heading alone": File("a.csv", b"a,b\n", "has no rows"),
    "nothing": File("a.csv", b"", "has no rows"),
    "a row that is too long": File(
        "a.csv", b'a,b\n"1\n2",3\n4,5,6\n', "Line 4 of the file: '6' is more than the 2 columns"
    ),
    "a value that does not fit": File(
        "a.csv",
        b'a,b\n1,"x\ny"\nno,z\n',
        "Line 4 of the file: 'no' in the column 'a' is no bigint",
        [],
        {"types": {"a": "int8"}},
    ),
    "rows that may be set aside": File(
        "a.csv",
        b"a,b\n1,x\nno,y\n3,z,!\n4,w\n",
        "a int8, b text",
        [(1, "x"), (4, "w")],
        {"types": {"a": "int8"}, "skip_bad_rows": 2},
    ),
    "an open quote": File("a.csv", b'a\n1\n"x\n', "which begins at line 3: a closing quote"),
    "HTML": File("a.bin", b"<html>", "does not tell its format"),
}


def outcome(title: str, folder: Path) -> tuple[str, list[tuple[Any, ...]]]:
    """What became of a file: the columns and the rows, or why there are none."""
    file, id = FILES[title], str(uuid.uuid4())
    path = folder / f"{id}{file.name}"
    path.write_bytes(file.data)
    wish = Wish(**file.wish)
    work = load.Load(clients.bigquery_rw(), downloads.store_rw(), id, uuid.uuid4().hex, wish)
    source = LocalFile(path, file.name, kind_of_name(file.name))
    try:
        while not isinstance(engine.advance(work, source, Limits(), seconds=5), Ended):
            pass
    except BigQueryDatastoreError as err:
        return str(err), []
    return found(id)


def found(id: str) -> tuple[str, list[tuple[Any, ...]]]:
    client = clients.bigquery_ro()
    table = from_api(client.get_table(reference(id)))
    rows = sorted(client.list_rows(reference(id)), key=lambda row: row["_id"])
    assert len({row["_id"] for row in rows}) == len(rows)
    columns = table.user_columns
    told = ", ".join(f"{column.name} {column.type.name}" for column in columns)
    return told, [tuple(_value(column, row[column.stored]) for column in columns) for row in rows]


def _value(column: Any, value: Any) -> Any:
    return None if value is None else column.type.read(value)


def test_each_file_becomes_this_table(tmp_path: Path) -> None:
    """In one test, several at a time: what a site costs is paid once."""
    with ThreadPoolExecutor(4) as pool:
        outcomes = pool.map(functools.partial(outcome, folder=tmp_path), FILES)
        told = dict(zip(FILES, outcomes, strict=True))
    wrong = {}
    for title, (columns, rows) in told.items():
        file = FILES[title]
        is_right = columns == file.columns if file.rows else file.columns in columns
        if not is_right or rows != file.rows:
            wrong[title] = (columns, rows[:3])
    assert wrong == {}


def test_every_format_is_among_them() -> None:
    names = {kind.name for file in FILES.values() if (kind := kind_of_name(file.name))}
    assert names == set(KINDS) - {"xls"}
    assert config.dataset()
