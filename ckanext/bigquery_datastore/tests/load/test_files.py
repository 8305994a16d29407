"""Rows get their number on the way to BigQuery, and nothing else about them changes."""

import gzip
import io
import itertools
import zipfile

import pytest

from ckanext.bigquery_datastore.errors import BadRequest, TooLarge
from ckanext.bigquery_datastore.load import dialect, files, headings, source
from ckanext.bigquery_datastore.load import records as records_module
from ckanext.bigquery_datastore.load.faults import RowRefused
from ckanext.bigquery_datastore.load.files import (
    Met,
    Recoded,
    check_names,
    known_encoding,
    lines,
    numbered_ndjson,
)
from ckanext.bigquery_datastore.load.kinds import kind_of
from ckanext.bigquery_datastore.load.records import Even, Undecodable, records
from ckanext.bigquery_datastore.load.source import Counted, Limits, unpacked


def csv(text: bytes, delimiter: str = ",", most: int = 0) -> tuple[list[str], bytes]:
    """The names of the columns, and the records below the header of places, without the lines."""
    met, even = Met(), Even(delimiter, most)
    found = even.numbered(records(lines(io.BytesIO(text)), delimiter), met)
    head, _, rows = b"".join(found).partition(b"\n")
    places = [b"_column_%d" % number for number in range(1, len(met.names) + 1)]
    separator = delimiter.encode()
    assert head == separator.join([b"_row", b"_line", *places] if met.names else [])
    return met.names, rows


def ndjson(text: bytes) -> tuple[list[str], list[bytes]]:
    met = Met()
    return met.names, list(numbered_ndjson(io.BytesIO(text), met))


CASES = {
    "a record": (b"a,b\nx,y\nz,\n", ["a", "b"], b"1,2,x,y\n2,3,z,\n"),
    "line ends and delimiters in quotes": (
        b'a,b\r\n"x\r\ny, ""z""\n",1\r\n2,3',
        ["a", "b"],
        b'1,2,"x\r\ny, ""z""\n",1\n2,5,2,3\n',
    ),
    "quotes around all": (b'"a","b"\n"","x, y"\n', ["a", "b"], b'1,2,"","x, y"\n'),
    "a quote inside a cell": (
        b'a,b\n5" pipe,1\n6" pipe,"2"\n',
        ["a", "b"],
        b'1,2,"5"" pipe",1\n2,3,"6"" pipe",2\n',
    ),
    "something behind a closing quote": (b'a,b\n"x"y,1\n', ["a", "b"], b"1,2,xy,1\n"),
    "names in quotes": ('"a, ü",\tb.c! \n1,2\n'.encode(), ["a, ü", "b.c!"], b"1,2,1,2\n"),
    "empty lines": (b"\na\n1\n\n2\n\r\n", ["a"], b"1,3,1\n2,5,2\n"),
    "short rows": (b"a,b,c\n1\n1,2\n", ["a", "b", "c"], b"1,2,1,,\n2,3,1,2,\n"),
    "empty cells beyond": (b'a,b\n1,2,,\n3,"4", \n', ["a", "b"], b"1,2,1,2\n2,3,3,4\n"),
    "nothing": (b"", [], b""),
}


@pytest.mark.parametrize("name", list(CASES))
def test_records_are_numbered_below_a_header_of_places(name):
    text, names, rows = CASES[name]
    assert csv(text) == (names, rows)
    with_tabs = [part.replace(b",", b"\t") for part in (text, rows)]
    if b", " not in text:
        assert csv(with_tabs[0], "\t") == (names, with_tabs[1])


def test_nothing_has_no_names():
    assert ndjson(b"\n\n") == ([], [])


def test_a_quote_that_is_never_closed_is_named():
    with pytest.raises(BadRequest, match="which begins at line 3: a closing quote"):
        csv(b'a\n1\n"x\n')


def test_a_quote_that_is_open_for_too_long_is_refused_before_all_is_read(monkeypatch):
    monkeypatch.setattr(records_module, "RECORD_BYTES", 100)
    endless = itertools.chain([b"a\n", b'"x\n'], itertools.repeat(b"y\n"))
    with pytest.raises(BadRequest, match="at line 2 of the file has more than 100 bytes"):
        list(Even(",").numbered(records(endless, ","), Met()))


def test_a_line_without_end_is_refused_before_all_is_read(monkeypatch):
    monkeypatch.setattr(files, "RECORD_BYTES", 100)
    with pytest.raises(BadRequest, match="Line 2 of the file has more than 100 bytes"):
        csv(b"a\n" + b"x" * 1000)


