"""JSON and XML out of exported rows: byte for byte core's, whatever the cuts of the stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import ckan
import msgspec
import pytest
import requests
from ckan.tests import factories
from ckanext.datastore import writer
from hypothesis import given, settings
from hypothesis import strategies as st

from ckanext.bigquery_datastore.backend.table import reading
from ckanext.bigquery_datastore.dump.transform import element_names, to_json, to_xml
from ckanext.bigquery_datastore.errors import TransformError

IS_2_11 = ckan.__version__.startswith("2.11")

Cell = tuple[str, str | None]
"""PostgreSQL's JSON of a value, and the text that an export has for it; None is NULL."""

NULL: Cell = ("null", None)


def plain(text: str) -> Cell:
    return (json.dumps(text), text)


# Each type with values as PostgreSQL 15 writes them.
SAMPLES: dict[str, Sequence[Cell]] = {
    "text": [
        plain(text) for text in ("", "a", 'q"uo\\te', "é\U0001f600\u2028", "a\n\tb\r\x00\x1f\x7f")
    ]
    + [plain("<a href='x'>&amp;</a>"), plain("null"), plain("123"), plain("\ufeff")],
    "int": [("0", "0"), ("-7", "-7"), ("9223372036854775807", "9223372036854775807")],
    "int4": [("12", "12")],
    "float8": [
        ("0", "0"),
        ("-0", "-0"),
        ("3", "3"),
        ("0.1", "0.1"),
        ("-2.5", "-2.5"),
        ("100000000000000", "1e+14"),
        ("1e+15", "1e+15"),
        ("1.2345678901234568e+17", "1.2345678901234568e+17"),
        ("1e+22", "1e+22"),
        ("0.0001", "0.0001"),
        ("1.5e-05", "1.5e-05"),
        ("5e-324", "4.94065645841247e-324"),
        ("1.7976931348623157e+308", "1.7976931348623157e+308"),
        ('"NaN"', "NaN"),
        ('"Infinity"', "Infinity"),
        ('"-Infinity"', "-Infinity"),
    ],
    "numeric": [
        ("0", "0"),
        ("1.5", "1.5"),
        ("-12345678901234567890123456789", "-12345678901234567890123456789"),
        ("12345678901234567890.123456789", "12345678901234567890.123456789"),
        ("0.000000001", "0.000000001"),
    ],
    "bool": [("true", "t"), ("false", "f"), ("true", "true"), ("false", "false")],
    "date": [plain("2015-01-31")],
    "time": [plain("10:00:00"), plain("10:00:00.12")],
    "timestamp": [plain("2015-01-01T10:00:00"), plain("2015-01-01T10:00:00.123")],
    "timestamptz": [plain("2015-01-01T10:00:00.5+00:00")],
    "json": [
        (text, text)
        for text in (
            "null",
            "1",
            '"<x>"',
            "[]",
            "{}",
            '{"b": 1.10, "a": [true, null, {"<k\\"\\n\\t\\r&>": "é\\u2028\\u0007"}], "b": 2}',
            '[1e22, 0.00001, 12345678901234567890123, -0.0, [[]], ""]',
        )
    ],
    "_text": [('["a","b\\"c",null]', '["a","b\\"c",null]'), ("[]", "[]")],
    "_int4": [("[1,null,3]", "[1, null, 3]"), ("[[1,2],[3,4]]", "[[1,2],[3,4]]")],
    "_float8": [('[1,2.5,1e+22,"NaN",null]', '[1.0,2.5,1e22,"NaN",null]')],
    "timestamp[]": [('["2015-01-01T10:00:00"]', '["2015-01-01T10:00:00"]')],
}

Fields = list[dict[str, Any]]


def fields_of(kinds: Sequence[str]) -> Fields:
    return [{"id": f"c{i} {kind}", "type": kind} for i, kind in enumerate(kinds)]


