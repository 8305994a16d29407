"""``ckan bigquery load``: a file becomes a table, or nothing happens and the reason is said."""

from __future__ import annotations

import gzip
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ckan import model
from ckan.cli.cli import ckan
from ckan.tests import factories, helpers

from ckanext.bigquery_datastore import clients, config, load
from ckanext.bigquery_datastore.load import files
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

CSV = b'code,count,"note"\n007,1,"two\nlines"\n012,NA,"a ""quote"""\n'


@pytest.fixture()
def resource_id() -> str:
    return factories.Resource()["id"]


def run(cli, *arguments: Any):
    return cli.invoke(ckan, ["bigquery", "load", *map(str, arguments)])


def records(resource_id: str) -> list[dict[str, Any]]:
    return helpers.call_action("datastore_search", resource_id=resource_id)["records"]


def types(resource_id: str) -> dict[str, str]:
    fields = helpers.call_action("datastore_search", resource_id=resource_id)["fields"]
    return {field["id"]: field["type"] for field in fields}


def test_a_csv_file_with_its_missing_values_and_line_ends_in_quotes(cli, resource_id, tmp_path):
    file = tmp_path / "counts.csv"
    file.write_bytes(CSV)
    result = run(cli, resource_id, file, "--null", "NA", "--type", "code=text")
    assert result.exit_code == 0, result.output
    assert records(resource_id) == [
        {"_id": 1, "code": "007", "count": 1, "note": "two\nlines"},
        {"_id": 2, "code": "012", "count": None, "note": 'a "quote"'},
    ]
    assert types(resource_id)["code"] == "text"
    assert model.Resource.get(resource_id).extras["datastore_active"] is True


@pytest.mark.parametrize("last", ["", "\r\n"])
def test_a_csv_file_from_windows(cli, resource_id, tmp_path, last):
    file = tmp_path / "windows.csv"
    file.write_bytes(("n,s\r\n" + "\r\n".join(f"{n},x" for n in range(300)) + last).encode())
    result = run(cli, resource_id, file)
    assert result.exit_code == 0, result.output
    assert records(resource_id)[99] == {"_id": 100, "n": 99, "s": "x"}
    assert types(resource_id) == {"_id": "int", "n": "int8", "s": "text"}


def test_a_compressed_file_is_found_to_be_one(cli, resource_id, tmp_path):
    file = tmp_path / "counts.csv.gz"
    file.write_bytes(gzip.compress(CSV))
    assert run(cli, resource_id, file, "--null", "NA").exit_code == 0
    assert len(records(resource_id)) == 2


def test_ndjson(cli, resource_id, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"name": "Zoë", "size": 1.5}\n{"name": null, "size": 2}\n')
    result = run(cli, resource_id, file)
    assert result.exit_code == 0, result.output
    assert records(resource_id) == [
        {"_id": 1, "name": "Zoë", "size": 1.5},
        {"_id": 2, "name": None, "size": 2},
    ]


def test_a_key_that_comes_late_and_nested_values_have_columns_that_can_be_written(
    cli, resource_id, tmp_path
):
    file = tmp_path / "rows.ndjson"
    lines = ['{"n": 1, "tags": ["a", "b"], "at": {"x": 1.5, "path": [1]}}'] * 600
    file.write_text("\n".join([*lines, '{"late": "x", "tags": []}']))
    result = run(cli, resource_id, file)
    assert result.exit_code == 0, result.output
    assert types(resource_id)["tags"] == "_text"
    last = {"late": "y", "tags": ["c"], "at": {"x": 2}, "n": 3}
    helpers.call_action(
        "datastore_upsert", resource_id=resource_id, records=[last], method="insert", force=True
    )
    found = helpers.call_action("datastore_search", resource_id=resource_id, offset=599)["records"]
    assert found == [
        {"_id": 600, "n": 1, "tags": ["a", "b"], "at": {"x": 1.5, "path": [1]}, "late": None},
        {"_id": 601, "n": None, "tags": [], "at": None, "late": "x"},
        {"_id": 602, **last},
    ]


def test_parquet(cli, resource_id, tmp_path):
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"name": ["a", "b", None], "size": [1, 2, 3]}), file)
    result = run(cli, resource_id, file)
    assert result.exit_code == 0, result.output
    found = records(resource_id)
    assert [record["_id"] for record in found] == [1, 2, 3]
    assert sorted(record["size"] for record in found) == [1, 2, 3]


