"""Table Designer's rules, read from its SQL and applied to rows. Needs no running service."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ckanext.tabledesigner import column_types
from ckanext.tabledesigner import plugin as designer
from ckanext.tabledesigner.datastore import VALIDATE_DEFINITION_SQL

from ckanext.bigquery_datastore.backend.designer import rules
from ckanext.bigquery_datastore.backend.table import naming, types
from ckanext.bigquery_datastore.backend.table.model import Column

NAME = rules.function_name("8c1f2b9e")


def column(name: str, tdtype: str, type_name: str = "text", **data: Any) -> Column:
    found = naming.of_name(type_name)
    assert found is not None
    designed = {"tdtype": tdtype, "tdpkreq": "", **data}
    return Column(name, found, name, plugin_data={"tabledesigner": designed})


def python_matches(value: str, pattern: str) -> bool:
    return re.search(f"^{pattern}$", value) is not None


def judged(row: rules.Row, *columns: Column) -> tuple[rules.Row, list[tuple[str, str]]]:
    return rules.applied(rules.rules_of(columns), row, python_matches)


def test_a_table_that_table_designer_did_not_make_has_no_rules():
    plain = Column("a", types.TYPES["text"], "a", plugin_data={"other": {"tdtype": "choice"}})
    assert rules.rules_of([plain]) == []


def test_a_column_without_any_setting_has_no_rules():
    for name, kind in column_types._standard_column_types.items():
        if name not in ("choice", "email"):
            assert rules.rules_of([column("a", name, kind.datastore_type)]) == []


def test_all_that_is_wrong_with_a_row_is_said_in_the_order_of_the_columns():
    columns = (
        column("name", "text", tdpkreq="pk", tdpattern="[A-Z]+"),
        column("mail", "email", tdpkreq="req"),
        column("kind", "choice", tdchoices=["a", "b"], tdpkreq="req"),
        column("n", "integer", "int8", tdminimum="-3", tdmaximum="3"),
        column("born", "date", "date", tdmaximum="2024-1-5"),
    )
    _, refusals = judged({"name": " ", "kind": "c", "n": "-4", "born": "2024-01-06"}, *columns)
    assert refusals == [
        ("name", 'Does not match pattern: "[A-Z]+"'),
        ("name", "Primary key must not be empty"),
        ("mail", "Missing value"),
        ("kind", 'Invalid choice: "c"'),
        ("n", 'Below minimum: "-3"'),
        ("born", 'Above maximum: "2024-1-5"'),
    ]
    good: rules.Row = {"name": "AB ", "mail": " a@b.c", "kind": "b", "n": "3", "born": None}
    assert judged(good, *columns) == ({**good, "name": "AB", "mail": "a@b.c"}, [])


def test_names_and_choices_may_have_any_sign_in_them():
    name, choices = 'it\'s {a}, \\ NEW."x"', ["it's", "50%", "a','b", "{0}", "\\", "ü\n"]
    kind = column(name, "choice", tdchoices=choices)
    assert [judged({name: choice}, kind)[1] for choice in choices] == [[]] * len(choices)
    assert judged({name: "a"}, kind)[1] == [(name, 'Invalid choice: "a"')]


@pytest.mark.parametrize(
    "type_name, low, high",
    [
        ("int8", "9", "10"),
        ("numeric", "-10", "-9.5"),
        ("float8", "1e2", "1e10"),
        ("date", "0987-12-31", "2024-1-1"),
        ("timestamp", "2024-01-01T10:00", "2024-01-01T10:00:00.5"),
        ("timestamptz", "2024-01-01T10:00+01:00", "2024-01-01T10:00:00Z"),
    ],
)
def test_bounds_are_compared_as_values_of_the_type(type_name, low, high):
    type_ = naming.of_name(type_name)
    for bound, value, has_passed in (
        ({"tdminimum": high}, low, False),
        ({"tdminimum": low}, high, True),
        ({"tdminimum": low}, low, True),
        ({"tdmaximum": low}, high, False),
        ({"tdmaximum": high}, low, True),
        ({"tdmaximum": high}, high, True),
    ):
        number = column("a", "numeric", type_name, **bound)
        assert (judged({"a": type_.write(value)}, number)[1] == []) is has_passed


def test_json_null_is_empty_where_json_is_required():
    required = column("a", "json", "json", tdpkreq="req")
    for text, is_empty in (("null", True), (None, True), ("{}", False), ('"null"', False)):
        refusals = [("a", "Missing value")] if is_empty else []
        assert judged({"a": text}, required)[1] == refusals


def test_refusals_are_told_in_one_line_with_tabs_for_nothing_else():
    told = rules.told([("a", 'Invalid choice: "b\tc\nd"'), ("e", "Missing value")])
    assert told == 'TAB-DELIMITED\ta\tInvalid choice: "b c d"\te\tMissing value'


def test_a_bound_that_is_no_value_of_the_column_is_refused():
    with pytest.raises(rules.Unknown) as refused:
        rules.rules_of([column("a", "numeric", "int8", tdminimum="2.5")])
    assert (refused.value.column, str(refused.value)) == (
        "a",
        '"2.5" is no bound of the column: invalid input syntax for type bigint: "2.5"',
    )


# --- what other plugins may do


class Province(column_types.ChoiceColumn):
    """A plugin's type that has core's rule, with choices of its own."""

    def choices(self) -> list[str]:
        return ["North", "South"]


class Even(column_types.IntegerColumn):
    """A plugin's type with SQL of its own."""

    def sql_validate_rule(self) -> str:
        return "IF NEW.a % 2 = 1 THEN errors := errors || ARRAY['a', 'Odd']; END IF;"