def line(fields: Fields, row: Sequence[Cell]) -> bytes:
    """A row as BigQuery exports it: NULLs left out, <, > and & escaped."""
    cells = {f["id"]: text for f, (_, text) in zip(fields, row, strict=True) if text is not None}
    written = json.dumps(cells, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&":
        written = written.replace(char, f"\\u{ord(char):04x}")
    return written.encode() + b"\n"


def core_json(fields: Fields, rows: Sequence[Sequence[Cell]], bom: bool = False) -> bytes:
    records = [msgspec.json.decode(f"[{','.join(cell for cell, _ in row)}]") for row in rows]
    with writer.json_writer(fields, bom) as out:
        return out.write_records(records) + out.end_file()


def core_xml(fields: Fields, rows: Sequence[Sequence[Cell]], bom: bool = False) -> bytes:
    records = [
        {f["id"]: msgspec.json.decode(cell) for f, (cell, _) in zip(fields, row, strict=True)}
        for row in rows
    ]
    with writer.xml_writer(fields, bom) as out:
        return out.write_records(records) + out.end_file()


def xml_names(fields: Fields) -> list[str] | None:
    return [f["id"] for f in fields] if IS_2_11 else None


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("kind", SAMPLES)
def test_each_value_of_a_type_is_written_as_core_writes_it(kind: str) -> None:
    fields = [{"id": "_id", "type": "int"}, {"id": "it", "type": kind, "info": {"notes": "é"}}]
    rows = [[(str(i), str(i)), cell] for i, cell in enumerate([*SAMPLES[kind], NULL], 1)]
    lines = [line(fields, row) for row in rows]
    assert b"".join(to_json(fields, lines)) == core_json(fields, rows)
    assert b"".join(to_xml(fields, lines)) == core_xml(fields, rows)


kinds = st.lists(st.sampled_from(sorted(SAMPLES)), min_size=1, max_size=6)


@settings(deadline=None)
@given(kinds=kinds, size=st.integers(1, 3000), bom=st.booleans(), data=st.data())
def test_any_rows_cut_anywhere_are_written_as_core_writes_them(
    kinds: list[str], size: int, bom: bool, data: st.DataObject
) -> None:
    fields = fields_of(kinds)
    cells = [st.sampled_from([*SAMPLES[kind], NULL]) for kind in kinds]
    rows = data.draw(st.lists(st.tuples(*cells), max_size=20))
    exported = b"".join(line(fields, row) for row in rows)
    assert b"".join(to_json(fields, cut(exported, size), bom)) == core_json(fields, rows, bom)
    names = xml_names(fields)
    assert b"".join(to_xml(fields, cut(exported, size), bom, names=names)) == core_xml(
        fields, rows, bom
    )


@settings(deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
    floats=st.lists(st.floats()),
)
def test_any_text_and_any_float_is_written_as_core_writes_it(
    texts: list[str], floats: list[float]
) -> None:
    for kind, cells in (
        ("text", [plain(text) for text in texts]),
        ("float8", [_float_cell(value) for value in floats]),
    ):
        fields = [{"id": "it", "type": kind}]
        rows = [[cell] for cell in cells]
        lines = [line(fields, row) for row in rows]
        assert b"".join(to_json(fields, lines)) == core_json(fields, rows)
        assert b"".join(to_xml(fields, lines)) == core_xml(fields, rows)


def _float_cell(value: float) -> Cell:
    text = reading.float_text(value)
    return (text if value - value == 0 else f'"{text}"', repr(value))


def test_no_rows_make_a_whole_file() -> None:
    fields = [{"id": "_id", "type": "int"}, {"id": "a", "type": "text"}]
    assert b"".join(to_json(fields, [])) == core_json(fields, [])
    assert b"".join(to_json(fields, [b"", b""], bom=True)) == core_json(fields, [], bom=True)
    assert b"".join(to_xml(fields, [], bom=True)) == core_xml(fields, [], bom=True)


def test_a_last_line_without_its_end_is_a_row() -> None:
    fields = [{"id": "a", "type": "text"}]
    assert b"".join(to_json(fields, [b'{"a":"1"}\n{"a"', b':"2"}'])).endswith(
        b'["1"],\n    ["2"]\n]}\n'
    )


def test_cells_may_have_other_names_than_their_columns() -> None:
    fields = [{"id": "a", "type": "text"}, {"id": "a", "type": "int"}]
    lines = [b'{"a":"x","a_2":"5"}\n', b'{"a_2":"6"}\n']
    assert b"".join(to_json(fields, lines, keys=["a", "a_2"])).endswith(
        b'["x",5],\n    [null,6]\n]}\n'
    )


def test_only_an_id_in_the_first_place_is_an_attribute() -> None:
    cells: list[Cell] = [("1", "1"), plain("x")]
    first = [{"id": "_id", "type": "int"}, {"id": "a", "type": "text"}]
    alone = first[:1]
    for fields, row in ((first, cells), (first[::-1], cells[::-1]), (alone, cells[:1])):
        assert b"".join(to_xml(fields, [line(fields, row)])) == core_xml(fields, [row])


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (
            ["_id", "Date of birth", "Date_of birth", "Date of  birth"],
            ["_id", "Date_of_birth", "Date_of_birth_0", "Date_of_birth_1"],
        ),
        (
            ["xml", "12xmlish", "2nd", "-x.", "é è", "e\u0301", "a&b<c>", "日本"],
            ["", "ish", "nd", "x.", "é_è", "é", "abc", "日本"],
        ),
        (["a", "a_0", "a!", "a?", "_id"], ["a", "a_0", "a_1", "a_2", "_id"]),
    ],
)
def test_elements_get_the_names_that_core_2_12_gives_them(ids: list[str], names: list[str]) -> None:
    assert element_names(ids) == names
    if not IS_2_11:
        core = writer.XMLWriter(None, ids).element_names  # type: ignore[arg-type]
        assert names == [core.get(name, name) for name in ids]


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("text", b'{"a":"1"'),
        ("text", b'{"a":"1"} x'),
        ("text", b'["1"]'),
        ("text", b"null"),
        ("text", b'{"a":1}'),
        ("text", b'{"a":"\xff"}'),
        ("text", b"<html>"),
        ("int", b'{"a":"x"}'),
        ("float8", b'{"a":"x"}'),
        ("numeric", b'{"a":"1,5"}'),
        ("bool", b'{"a":"yes"}'),
        ("json", b'{"a":"{"}'),
        ("_text", b'{"a":"[1"}'),
        ("_float8", b'{"a":"[\\"x\\"]"}'),
    ],
)
@pytest.mark.parametrize("rewrite", [to_json, to_xml])
def test_a_row_that_does_not_fit_is_an_error_that_says_where(
    rewrite: Any, kind: str, bad: bytes
) -> None:
    good = b'{"a":null}\n' * 3
    with pytest.raises(TransformError, match="after the 3th"):
        list(rewrite([{"id": "a", "type": kind}], [good, bad]))


