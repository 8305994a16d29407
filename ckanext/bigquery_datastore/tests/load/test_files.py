"""Rows get their number on the way to BigQuery, and nothing else about them changes."""

import io
import itertools

import pytest

from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load import files
from ckanext.bigquery_datastore.load.files import (
    Met,
    check_names,
    format_of,
    known_encoding,
    numbered_csv,
    numbered_ndjson,
    opened,
)


def csv(text: bytes) -> tuple[list[str], bytes]:
    """The names of the columns, and the records below the header of places."""
    met = Met()
    head, _, rows = b"".join(numbered_csv(io.BytesIO(text), met)).partition(b"\n")
    places = [b"_column_%d" % number for number in range(1, len(met.names) + 1)]
    assert head.removesuffix(b"\r") == b",".join([b"_row", *places] if met.names else [])
    return met.names, rows


def ndjson(text: bytes) -> tuple[list[str], list[bytes]]:
    met = Met()
    return met.names, list(numbered_ndjson(io.BytesIO(text), met))


def test_records_are_numbered_below_a_header_of_places():
    assert csv(b"a,b\nx,y\nz,\n") == (["a", "b"], b"1,x,y\n2,z,\n")


def test_line_ends_and_delimiters_inside_quotes_belong_to_the_record():
    text = b'a,b\r\n"x\r\ny, ""z""\n",1\r\n2,3'
    assert csv(text) == (["a", "b"], b'1,"x\r\ny, ""z""\n",1\n2,2,3\n')


def test_names_may_be_in_quotes_and_have_what_bigquery_forbids():
    assert csv('"a, ü",\tb.c! \n1,2\n'.encode()) == (["a, ü", "b.c!"], b"1,1,2\n")


def test_a_byte_order_mark_does_not_become_part_of_the_first_name():
    assert csv(b"\xef\xbb\xbfa\n1\n") == (["a"], b"1,1\n")


def test_empty_lines_are_no_records_and_no_header():
    assert csv(b"\na\n1\n\n2\n\r\n") == (["a"], b"1,1\n2,2\n")


def test_nothing_has_no_names():
    assert csv(b"") == ([], b"")
    assert ndjson(b"\n\n") == ([], [])


def test_a_quote_that_is_never_closed_is_named():
    with pytest.raises(BadRequest, match="closing quote"):
        csv(b'a\n"x\n')


def test_a_quote_that_is_open_for_too_long_is_refused_before_all_is_read(monkeypatch):
    monkeypatch.setattr(files, "RECORD_BYTES", 100)
    endless = itertools.chain([b"a\n", b'"x\n'], itertools.repeat(b"y\n"))
    with pytest.raises(BadRequest, match="Record 1 of the file has more than 100 bytes"):
        list(numbered_csv(endless, Met()))  # type: ignore[arg-type]


def test_the_line_that_is_in_another_encoding_is_named():
    with pytest.raises(BadRequest, match=r"Line 1 of the file is not in UTF-8.*--encoding"):
        csv("größe\n1\n".encode("latin-1"))
    with pytest.raises(BadRequest, match="Line 4 of the file is not in UTF-8"):
        csv('a\n"1\n2"\nü\n'.encode("latin-1"))
    with pytest.raises(BadRequest, match="Line 2 of the file is not in UTF-8"):
        ndjson('{}\n{"a": "ü"}\n'.encode("latin-1"))


@pytest.mark.parametrize("encoding", ["windows-1252", "latin-1", "utf-16", "utf-8"])
def test_a_file_in_a_named_encoding_is_read_in_it(encoding):
    text = 'größe,b\r\n"ä\r\nö",1\n'
    met = Met()
    content = opened(io.BytesIO(text.encode(encoding)), known_encoding(encoding))
    rows = b"".join(numbered_csv(content, met)).partition(b"\n")[2]
    assert (met.names, rows) == (["größe", "b"], '1,"ä\r\nö",1\n'.encode())


def test_what_is_not_in_the_named_encoding_is_refused():
    with pytest.raises(BadRequest, match="not in ascii: at line"):
        list(numbered_csv(opened(io.BytesIO(b"a\n\xff\n"), "ascii"), Met()))
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
    ("name", "format_name"),
    [("a.csv", "csv"), ("a.b.CSV.gz", "csv"), ("a.jsonl", "ndjson"), ("a.parquet", "parquet")],
)
def test_a_file_name_tells_the_format(tmp_path, name, format_name):
    assert format_of(tmp_path / name).name == format_name


def test_a_name_that_tells_none_is_refused_with_the_formats(tmp_path):
    with pytest.raises(BadRequest, match="csv, ndjson, parquet"):
        format_of(tmp_path / "a.xlsx.gz")