@pytest.fixture
def plugins_types(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"province": Province, "even": Even}
    monkeypatch.setattr(designer, "_column_types", {**column_types._standard_column_types, **more})


def test_a_plugins_type_with_cores_rule_is_checked(plugins_types):
    kind = column("a", "province")
    assert judged({"a": "West"}, kind)[1] == [("a", 'Invalid choice: "West"')]
    assert judged({"a": "North"}, kind)[1] == []


def test_a_plugins_type_with_a_rule_of_its_own_is_refused_by_its_words(plugins_types):
    with pytest.raises(rules.Unknown, match=r"IF NEW\.a % 2 = 1 THEN") as refused:
        rules.rules_of([column("b", "text", tdpkreq="req"), column("a", "even", "int8")])
    assert refused.value.column == "a"


def test_a_type_that_no_plugin_has_is_refused():
    with pytest.raises(rules.Unknown, match="no plugin of this site has the column type gone"):
        rules.rules_of([column("a", "gone")])


class Another(column_types.TextColumn):
    """A plugin's type with whatever SQL a test puts here."""

    sql = ""

    def sql_validate_rule(self) -> str:
        return self.sql


@pytest.mark.parametrize(
    "sql",
    [
        "NEW.a := 'x';",
        "PERFORM pg_sleep(10);",
        "IF NEW.\"a\" < '1'::int8 THEN errors := errors || ARRAY[['a', 'b']]; END IF;",
        "-- nothing",
    ],
)
def test_any_other_statement_is_refused_before_and_behind_one_that_is_known(monkeypatch, sql):
    known = rules._sql_of(column("a", "text", tdpkreq="pk"))
    monkeypatch.setattr(designer, "_column_types", {"another": Another})
    for text in (sql + known, known + sql):
        monkeypatch.setattr(Another, "sql", text)
        with pytest.raises(rules.Unknown, match=re.escape(sql[:20])):
            rules.rules_of([column("a", "another")])


def test_the_statements_that_core_writes_are_all_known():
    for data in (
        {"tdtype": "text", "tdpkreq": "pk", "tdpattern": "x'y"},
        {"tdtype": "email", "tdpkreq": "req"},
        {"tdtype": "choice", "tdchoices": ["x", "y'z"], "tdpkreq": "pk"},
        *(
            {"tdtype": name, "tdpkreq": need}
            for name in column_types._standard_column_types
            if name != "choice"
            for need in ("req", "pk")
        ),
    ):
        type_name = column_types._standard_column_types[data["tdtype"]].datastore_type
        assert rules.rules_of([column("a", type_name=type_name, **data)])


# --- the function


def test_table_designers_function_is_known_by_its_name_and_its_frame():
    definition = VALIDATE_DEFINITION_SQL.format(validate_rules="NEW.a := 'x';")
    assert rules.is_function(NAME, definition)
    assert not rules.is_function("another_name", definition)
    assert not rules.is_function(NAME, "BEGIN NEW.a := 'x'; RETURN NEW; END;")