def test_a_file_that_is_cut_off_in_a_row_is_an_error() -> None:
    whole = b'{"a":"1"}\n{"a":"2"}\n'
    for length in range(11, len(whole) - 1):
        with pytest.raises(TransformError):
            list(to_json([{"id": "a", "type": "text"}], [whole[:length]]))


# ── the yardstick itself: core on PostgreSQL ──────────────────────────────────

MILLISECONDS = "" if IS_2_11 else ".{:03d}"

# Type of a column: for each row, what is sent to core and what an export has for it.
YARDSTICK: dict[str, list[tuple[Any, str | None]]] = {
    "text": [('q"<é>&\n\u2028', 'q"<é>&\n\u2028'), ("", ""), (None, None)],
    "int": [(7, "7"), (-1, "-1"), (None, None)],
    "int8": [(9007199254740993, "9007199254740993"), (0, "0"), (None, None)],
    "numeric": [("100.5", "100.5"), ("12345678901234567890", "12345678901234567890"), (None, None)],
    "float8": [(1e15, "1e+15"), (3, "3"), ("NaN", "NaN")],
    "bool": [(True, "t"), (False, "f"), (None, None)],
    "date": [("2015-01-31", "2015-01-31"), ("0099-12-31", "0099-12-31"), (None, None)],
    "time": [("10:00:00.120", "10:00:00.12"), ("10:00", "10:00:00"), (None, None)],
    "timestamp": [
        ("2015-01-01T10:00:00", "2015-01-01T10:00:00" + MILLISECONDS.format(0)),
        ("2015-01-01T10:00:00.123456", "2015-01-01T10:00:00" + MILLISECONDS.format(123)),
        (None, None),
    ],
    "timestamptz": [
        ("2015-01-01T10:00:00Z", "2015-01-01T10:00:00+00:00"),
        ("2015-01-01T12:00:00.5+02:00", "2015-01-01T10:00:00.5+00:00"),
        (None, None),
    ],
    "json": [
        ({"b": [1.10, None, "<é>"], "a": {}}, '{"b":[1.1,null,"<é>"],"a":{}}'),
        ([], "[]"),
        (None, "null"),
    ],
    "jsonb": [('{"b": 1e2, "a": 0.10}', '{"a":0.1,"b":100}'), ("null", "null"), (None, "null")],
    "_text": [(["a", None, '"'], '["a",null,"\\""]'), ([], "[]"), (None, "null")],
    "_float8": [([1, 2.5, 1e22], "[1,2.5,1e+22]"), ([], "[]"), (None, "null")],
    "_timestamp": [
        ('{"2015-01-01 10:00"}', '["2015-01-01T10:00:00"]'),
        ("{}", "[]"),
        (None, "null"),
    ],
}


def test_the_files_are_those_of_core_on_postgresql(core_site: Any) -> None:
    user = factories.SysadminWithToken()
    resource = factories.Resource()["id"]

    def call(action: str, **data: Any) -> Any:
        answer = requests.post(
            f"{core_site.url}/api/3/action/{action}",
            json=data,
            headers={"Authorization": user["token"]},
            timeout=30,
        )
        assert answer.ok, answer.text
        return answer.json()["result"]

    columns = [{"id": f"a {kind} column", "type": kind} for kind in YARDSTICK]
    columns[0]["info"] = {"label": "é", "notes": 'a "note"'}  # type: ignore[assignment]
    values = list(zip(*YARDSTICK.values(), strict=True))
    call(
        "datastore_create",
        resource_id=resource,
        force=True,
        fields=columns,
        records=[
            {column["id"]: sent for column, (sent, _) in zip(columns, row, strict=True)}
            for row in values
        ],
    )
    fields = call("datastore_search", resource_id=resource)["fields"]
    lines = [
        line(fields, [("", str(i)), *(("", text) for _, text in row)])
        for i, row in enumerate(values, 1)
    ]

    def dump(form: str) -> bytes:
        url = f"{core_site.url}/datastore/dump/{resource}?format={form}"
        return requests.get(url, headers={"Authorization": user["token"]}, timeout=30).content

    assert b"".join(to_json(fields, lines)) == dump("json")
    assert b"".join(to_json(fields, lines, bom=True)) == dump("json&bom=true")
    assert b"".join(to_xml(fields, lines, names=xml_names(fields))) == dump("xml")
    assert b"".join(to_xml(fields, lines, True, names=xml_names(fields))) == dump("xml&bom=true")
