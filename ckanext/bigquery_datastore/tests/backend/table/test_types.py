"""Types: what is accepted, in whose words it is refused, and how it is read back."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from ckanext.bigquery_datastore.backend.table import guessing, naming, reading, types
from ckanext.bigquery_datastore.backend.table.naming import of_name
from ckanext.bigquery_datastore.backend.table.types import BadValue


@pytest.mark.parametrize(
    ("asked", "name", "bq_type"),
    [
        ("text", "text", "STRING"),
        ("int", "int4", "INT64"),
        ("BIGINT", "int8", "INT64"),
        ("double precision", "float8", "FLOAT64"),
        ("numeric(10,2)", "numeric", "NUMERIC"),
        ("timestamp with time zone", "timestamptz", "TIMESTAMP"),
        ("json", "nested", "STRING"),
        ("_text", "_text", "STRING"),
        ("int[2]", "_int4", "STRING"),
        ("text []", "_text", "STRING"),
        ("varchar(20)", "varchar", "STRING"),
    ],
)
def test_a_type_has_postgresqls_name_and_a_place_in_bigquery(
    asked: str, name: str, bq_type: str
) -> None:
    found = of_name(asked)
    assert found is not None
    assert (found.name, found.bq) == (name, bq_type)


@pytest.mark.parametrize("asked", ["", "int4int", "serial", "text; DROP TABLE x", "_nothing", "[]"])
def test_what_is_no_type_is_none(asked: str) -> None:
    assert of_name(asked) is None


@pytest.mark.parametrize(
    ("type_name", "value", "text"),
    [
        ("text", 25, "25"),
        ("text", True, "true"),
        ("int", "12", "12"),
        ("int", 2.5, "2"),
        ("int8", -(2**63), "-9223372036854775808"),
        ("numeric", "1.50", "1.5"),
        ("numeric", 1e-9, "0.000000001"),
        ("numeric", "0.0000000005", "0.000000001"),
        ("numeric(10,2)", "1.005", "1.01"),
        ("float", "1e20", "1e+20"),
        ("float", "-inf", "-Infinity"),
        ("bool", "YES", "true"),
        ("bool", "f", "false"),
        ("date", "03/01/2005", "2005-03-01"),
        ("timestamp", "2005-03-01", "2005-03-01 00:00:00"),
        ("timestamp", "2020-01-01T10:00:00+02:00", "2020-01-01 10:00:00"),
        ("timestamptz", "2020-01-01T10:00:00+02:00", "2020-01-01 08:00:00+00:00"),
        ("time", "10:11:12.5", "10:11:12.500000"),
        ("json", {"b": [1, "é"]}, '{"b": [1, "\\u00e9"]}'),
        ("jsonb", '{"bb":1,"a":2}', '{"a": 2, "bb": 1}'),
        ("_text", ["a", 'é"', None], '["a","é\\"",null]'),
        ("_text", '{a,"b c",NULL}', '["a","b c",null]'),
        ("int[2]", [3, -42], "[3,-42]"),
    ],
)
def test_a_value_is_brought_into_the_text_that_is_stored(
    type_name: str, value: object, text: str
) -> None:
    found = of_name(type_name)
    assert found is not None
    assert found.write(value) == text


@pytest.mark.parametrize(
    ("type_name", "value", "message"),
    [
        ("numeric", "   ", 'invalid input syntax for type numeric: "   "'),
        ("int", "abc", 'invalid input syntax for type integer: "abc"'),
        ("int", "3000000000", 'value "3000000000" is out of range for type integer'),
        ("int", True, 'column "c" is of type integer but expression is of type boolean'),
        ("bool", 1, 'column "c" is of type boolean but expression is of type integer'),
        ("timestamp", "foo", 'invalid input syntax for type timestamp: "foo"'),
        ("timestamp", "2005", 'invalid input syntax for type timestamp: "2005"'),
        ("date", "2005-13-40", 'date/time field value out of range: "2005-13-40"'),
        ("numeric", "1e40", "numeric field overflow"),
        ("numeric", "1e999999999", "numeric field overflow"),
        ("varchar(3)", "long", "value too long for type character varying(3)"),
        ("text", "a\0b", "A string literal cannot contain NUL (0x00) characters."),
        ("text", {"a": 1}, "can't adapt type 'dict'"),
        ("text", "{column}", None),
    ],
)
def test_a_bad_value_is_refused_in_postgresqls_words(
    type_name: str, value: object, message: str | None
) -> None:
    found = of_name(type_name)
    assert found is not None
    if message is None:
        assert found.write(value) == value
        return
    with pytest.raises(BadValue) as refused:
        found.write(value)
    assert refused.value.for_column("c") == message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e20, "1e+20"),
        (0.1, "0.1"),
        (40.0, "40"),
        (1e15, "1e+15"),
        (123456789012345.0, "123456789012345"),
        (1.5e-5, "1.5e-05"),
        (0.0001, "0.0001"),
        (5e-324, "5e-324"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_a_float_is_printed_as_postgresql_prints_it(value: float, text: str) -> None:
    assert reading.float_text(value) == text


@pytest.mark.parametrize(
    ("type_name", "value", "json_value", "csv_text"),
    [
        ("numeric", Decimal("12.500000000"), Decimal("12.5"), "12.5"),
        ("numeric", Decimal("9"), 9, "9"),
        ("float8", 40.0, 40, "40"),
        ("float8", float("nan"), "NaN", "NaN"),
        ("bool", True, True, "t"),
        ("date", datetime.date(5, 1, 2), "0005-01-02", "0005-01-02"),
        ("time", datetime.time(10, 11, 12, 500000), "10:11:12.5", "10:11:12.5"),
        (
            "timestamp",
            datetime.datetime(2015, 1, 1, 10, 0, 0, 123999),
            "2015-01-01T10:00:00.123",
            "2015-01-01T10:00:00.123",
        ),
        (
            "timestamptz",
            datetime.datetime(2015, 1, 1, 10, tzinfo=datetime.timezone.utc),
            "2015-01-01T10:00:00+00:00",
            "2015-01-01 10:00:00+00",
        ),
        ("json", '{"a": "b"}', {"a": "b"}, '{"a": "b"}'),
        ("json", None, None, "null"),
        ("_text", '["a","b"]', ["a", "b"], '["a","b"]'),
        ("text", None, None, None),
    ],
)
def test_a_value_is_read_as_core_gives_it(
    type_name: str, value: object, json_value: object, csv_text: str | None
) -> None:
    found = of_name(type_name)
    assert found is not None
    assert types.read(found, value) == json_value
    assert types.csv_text(found, value) == csv_text


def test_milliseconds_can_be_left_out() -> None:
    moment = datetime.datetime(2015, 1, 1, 10, 0, 0, 123456)
    assert types.read(types.TYPES["timestamp"], moment, False) == "2015-01-01T10:00:00"
    assert types.csv_text(types.TYPES["timestamp"], moment, False) == "2015-01-01T10:00:00"


@pytest.mark.parametrize(
    ("value", "guessed"),
    [
        (1, "int"),
        (True, "int"),
        (1.5, "float"),
        ("12", "integer"),
        ("12.5", "numeric"),
        ("2005-03-01", "timestamp"),
        ("31/12/2005", "timestamp"),
        ({"a": 1}, "nested"),
        (None, "text"),
        ("x", "text"),
    ],
)
def test_a_type_is_guessed_from_the_first_value_as_core_does(value: object, guessed: str) -> None:
    assert guessing.guess(value) == guessed


@pytest.mark.parametrize("bq_type", ["BYTES", "GEOGRAPHY", "INTERVAL", "RANGE", "STRUCT", "JSON"])
def test_columns_that_ckan_did_not_make_have_a_type_to_show(bq_type: str) -> None:
    found = naming.of_column(bq_type, False, None)
    assert found.name
    assert types.export_text(found, "t.`c`") != "t.`c`"


def test_an_array_of_bigquerys_own_is_shown_as_an_array() -> None:
    found = naming.of_column("INTEGER", True, None)
    assert (found.name, found.native) == ("_int8", "bigint[]")
    assert types.read(found, [1, 2]) == [1, 2]
