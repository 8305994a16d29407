"""Names and descriptions: CKAN's metadata inside BigQuery's."""

from __future__ import annotations

import time

import pytest
from google.cloud import bigquery
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ckanext.bigquery_datastore.backend.table import naming
from ckanext.bigquery_datastore.backend.table.lookup import from_api
from ckanext.bigquery_datastore.backend.table.model import (
    COLUMN_LIMIT,
    TABLE_LIMIT,
    Column,
    Table,
    TooMuchMetadata,
    column_description,
    quote_name,
    stored_names,
    table_description,
)


def column(name: str = "c", type_name: str = "text", **more: object) -> Column:
    known = naming.of_name(type_name)
    assert known is not None
    return Column(name, known, more.pop("stored", name), **more)  # type: ignore[arg-type]


def through_bigquery(table: Table) -> Table:
    """The table as it is read back from what is sent to BigQuery."""
    schema = [
        bigquery.SchemaField(c.stored, c.bq_type, description=column_description(c)[0])
        for c in table.columns
    ]
    api = bigquery.Table(table.full_id, schema=schema)
    api.description = table_description(table)
    return from_api(api)


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("a", "`a`"),
        ("a b", "`a b`"),
        ("a`b", "`a\\`b`"),
        ("a\\", "`a\\\\`"),
        ("p.d.t-1", "`p.d.t-1`"),
    ],
)
def test_a_name_cannot_leave_its_quotes(name: str, quoted: str) -> None:
    assert quote_name(name) == quoted


def test_thousands_of_columns_of_one_name_are_numbered_in_a_moment():
    begun = time.process_time()
    assert stored_names(["n", "n_3", *["N"] * 9_998])[:5] == ["n", "n_3", "N_2", "N_4", "N_5"]
    assert time.process_time() - begun < 2


def test_names_that_bigquery_forbids_or_takes_for_one_another_are_kept_apart() -> None:
    assert stored_names(["a (b)", "a_b", "A", "a", "the year"], ["_id"]) == [
        "a _b_",
        "a_b",
        "A",
        "a_2",
        "the year",
    ]


def test_a_description_is_for_people_first() -> None:
    text, whole = column_description(
        column("wind", "int", info={"label": "Wind speed", "notes": "At ten metres, in knots."})
    )
    assert whole
    assert text == ('Wind speed\n\nAt ten metres, in knots.\n\nCKAN {"label":1,"type":"int4"}')


def test_a_plain_column_has_no_description() -> None:
    assert column_description(column()) == ("", True)


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"label": "Label"},
        {"notes": "Several\nlines\n\nand paragraphs"},
        {"label": "Two\nlines", "notes": "n"},
        {"label": "", "notes": ""},
        {"label": " spaces ", "notes": "CKAN {not ours}"},
        {"label": "l", "notes": 'x\n\nCKAN {"label":1}', "type_override": "text"},
        {"notes": "n", "units": {"a": [1, None]}},
        {"label": "Ünïcödé 🙂"},
    ],
)
def test_the_data_dictionary_comes_back_as_it_was(info: dict[str, object]) -> None:
    table = Table("p", "d", "t", (column("a (b)", "_int4", stored="a _b_", info=info),))
    assert through_bigquery(table).columns == table.columns


TEXTS = st.lists(
    st.sampled_from(["CKAN {", '{"label":1}', "}", "\n\n", "\n", " ", "é", "a", '"', "…"])
    | st.text(max_size=5),
    max_size=8,
).map("".join)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["label", "notes", "type_override"]), TEXTS))
@example({"label": "CKAN {"})
@example({"label": 'CKAN {"label":1}', "notes": 'CKAN {"type":"int4"}'})
def test_no_text_of_the_data_dictionary_is_taken_for_the_line_of_ckan(info: dict[str, str]) -> None:
    table = Table("p", "d", "t", (column("a (b)", "_int4", stored="a _b_", info=info),))
    assert through_bigquery(table).columns == table.columns


def test_three_hundred_columns_with_five_hundred_characters_of_notes_come_back() -> None:
    columns = tuple(
        column(
            f"column {n}",
            "timestamp" if n % 2 else "varchar(20)",
            info={"label": f"Label {n}", "notes": "ü" * 499 + str(n % 10), "type_override": "text"},
            plugin_data={"plugin": {"a": n}},
        )
        for n in range(300)
    )
    table = Table("p", "d", "t", columns, primary_key=("column 1",), aliases=("x", "y"))
    found = through_bigquery(table)
    assert [c.info for c in found.columns] == [c.info for c in columns]
    assert [c.plugin_data for c in found.columns] == [c.plugin_data for c in columns]
    assert [c.type.native for c in found.columns] == [c.type.native for c in columns]
    assert (found.primary_key, found.aliases) == (("column 1",), ("x", "y"))


def test_notes_longer_than_a_description_are_kept_whole_and_shown_in_part() -> None:
    notes = "A long story. " * 400
    long = column(info={"label": "Long", "notes": notes.strip()})
    table = Table("p", "d", "t", (long, column("other")))
    shown, whole = column_description(long)
    assert not whole
    assert shown.startswith("Long\n\nA long story.")
    assert len(shown) <= COLUMN_LIMIT
    assert len(table_description(table)) <= TABLE_LIMIT
    assert through_bigquery(table).columns == table.columns


def test_more_than_bigquery_can_hold_is_refused_with_the_columns_named() -> None:
    noise = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(20_000))
    table = Table("p", "d", "t", (column("story", info={"notes": noise}),))
    with pytest.raises(TooMuchMetadata, match="story"):
        table_description(table)


def test_a_description_that_was_written_in_the_console_is_the_notes() -> None:
    api = bigquery.Table("p.d.t", [bigquery.SchemaField("a", "INTEGER", description="By hand")])
    found = from_api(api).columns[0]
    assert (found.info, found.type.name) == ({"notes": "By hand"}, "int8")


def test_a_text_for_people_on_the_table_stays() -> None:
    table = Table("p", "d", "t", (column(),), description="About this table", last_id=7)
    description = table_description(table)
    assert description == 'About this table\n\nCKAN {"last_id":7}'
    api = bigquery.Table("p.d.t", [bigquery.SchemaField("c", "STRING")])
    api.description = description
    assert table_description(from_api(api)) == description
