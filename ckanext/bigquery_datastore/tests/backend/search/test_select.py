"""The SQL of a search: values travel beside it, names are quoted, order is exact."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest

from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.query import parameter_list
from ckanext.bigquery_datastore.backend.search.build import build
from ckanext.bigquery_datastore.backend.table import naming, types
from ckanext.bigquery_datastore.backend.table.model import Column, Table
from ckanext.bigquery_datastore.errors import Invalid

TABLE = Table(
    "p",
    "d",
    "t-1",
    (
        Column("_id", types.TYPES["int8"], "_id"),
        Column("name", types.TYPES["text"], "name"),
        Column("n (1)", types.TYPES["int4"], "n _1_"),
        Column("when", types.TYPES["timestamp"], "when"),
        Column("list", naming.array_of(types.TYPES["text"]), "list"),
    ),
)


def test_everything_is_found_in_the_order_of_id() -> None:
    assert build(TABLE, {}).sql() == (
        "SELECT t.`_id` AS `_id`, t.`name` AS `name`, t.`n _1_` AS `n _1_`, t.`when` AS `when`, "
        "t.`list` AS `list` FROM `p.d.t-1` AS t ORDER BY t.`_id` ASC NULLS LAST"
    )


def test_a_rendered_column_is_sorted_by_its_value() -> None:
    select = build(TABLE, {"fields": "n (1)", "sort": "n (1) desc", "limit": 5, "offset": 10})
    assert select.sql(lambda column, sql: types.export_text(column.type, sql)) == (
        "SELECT CAST(t.`n _1_` AS STRING) AS `n _1_` FROM `p.d.t-1` AS t "
        "ORDER BY t.`n _1_` DESC NULLS FIRST, t.`_id` ASC NULLS LAST LIMIT 5 OFFSET 10"
    )


def test_distinct_rows_are_sorted_by_what_was_selected() -> None:
    select = build(TABLE, {"fields": ["name"], "distinct": True, "sort": "name", "limit": 3})
    assert select.sql() == (
        "SELECT t.`name` AS `name` FROM (SELECT DISTINCT t.`name` FROM `p.d.t-1` AS t) "
        "AS t ORDER BY t.`name` ASC NULLS LAST LIMIT 3"
    )
    assert select.count_sql() == (
        "SELECT COUNT(*) AS total FROM (SELECT DISTINCT t.`name` FROM `p.d.t-1` AS t)"
    )


def test_an_output_that_is_called_as_the_table_is_not_taken_for_it_in_the_order() -> None:
    columns = (TABLE.columns[0], Column("T", types.TYPES["text"], "T"))
    select = build(replace(TABLE, columns=columns), {"sort": "T desc", "limit": 2})
    assert select.sql() == (
        "SELECT `_id`, `T` FROM (SELECT t.`_id` AS `_id`, t.`T` AS `T`, t.`T` AS `order 0`, "
        "t.`_id` AS `order 1` FROM `p.d.t-1` AS t) ORDER BY `order 0` DESC NULLS FIRST, "
        "`order 1` ASC NULLS LAST LIMIT 2"
    )


@pytest.mark.parametrize(
    ("filters", "where", "values"),
    [
        ({"name": 25}, "t.`name` = @p0", [("STRING", "25")]),
        ({"n (1)": "5"}, "t.`n _1_` = @p0", [("INT64", "5")]),
        ({"n (1)": 1.5}, "t.`n _1_` = @p0", [("FLOAT64", "1.5")]),
        ({"n (1)": 10**30}, "t.`n _1_` = @p0", [("FLOAT64", str(10**30))]),
        ({"name": ["a", None, "b"]}, "t.`name` IN (@p0, @p1)", [("STRING", "a"), ("STRING", "b")]),
        ({"name": []}, "FALSE", []),
        ({"name": None}, "FALSE", []),
        (
            {"n (1)": {"gt": 1, "lte": 3}},
            "(t.`n _1_` > @p0 AND t.`n _1_` <= @p1)",
            [("INT64", "1"), ("INT64", "3")],
        ),
        (
            {"n (1)": [{"lte": 1}, 7]},
            "(t.`n _1_` <= @p0 OR t.`n _1_` IN (@p1))",
            [("INT64", "1"), ("INT64", "7")],
        ),
        (
            {"$or": [{"name": "a", "n (1)": 1}, {"n (1)": 2}]},
            "((t.`name` = @p0 AND t.`n _1_` = @p1) OR t.`n _1_` = @p2)",
            [("STRING", "a"), ("INT64", "1"), ("INT64", "2")],
        ),
        ({"list": {"eq": ["a", "b"]}}, "t.`list` = @p0", [("STRING", '["a","b"]')]),
        (
            {"name": "'; DROP TABLE x --"},
            "t.`name` = @p0",
            [("STRING", "'; DROP TABLE x --")],
        ),
    ],
)
def test_a_filter_is_a_condition_with_parameters(
    filters: Any, where: str, values: list[tuple[str, str]]
) -> None:
    select = build(TABLE, {"filters": filters})
    assert select.where == (where,)
    assert [(parameter.type, parameter.value) for parameter in select.parameters] == values


def test_a_long_list_is_one_parameter_for_each_kind_of_value() -> None:
    numbers = build(TABLE, {"filters": {"n (1)": [*range(60), 1.5, "7", 10**30, 1]}})
    assert numbers.where == ("(t.`n _1_` IN UNNEST(@p0) OR t.`n _1_` IN UNNEST(@p1))",)
    whole, others = numbers.parameters
    assert (whole.type, whole.value) == ("INT64", tuple(map(str, range(60))))
    assert (others.type, others.value) == ("FLOAT64", ("1.5", str(10**30)))
    documents = build(TABLE, {"filters": {"when": ["2024-01-01T00:00:00"] * 60}})
    assert documents.where == ("t.`when` IN UNNEST(@p0)",)


def test_a_hundred_thousand_values_are_a_request_that_bigquery_takes() -> None:
    values = [str(uuid.uuid4()) for _ in range(99_999)]
    select = build(TABLE, {"filters": {"name": values}})
    assert len(select.sql()) < 1_000
    request = [parameter.to_api_repr() for parameter in parameter_list(select.parameters)]
    assert len(request) == 1 and len(json.dumps(request)) < 10_000_000


@pytest.mark.parametrize(
    ("params", "errors"),
    [
        ({"filters": "x"}, {"filters": ["Filters must be defined as a dict or a list of dicts"]}),
        ({"filters": {"x": 1}}, {"filters": ["Unknown field: x"]}),
        ({"filters": {"x": [1]}}, {"filters": ['invalid value "x"']}),
        ({"filters": {"$not": []}}, None),
        ({"filters": {"$or": []}}, {"filters": ['invalid value "$or"']}),
        ({"filters": {"$and": [{}]}}, {"filters": ['invalid value "$and"']}),
        ({"filters": {"name": {}}}, {"filters": ['invalid value "name"']}),
        ({"filters": [{}]}, {"filters": ['invalid value "{}"']}),
        ({"filters": {"n (1)": {"like": 1}}}, {"filters": ["Unknown filter operation: like"]}),
        ({"fields": "name, x"}, {"fields": ['invalid value "x"']}),
        ({"fields": "_full_text"}, {"fields": ['invalid value "_full_text"']}),
        ({"sort": "x desc"}, {"sort": ['invalid value "x desc"']}),
        ({"sort": "name; DROP TABLE x"}, {"sort": ['invalid value "name; DROP TABLE x"']}),
        ({"limit": -1}, {"limit": ['invalid value "-1"']}),
        ({"offset": "x"}, {"offset": ['invalid value "x"']}),
        ({"q": {"x": "y"}}, {"q": ['invalid value "x"']}),
        ({"q": {"name": ["y"]}}, {"q": ['invalid value "name"']}),
        ({"q": "a &", "plain": False}, None),
        ({"filters": {"n (1)": "abc"}}, None),
        ({"fields": "name", "distinct": True, "sort": "_id"}, None),
    ],
)
def test_what_core_refuses_is_refused_in_its_words(
    params: dict[str, Any], errors: dict[str, Any] | None
) -> None:
    with pytest.raises(Invalid) as refused:
        build(TABLE, params)
    if errors is not None:
        assert refused.value.errors == errors


def test_filters_have_cores_limits() -> None:
    deep: Any = {"name": "a"}
    for _ in range(12):
        deep = {"$and": [deep, {"name": "b"}]}
    with pytest.raises(Invalid, match="Maximum nesting depth"):
        build(TABLE, {"filters": deep})
    with pytest.raises(Invalid, match="Maximum number"):
        build(TABLE, {"filters": {"$or": [{"name": str(n)} for n in range(150)]}})


@pytest.mark.parametrize(
    ("q", "plain", "needles"),
    [
        ("Warm winter", True, [" warm ", " winter "]),
        ("the winter of 52.56", True, [" winter ", " 52_56 "]),
        ("foo:*", False, [" foo"]),
        ("foo:* & 'two words'", False, [" foo", " two  words "]),
        ("a-b | c", False, [" a  b ", " c "]),
        ("x <-> y", False, [" x  y "]),
    ],
)
def test_words_are_looked_for_between_spaces(q: str, plain: bool, needles: list[str]) -> None:
    params = {"q": {"name": q}, "plain": plain, "language": "english" if plain else "simple"}
    select = build(TABLE, params)
    assert [parameter.value for parameter in select.parameters] == needles
    assert [column.name for column in select.columns][-1] == "rank name"
    assert select.aliases[-1] == "rank name"


def test_a_dump_has_no_limit_and_keeps_what_other_plugins_ask() -> None:
    extra = Parameter("x0", "INT64", "30")
    select = build(
        TABLE,
        {"filters": {"older": [1]}, "limit": None},
        extra_where=["t.`n _1_` > @x0"],
        extra_parameters=[extra],
        custom_filters={"older"},
    )
    assert select.limit is None
    assert select.where == ("t.`n _1_` > @x0",)
    assert select.parameters == (extra,)
