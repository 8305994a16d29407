"""Rows get their number on the way to BigQuery, and nothing else about them changes."""

import io

import pytest

from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load import format_of, numbered_csv, numbered_ndjson


def csv(text: bytes) -> bytes:
    return b"".join(numbered_csv(io.BytesIO(text)))


def test_records_are_numbered_and_the_header_is_named():
    assert csv(b"a,b\nx,y\nz,\n") == b"_id,a,b\n1,x,y\n2,z,\n"


def test_line_ends_and_delimiters_inside_quotes_belong_to_the_record():
    text = b'a,b\r\n"x\r\ny, ""z""\n",1\r\n2,3'
    assert csv(text) == b'_id,a,b\r\n1,"x\r\ny, ""z""\n",1\r\n2,2,3\n'


def test_a_byte_order_mark_does_not_become_part_of_the_first_name():
    assert csv(b"\xef\xbb\xbfa\n1\n") == b"_id,a\n1,1\n"


def test_empty_lines_are_no_records():
    assert csv(b"a\n1\n\n2\n\r\n") == b"_id,a\n1,1\n2,2\n"


def test_a_quote_that_is_never_closed_is_named():
    with pytest.raises(BadRequest, match="closing quote"):
        csv(b'a\n"x\n')


def test_objects_get_their_number_as_the_first_key():
    lines = numbered_ndjson(io.BytesIO(b'{"a":1}\n\n  { "b" : "\xc3\xa9" }\n{}\n'))
    assert list(lines) == [b'{"_id":1,"a":1}\n', b'{"_id":2,"b" : "\xc3\xa9" }\n', b'{"_id":3}\n']


def test_a_line_that_is_no_object_is_named():
    with pytest.raises(BadRequest, match="Line 2"):
        list(numbered_ndjson(io.BytesIO(b'{"a":1}\n[1]\n')))


@pytest.mark.parametrize(
    ("name", "format_name"),
    [("a.csv", "csv"), ("a.b.CSV.gz", "csv"), ("a.jsonl", "ndjson"), ("a.parquet", "parquet")],
)
def test_a_file_name_tells_the_format(tmp_path, name, format_name):
    assert format_of(tmp_path / name).name == format_name


def test_a_name_that_tells_none_is_refused_with_the_formats(tmp_path):
    with pytest.raises(BadRequest, match="csv, ndjson, parquet"):
        format_of(tmp_path / "a.xlsx.gz")