def test_a_row_that_is_too_long_is_named_or_set_aside():
    text = b'a,b\n1,2\n"3\n",4,5\n6,7\n8,9,10\n'
    with pytest.raises(RowRefused) as told:
        csv(text)
    assert told.value.row.to_json() == {"line": 3, "column": None, "value": "5"}
    even = Even(",", most=2)
    rows = b"".join(even.numbered(records(lines(io.BytesIO(text)), ","), Met()))
    assert rows.endswith(b"\n1,2,1,2\n2,5,6,7\n")
    assert [(row.line, row.text) for row in even.bad] == [(3, '"3\n",4,5'), (6, "8,9,10")]


def test_a_line_in_another_encoding_is_found():
    with pytest.raises(Undecodable) as told:
        csv('a\n"1\n2"\nü\nß\n'.encode("latin-1"))
    assert (told.value.line, told.value.text) == (4, b"\xfc\n\xdf\n")
    with pytest.raises(BadRequest, match="Line 2 of the file is not in UTF-8"):
        ndjson('{}\n{"a": "ü"}\n'.encode("latin-1"))


@pytest.mark.parametrize("encoding", ["windows-1252", "latin-1", "utf-16", "utf-8"])
def test_a_file_in_a_named_encoding_is_read_in_it(encoding):
    text = 'größe,b\r\n"ä\r\nö",1\n'
    met = Met()
    content = Recoded(io.BytesIO(text.encode(encoding)), known_encoding(encoding))
    found = Even(",").numbered(records(iter(content), ","), met)
    rows = b"".join(found).partition(b"\n")[2]
    assert (met.names, rows) == (["größe", "b"], '1,2,"ä\r\nö",1\n'.encode())


def test_what_is_not_in_the_named_encoding_is_refused():
    with pytest.raises(BadRequest, match="not in ascii: at line"):
        list(Recoded(io.BytesIO(b"a\n\xff\n"), "ascii"))
    for name in ("nothing", "base64", "hex", "zlib"):
        with pytest.raises(BadRequest, match="no encoding of texts"):
            known_encoding(name)


def test_the_kinds_of_json_values_are_met():
    met = Met()
    lines = (
        b'{"a": "01", "b": 1, "c": [1, null], "d": [], "e": 9223372036854775808}\n'
        b'{"a": null, "b": 2.5, "c": ["x", 1], "d": [{}], "f": true, "g": {"h": 1}}\n'
    )
    list(numbered_ndjson(io.BytesIO(lines), met))
    assert met.kinds == {
        "a": {"string"},
        "b": {"integer", "number"},
        "c": {"[object]"},
        "d": {"[]", "[object]"},
        "e": {"large"},
        "f": {"boolean"},
        "g": {"object"},
    }


def test_objects_get_their_number_as_the_first_key():
    names, lines = ndjson(b'{"a":1}\n\n  { "b" : "\xc3\xa9" }\n{}\n{"b":2,"_id":9}\n')
    assert names == ["a", "b", "_id"]
    assert lines == [
        b'{"_row":1,"a":1}\n',
        b'{"_row":2,"b" : "\xc3\xa9" }\n',
        b'{"_row":3}\n',
        b'{"_row":4,"b":2,"_id":9}\n',
    ]


@pytest.mark.parametrize("line", [b"[1]", b'{"a":', b"x", b'"a"'])
def test_a_line_that_is_no_object_is_named(line):
    with pytest.raises(BadRequest, match="Line 3 of the file is not a JSON object"):
        ndjson(b'{"a":1}\n\n' + line + b"\n")


@pytest.mark.parametrize("line", [b'{"a.b":1}', b'{"a":1,"A":2}'])
def test_a_key_that_bigquery_cannot_read_is_named(line):
    with pytest.raises(BadRequest, match=r"BigQuery cannot read the key '(a\.b|A)'"):
        ndjson(line)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "", "b"], "Column 2 of the file has no name"),
        (["a", "b", "a"], 'two columns called "a"'),
        (["_a"], "cannot have the column '_a'"),
        (['a"b'], "double quote"),
        ([" a"], "begin or end with a space"),
        (["ü" * 64], "63 characters at most"),
    ],
)
def test_a_name_that_ckan_cannot_have_is_refused_with_the_reason(names, words):
    with pytest.raises(BadRequest, match=words):
        check_names(names)


def test_names_that_differ_in_case_and_a_downloads_id_are_fine():
    check_names(["_id", "a", "A", "ü" * 63, "x.y", "select"])


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ({"url": "a.csv"}, "csv"),
        ({"url": "https://x.example/a.b.CSV.gz?x=y.pdf"}, "csv"),
        ({"url": "a.jsonl"}, "ndjson"),
        ({"url": "a.parquet.zip", "format": "ZIP"}, "parquet"),
        ({"url": "a", "format": "CSV"}, "csv"),
        ({"url": "a", "format": ".csv.gz"}, "csv"),
        ({"url": "a", "format": "text/csv; charset=utf-8"}, "csv"),
        ({"url": "a", "mimetype": "text/tab-separated-values"}, "tsv"),
        ({"url": "a.xlsx#Sheet 2", "format": "XLSX"}, "xlsx"),
        ({"url": "a.csv", "format": "PDF"}, None),
        ({"url": "a.csv", "url_type": "datastore"}, None),
        ({"url": "http://[a", "format": ""}, None),
        ({}, None),
    ],
)
def test_what_a_resource_says_of_itself_tells_the_kind_of_its_file(resource, name):
    kind = kind_of(resource)
    assert (kind and kind.name) == name