def test_many_objects_are_one_table_in_the_order_of_the_file(
    cli, resource_id, tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "CHUNK_BYTES", 100)
    file = tmp_path / "rows.csv"
    file.write_text("n\n" + "".join(f"{number}\n" for number in range(500)))
    result = run(cli, resource_id, file)
    assert result.exit_code == 0, result.output
    data = Place(config.dataset(), config.export_bucket()).file(resource_id, "csv")
    assert data == b"_id,n\n" + b"".join(b"%d,%d\n" % (n + 1, n) for n in range(500))


def test_loading_again_replaces_the_table(cli, resource_id, tmp_path):
    for text in ("a\n1\n2\n", "b,c\nx,y\n"):
        file = tmp_path / "rows.csv"
        file.write_text(text)
        assert run(cli, resource_id, file).exit_code == 0
    assert records(resource_id) == [{"_id": 1, "b": "x", "c": "y"}]


def test_a_file_that_bigquery_cannot_read_leaves_the_table_as_it_was(cli, resource_id, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a\n1\n")
    run(cli, resource_id, file)
    file.write_text("a\nnot a number\n")
    result = run(cli, resource_id, file, "--type", "a=int")
    assert result.exit_code == 1, result.output
    assert "Line 2 of the file: 'not a number' in the column 'a' is no integer" in result.output
    assert "--type COLUMN=TYPE gives a column another type" in result.output
    assert records(resource_id) == [{"_id": 1, "a": 1}]


def test_an_empty_parquet_file_replaces_nothing(cli, resource_id, tmp_path):
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"name": pa.array([], pa.string())}), file)
    result = run(cli, resource_id, file)
    assert result.exit_code == 1, result.output
    assert "rows.parquet has no rows. Nothing is replaced." in result.output


