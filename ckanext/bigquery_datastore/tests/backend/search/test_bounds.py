"""What a search asks for is bounded before it is read, and read in time that grows with it."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from ckanext.bigquery_datastore.backend.search import bounds, fulltext
from ckanext.bigquery_datastore.backend.search.build import build
from ckanext.bigquery_datastore.backend.table import naming, types
from ckanext.bigquery_datastore.backend.table.model import Column, Table
from ckanext.bigquery_datastore.errors import Invalid

TABLE = Table(
    "p",
    "d",
    "t",
    (
        Column("_id", types.TYPES["int8"], "_id"),
        Column("name", types.TYPES["text"], "name"),
        Column("a nulls first", types.TYPES["text"], "a_nulls_first"),
    ),
)


def nested(levels: int) -> Any:
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


TOO_LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "q in characters": ("q", {"q": "a" * 10_001}),
    "q of columns in characters": ("q", {"q": {"name": "a" * 10_001}}),
    "q in words": ("q", {"q": " ".join(f"w{n}" for n in range(201))}),
    "q in words to be left out": ("q", {"plain": False, "q": "&".join(["!w"] * 201)}),
    "full text": ("full_text", {"full_text": "a" * 10_001}),
    "language": ("language", {"language": "a" * 10_001}),
    "sort in characters": ("sort", {"sort": "name" + " " * 10_000 + "desc"}),
    "sort in terms": ("sort", {"sort": ["name"] * 101}),
    "fields in characters": ("fields", {"fields": "name," * 600_001}),
    "filters in values": ("filters", {"filters": {"name": ["a"] * 100_001}}),
    "filters in characters": ("filters", {"filters": {"name": "a" * 4_000_001}}),
    "filters in levels": ("filters", {"filters": {"name": nested(31)}}),
    "filters beyond the stack": ("filters", {"filters": {"name": nested(100_000)}}),
    "what nobody knows, in characters": ("x", {"x": ["a" * 5_000, "b" * 5_001]}),
    "what nobody knows, in values": ("x", {"x": [0] * 1_001}),
    "what nobody knows, in levels": ("x", {"x": nested(31)}),
    "what nobody knows, without end": ("x", {"x": [{"y": float("nan")}]}),
    "limit": ("limit", {"limit": 2**63}),
    "limit without end": ("limit", {"limit": float("inf")}),
    "limit in digits": ("limit", {"limit": "9" * 5_000}),
    "offset": ("offset", {"offset": str(2**63)}),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_refused_at_the_parameter_that_is(name: str) -> None:
    key, params = TOO_LARGE[name]
    with pytest.raises(Invalid) as refused:
        build(TABLE, params)
    assert list(refused.value.errors) == [key]


def test_what_just_fits_is_read() -> None:
    build(TABLE, {"q": "a" * 10_000})
    build(TABLE, {"q": " ".join(f"w{n}" for n in range(200))})
    build(TABLE, {"sort": ["name"] * 100})
    build(TABLE, {"filters": {"name": [str(n) for n in range(99_999)]}})
    assert build(TABLE, {"limit": 2**63 - 1, "offset": 2**63 - 1}).limit == 2**63 - 1


def test_the_largest_table_of_bigquerys_may_be_described() -> None:
    info = {"label": "a" * 300, "notes": "b" * 1_000, "type_override": "text"}
    column = {"id": "c" * 300, "type": "text", "info": info}
    bounds.check_others({"fields": [column] * 10_000, "primary_key": ["c" * 300] * 16})


def test_a_site_may_allow_longer_texts() -> None:
    build(TABLE, {"q": "a" * 50_000}, characters=50_000)


@pytest.mark.parametrize("char", ["!", "("])
def test_a_tsquery_of_many_levels_is_refused(char: str) -> None:
    for levels in (51, sys.getrecursionlimit() * 3):
        with pytest.raises(Invalid) as refused:
            build(TABLE, {"plain": False, "q": char * levels})
        assert list(refused.value.errors) == ["query", "info"]


@pytest.mark.parametrize(
    ("clause", "order"),
    [
        ("name", "t.`name` ASC NULLS LAST"),
        ("name desc", "t.`name` DESC NULLS FIRST"),
        ("name   DESC", "t.`name` DESC NULLS FIRST"),
        ("name nulls first", "t.`name` ASC NULLS FIRST"),
        ("name asc nulls  last  ", "t.`name` ASC NULLS LAST"),
        ('"name" Desc NULLS Last', "t.`name` DESC NULLS LAST"),
        ('"a nulls first"', "t.`a_nulls_first` ASC NULLS LAST"),
        ('"a nulls first" nulls first', "t.`a_nulls_first` ASC NULLS FIRST"),
    ],
)
def test_a_term_of_the_order_is_a_name_a_direction_and_the_place_of_nulls(
    clause: str, order: str
) -> None:
    assert build(TABLE, {"sort": clause}).order_by[0].render() == order


@pytest.mark.parametrize("clause", ["desc desc desc", "name desc asc", " nulls first", "nulls", ""])
def test_other_terms_are_refused(clause: str) -> None:
    with pytest.raises(Invalid):
        build(TABLE, {"sort": [clause, "name"]})


class Counted(str):
    """A text that counts the characters that are copied out of it."""

    copied = 0

    def __getitem__(self, key: Any) -> str:
        found = super().__getitem__(key)
        Counted.copied += len(found)
        return Counted(found)

    def strip(self, *args: Any) -> str:
        Counted.copied += len(self)
        return Counted(super().strip(*args))


@pytest.mark.parametrize("words", [100, 10_000])
def test_reading_a_tsquery_copies_it_no_more_than_a_few_times(words: int) -> None:
    text = Counted(" & ".join(["word"] * words))
    Counted.copied = 0
    fulltext.tsquery(text, "simple")
    assert Counted.copied <= 4 * len(text)


def test_a_column_that_is_asked_for_many_times_is_read_once() -> None:
    found = build(TABLE, {"fields": ["name"] * 800 + ["_id"]})
    assert [column.name for column in found.columns] == ["name", "_id"]


@pytest.mark.parametrize("bq_type", ["JSON", "STRUCT"])
def test_a_filter_on_json_is_compared_as_json(bq_type: str) -> None:
    table = Table("p", "d", "t", (Column("c", naming.of_column(bq_type, False, None), "c"),))
    for value, text in {'{"a": "ä"}': '{"a": "ä"}', "[1]": "[1]", '"x"': '"x"'}.items():
        for given in (value, json.loads(value)):
            if given == "x":
                continue  # a text is JSON itself
            (parameter,) = build(table, {"filters": {"c": {"eq": given}}}).parameters
            assert parameter.value == text
    for value in ("[1", "x", "NaN", float("nan"), "[" * 100_000):
        with pytest.raises(Invalid):
            build(table, {"filters": {"c": {"eq": value}}})


NASTY: list[Any] = [
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2020-01-01T00:00:00+99:99",
    "2020-01-01T00:00:00" + "0" * 5_000,
    "9" * 4_301,
    "-" + "9" * 10_000,
    "1e-99999999999999999999",
    "1e99999999999999999999",
    "1e999999999",
    "[1e999999999]",
    "[" * 5_000,
    "\0",
    "\ud83d",
    "",
    " ",
    "NaN",
    "١٢٣",
    -(2**63) - 1,
    2**64,
    10**400,
    1e308,
    float("inf"),
    float("nan"),
    True,
    {},
    [],
    [[]],
    {"a": {"b": []}},
]


@pytest.mark.parametrize(
    "type_name", sorted({*types.TYPES, "_text", "_int4", "_float8", "_nested"})
)
def test_a_filter_with_any_value_is_a_statement_or_refused(type_name: str) -> None:
    kind = naming.of_name(type_name)
    assert kind is not None
    table = Table("p", "d", "t", (Column("c", kind, "c"),))
    for value in NASTY:
        for filters in ({"c": value}, {"c": [value]}, {"c": {"gt": value}}):
            try:
                sql = build(table, {"filters": filters}).sql()
            except Invalid as refused:
                assert refused.errors
            else:
                assert sql.startswith("SELECT")