def test_headings_become_names_that_the_datastore_can_have():
    found = ["_id", "a", "", " a ", "_x", 'b"c', "a_2", "ü" * 80, "x\ny", "_", "a"]
    names, notes = headings.names(found)
    assert names == [
        *("_id", "a", "column_3", "a_3", "x", "b'c", "a_2", "ü" * 63, "x y", "column_10", "a_4"),
    ]
    assert notes[:2] == [
        'Column 3, without a heading, is called "column_3".',
        'Column 4, "a", is called "a_3".',
    ]
    assert len(notes) == 8
    check_names(names)


HEADS = {
    "commas": ("a,b\n1,2\n", ","),
    "semicolons, decimal commas": ("a;b\n1,5;2,5\n3,5;4,5\n", ";"),
    "tabs": ("a\tb, c\n1\t2, 3\n", "\t"),
    "bars": ("a|b|c\n1|2|3\n", "|"),
    "one column of names": ("name\nSmith, John\nDoe, Jane\n", ";"),
    "one column of times": ("at hh:mm\n10:30\n11:30\n", ","),
    "delimiters in quotes": ('a;b\n"1,2,3";"x,y,z"\n"1,2,3";"x,y,z"\n', ";"),
    "a heading alone": ("a;b;c\n", ";"),
    "one long row": ("a,b\n1,2,3\n", ","),
    "all rows end with one more": ("a,b\n1,2,\n3,4,\n", ","),
    "short rows": ("a,b,c\n1,2\n3,4\n", ","),
    "texts with commas": ("id;text\n1;one, two\n2;three\n3;a, b, c\n", ";"),
}


@pytest.mark.parametrize("name", list(HEADS))
def test_the_delimiter_is_the_one_that_all_records_agree_on(name):
    text, delimiter = HEADS[name]
    assert dialect.delimiter(text, is_whole=True) == delimiter


GERMAN = "Straße;Größe\nKönigsallee;äöü\nÄgyptische Straße;weiß\nMünchen – Süd;€ 5\n"
ENCODED = {
    "utf-8": (GERMAN, "utf-8"),
    "utf-8 with a mark": (GERMAN, "utf-8-sig"),
    "utf-16": (GERMAN, "utf-16"),
    "utf-16-le": (GERMAN, "utf-16-le"),
    "windows-1252": (GERMAN, "cp1252"),
    "one letter": ("name\nM\xfcller\n", "cp1252"),
    "French": ("nom;région\nHélène;Île-de-France\nÉric;Provence-Alpes-Côte d’Azur\n", "cp1252"),
    "Russian": ("имя;город\nИван Петров;Москва\nАнна Смирнова;Санкт-Петербург\n", "cp1251"),
    "Japanese": ("名前,都市\n山田太郎,東京都千代田区\n佐藤花子,大阪府大阪市\n", "shift_jis"),
}


@pytest.mark.parametrize("name", list(ENCODED))
def test_the_encoding_is_found_on_the_head(name):
    text, encoding = ENCODED[name]
    head = text.encode(encoding)
    found = dialect.encoding(head)
    assert head.decode(found) == text


def packed(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return out.getvalue()


@pytest.mark.parametrize("pack", [gzip.compress, packed], ids=["gzip", "zip"])
def test_what_unpacks_to_too_much_is_given_up(monkeypatch, pack):
    monkeypatch.setattr(source, "_RATIO_FROM", 10**6)
    data = pack(b"a\n" * 5 * 10**6)
    for limits, words in ((Limits(10**6), "more than 1,000,000 bytes"), (Limits(), "suspicious")):
        counted = Counted(io.BytesIO(data), limits, lambda count: None)
        with pytest.raises(TooLarge, match=words):  # noqa: SIM117
            with unpacked(counted, "a.csv", None, limits, None) as content:
                while content.stream.read(10**5):
                    pass


def test_a_zip_must_hold_one_table():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("a.csv", "b.csv", "readme.txt"):
            archive.writestr(name, "x")
    counted = Counted(io.BytesIO(out.getvalue()), Limits(), lambda count: None)
    with pytest.raises(BadRequest, match=r"must hold one table; it holds 2: a\.csv, b\.csv"):  # noqa: SIM117
        with unpacked(counted, "a.zip", None, Limits(), None):
            pass