def test_names_that_bigquery_cannot_have_are_ckans_all_the_same(cli, resource_id, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('"a.b",A.B,"c, d!",select\n1,2,3,4\n')
    result = run(cli, resource_id, file)
    assert result.exit_code == 0, result.output
    assert records(resource_id) == [{"_id": 1, "a.b": 1, "A.B": 2, "c, d!": 3, "select": 4}]


def test_ordinary_headings_are_ckans_whatever_bigquery_calls_them(cli, resource_id, tmp_path):
    names = ["Temp °C", "Preis in €", "Provider’s", "§", "№", "Größe (m²)", "a+b=c: 50%", "日付"]
    file = tmp_path / "rows.csv"
    file.write_text(",".join(names) + "\n" + ",".join("12345678") + "\n")
    result = run(cli, resource_id, file)
    assert result.exit_code == 0, result.output
    row = {name: number for number, name in enumerate(names, 1)}
    assert records(resource_id) == [{"_id": 1, **row}]
    data = Place(config.dataset(), config.export_bucket()).file(resource_id, "csv")
    assert data.decode().splitlines()[0] == "_id," + ",".join(names)
    table = clients.bigquery_ro().get_table(f"{config.dataset()}.{resource_id}")
    stored = ["Temp _C", "Preis in _", "Provider_s", "_", "__2", "Größe _m²_", names[6], "日付"]
    assert [field.name for field in table.schema[1:]] == stored


@pytest.mark.parametrize("format_name", ["csv", "ndjson", "parquet"])
def test_a_download_can_be_loaded_again(cli, resource_id, tmp_path, format_name):
    file = tmp_path / "rows.csv"
    file.write_text("name,size\na,1\nb,\nc,3\n")
    assert run(cli, resource_id, file).exit_code == 0
    helpers.call_action(
        "datastore_delete", resource_id=resource_id, filters={"name": "a"}, force=True
    )
    place = Place(config.dataset(), config.export_bucket())
    file = tmp_path / f"download.{format_name}"
    file.write_bytes(place.file(resource_id, format_name))
    result = run(cli, resource_id, file)
    assert result.exit_code == 0, result.output
    assert records(resource_id) == [
        {"_id": 1, "name": "b", "size": None},
        {"_id": 2, "name": "c", "size": 3},
    ]


def test_nothing_is_left_in_the_bucket(cli, resource_id, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a\n1\n")
    place = Place(config.dataset(), config.export_bucket())

    def left() -> set[str]:
        tables = {table.table_id for table in place.bigquery.list_tables(place.dataset)}
        return tables | {found.name for found in place.store.list(load.ROOT)}

    # Of loads that other tests have killed.
    before = left()
    run(cli, resource_id, file)
    assert left() - before == {resource_id}


@pytest.mark.parametrize(
    ("name", "text", "arguments", "words"),
    [
        ("rows.bin", "x", [], "Name it with --format"),
        ("rows.csv", "", [], "has no rows"),
        ("rows.csv", "a\n", [], "has no rows"),
        ("rows.ndjson", "\n", [], "has no rows"),
        ("rows.ndjson", '{"_b": 1}\n', [], "may not begin with an underscore"),
        ("rows.ndjson", '{"a.b": 1}\n', [], "BigQuery cannot read the key 'a.b'"),
        ("rows.ndjson", '{"a": 1}\n{"a": "x"}\n', ["--type", "a=int"], "for field a "),
        ("rows.csv", 'a\n"x\n', [], "closing quote"),
        ("rows.csv", "a\n1\n", ["--type", "b=text"], "no column b"),
        ("rows.csv", "a\n1\n", ["--type", "a=colour"], "'colour' is no type"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_a_sentence(
    cli, resource_id, tmp_path, name, text, arguments, words
):
    file = tmp_path / name
    file.write_text(text)
    result = run(cli, resource_id, file, *arguments)
    assert result.exit_code == 1, result.output
    assert words in result.output, result.output


def test_a_resource_that_is_not_there_is_said(cli, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a\n1\n")
    result = run(cli, "nothing", file)
    assert result.exit_code == 1, result.output
    assert "There is no resource nothing" in result.output


def test_an_emoji_in_escapes_is_loaded_as_it_is(cli, resource_id, tmp_path):
    file = tmp_path / "faces.ndjson"
    file.write_bytes(b'{"face": "\\ud83d\\ude42 \\\\ud83d\\\\ude42 \\u00e9"}\n')
    result = run(cli, resource_id, file)
    assert result.exit_code == 0, result.output
    assert [row["face"] for row in records(resource_id)] == ["🙂 \\ud83d\\ude42 é"]


# --- every value is kept


def loaded(cli, resource_id, tmp_path, content: str | bytes, *arguments: str, name="rows.csv"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run(cli, resource_id, file, *arguments)
    assert result.exit_code == 0, result.output
    return [
        {key: value for key, value in record.items() if key != "_id"}
        for record in records(resource_id)
    ]


@pytest.mark.parametrize(
    ("texts", "type_name", "values"),
    [
        (["01067", "1"], "text", ["01067", "1"]),
        (["+4930", "1"], "text", ["+4930", "1"]),
        (["1", "-2", "9223372036854775807"], "int8", [1, -2, 9223372036854775807]),
        (["9223372036854775808", "1"], "numeric", [9223372036854775808, 1]),
        (["1.5", "2", "-.25", "1e5"], "float8", [1.5, 2, -0.25, 100000]),
        (["0.30000000000000004"], "float8", [0.30000000000000004]),
        (["12345678901234567.25"], "numeric", None),
        (["3.14159265358979323846264338327950288"], "text", None),
        (["1e400"], "text", ["1e400"]),
        (["01.5"], "text", ["01.5"]),
        (["N", "Y"], "text", ["N", "Y"]),
        (["true", "FALSE"], "bool", [True, False]),
        (["2024-02-29"], "date", ["2024-02-29"]),
        (["2024-02-30"], "text", ["2024-02-30"]),
        (["2024-2-1"], "text", ["2024-2-1"]),
        (["2024-05-06 07:08:09", "2024-05-06T07:08:09.5"], "timestamp", None),
        (["2024-05-06 07:08:09+02", "2024-05-06T07:08:09Z"], "timestamptz", None),
        (["2024-05-06 07:08:09 UTC"], "timestamptz", ["2024-05-06T07:08:09+00:00"]),
        (["07:08:09"], "time", ["07:08:09"]),
        (["1 ", " 2"], "int8", [1, 2]),
        (["a ", " b"], "text", ["a ", " b"]),
        (["NaN", "1"], "text", ["NaN", "1"]),
        (["0x1F"], "text", ["0x1F"]),
    ],
)
def test_a_column_of_a_csv_file_is_what_all_of_its_texts_are(
    cli, resource_id, tmp_path, texts, type_name, values
):
    rows = loaded(cli, resource_id, tmp_path, "\n".join(["a,b", *(f"{text},x" for text in texts)]))
    assert types(resource_id)["a"] == type_name
    found = [row["a"] for row in rows]
    if values is not None:
        assert [str(value) for value in found] == [str(value) for value in values]


def test_a_text_far_down_in_a_file_makes_its_column_a_text(cli, resource_id, tmp_path):
    """BigQuery's own guess looks at 500 rows."""
    lines = [str(number) for number in range(3000)]
    rows = loaded(cli, resource_id, tmp_path, "\n".join(["a", *lines, "A1"]))
    assert len(records(resource_id)) == 100 and rows[7] == {"a": "7"}
    assert types(resource_id)["a"] == "text"


def test_strings_of_json_stay_strings(cli, resource_id, tmp_path):
    lines = (
        '{"code": "01067", "n": 1, "mixed": 1, "on": "2024-01-01", "is": true, "f": 1, "l": [1], '
        '"big": 12345678901234567890}\n'
        '{"code": "123", "n": 2, "mixed": "x", "on": "2024-01-02", "is": false, "f": 1.5}\n'
    )
    rows = loaded(cli, resource_id, tmp_path, lines, name="rows.ndjson")
    assert rows == [
        {
            **{"code": "01067", "n": 1, "mixed": "1", "on": "2024-01-01", "is": True, "f": 1.0},
            "l": [1],
            "big": 12345678901234567890,
        },
        {
            **{"code": "123", "n": 2, "mixed": "x", "on": "2024-01-02", "is": False, "f": 1.5},
            "l": None,
            "big": None,
        },
    ]
    found = types(resource_id)
    assert (found["code"], found["on"], found["l"]) == ("text", "text", "_int8")


def test_another_null_works_beside_empty_cells_in_columns_of_any_type(cli, resource_id, tmp_path):
    names = ["int", "numeric", "float", "bool", "date", "time", "timestamp", "timestamptz", "json"]
    values = ["1", "1.5", "2.5", "yes", "2024-01-01", "07:08:09", "2024-01-01 07:08:09"]
    values += ["2024-01-01 07:08:09+00", '"[1, ""a""]"']
    lines = [names, values, ["NA"] * len(names), [""] * len(names)]
    arguments = [part for name in names for part in ("--type", f"{name}={name}")]
    rows = loaded(
        cli,
        resource_id,
        tmp_path,
        "\n".join(f"{','.join(line)},{number}" for number, line in enumerate(lines)),
        *("--null", "NA", *arguments),
    )
    assert rows[0]["bool"] is True and rows[0]["json"] == [1, "a"]
    assert None not in rows[0].values()
    for row in rows[1:]:
        assert [row[name] for name in names] == [None] * len(names)


def test_the_first_text_that_is_none_of_its_type_is_named_with_its_row(cli, resource_id, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1,x\n,y\n2.5,z\n3.5,z\n")
    result = run(cli, resource_id, file, "--type", "a=int")
    assert result.exit_code == 1, result.output
    assert "Line 4 of the file: '2.5' in the column 'a' is no integer" in result.output


def test_a_file_in_another_encoding_is_read_in_it_and_the_log_says_so(cli, resource_id, tmp_path):
    content = "name,n\nZoe,1\nZoë,2\n".encode("windows-1252")
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    result = run(cli, resource_id, file)
    assert result.exit_code == 0, result.output
    assert "The file is read as cp1252" in result.output
    result = run(cli, resource_id, file, "--encoding", "utf-8")
    assert result.exit_code == 1, result.output
    assert "The file is not in utf-8" in result.output
    rows = loaded(cli, resource_id, tmp_path, content, "--encoding", "windows-1252")
    assert rows == [{"name": "Zoe", "n": 1}, {"name": "Zoë", "n": 2}]


def test_an_encoding_that_does_not_exist_or_fits_no_file_is_said(cli, resource_id, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a\n1\n")
    result = run(cli, resource_id, file, "--encoding", "nothing")
    assert "'nothing' is no encoding of texts" in result.output
    parquet = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": [1]}), parquet)
    result = run(cli, resource_id, parquet, "--encoding", "utf-8")
    assert "--encoding is for texts" in result.output
