"""``ckan bigquery migrate``: core's DataStore moves in and out, and every row is as it was."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa
from ckan import model
from ckan.plugins import toolkit as tk
from ckan.tests import factories, helpers
from click.testing import CliRunner

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.table.lookup import get_table
from ckanext.bigquery_datastore.cli import migrating
from ckanext.bigquery_datastore.migrate import walk
from ckanext.bigquery_datastore.tests.conftest import Site, stack_ini

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")


@pytest.fixture(scope="module")
def url() -> str:
    """The address of core's DataStore."""
    options = configparser.RawConfigParser()
    options.read(stack_ini("-postgresql"))
    return options["app:main"]["ckan.datastore.write_url"]


@pytest.fixture
def database(url: str) -> Iterator[sa.engine.Connection]:
    engine = sa.create_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection
    engine.dispose()


def run(*arguments: Any, **environment: str):
    """The command, in the CKAN that runs already."""
    return CliRunner(env=environment).invoke(migrating.migrate, list(map(str, arguments)))


def call(site: Site, action: str, **data: Any) -> Any:
    token = factories.SysadminWithToken()["token"]
    answer = requests.post(
        f"{site.url}/api/3/action/{action}", json=data, headers={"Authorization": token}, timeout=60
    ).json()
    assert answer["success"], answer
    return answer["result"]


def dump(site: Site, id: str, format: str = "csv") -> bytes:
    return requests.get(f"{site.url}/datastore/dump/{id}?format={format}", timeout=60).content


def table(database: sa.engine.Connection, columns: str, *rows: str) -> str:
    """A table of core's making, but for its columns: the id of its resource."""
    id = factories.Resource()["id"]
    database.exec_driver_sql(
        f'CREATE TABLE "{id}" (_id serial PRIMARY KEY, _full_text tsvector, {columns})'
    )
    for row in rows:
        values = row if row.startswith("SELECT") else f"VALUES {row}"
        database.exec_driver_sql(f'INSERT INTO "{id}" {values}')
    return id


FIELDS = [
    {"id": "text", "type": "text", "info": {"label": "Words", "notes": "two\n\nparagraphs"}},
    {"id": "numeric", "type": "numeric", "info": {"label": "N", "type_override": "numeric"}},
    {"id": "float8", "type": "float8"},
    {"id": "int4", "type": "int4"},
    {"id": "int8", "type": "int8"},
    {"id": "bool", "type": "bool"},
    {"id": "date", "type": "date"},
    {"id": "time", "type": "time"},
    {"id": "timestamp", "type": "timestamp"},
    {"id": "timestamptz", "type": "timestamptz"},
    {"id": "json", "type": "json"},
    {"id": "jsonb", "type": "jsonb"},
    {"id": "texts", "type": "_text"},
    {"id": "int4s", "type": "_int4"},
    {"id": "float8s", "type": "_float8"},
    {"id": "varchar", "type": "varchar(20)"},
    {"id": "real", "type": "real"},
    {"id": "uuid", "type": "uuid"},
    {"id": "Preis in € (%s) a:b 'q' \\ &", "type": "text"},
    {"id": "a", "type": "int2"},
    {"id": "A", "type": "int2"},
]
RECORDS: list[dict[str, Any]] = [
    {field["id"]: None for field in FIELDS},
    {
        "text": 'quote " comma , back \\ slash\nline\r\nend\t\u0001 tab \\. \\N 😀 \\0\\1\\2',
        "numeric": "-12345678901234567890123456789.123456789",
        "float8": "NaN",
        "int4": -(2**31),
        "int8": 2**63 - 1,
        "bool": True,
        "date": "0001-01-01",
        "time": "23:59:59.999999",
        "timestamp": "9999-12-31T23:59:59.999999",
        "timestamptz": "0001-01-01T00:00:00.000001+00",
        "json": {"b": 1, "a": [None, 'x"y'], "big": 123456789012345678901234567890},
        "jsonb": '{"bb": 1.50, "a": 12345678901234567890.123, "c": "\\n"}',
        "texts": ["a", None, "", 'q"\\,{}', "NULL", "line\nend"],
        "int4s": [1, None, -3],
        "float8s": [0.1, None, 1e300],
        "varchar": "",
        "real": 0.1,
        "uuid": "6ccd780c-baba-1026-9564-5b8c656024db",
        "Preis in € (%s) a:b 'q' \\ &": "",
        "a": 1,
        "A": -32768,
    },
    {"text": "", "float8": "-Infinity", "numeric": "0.000000001", "json": [], "texts": []},
    {"text": "\\.", "float8": "-0", "numeric": "100", "json": "text", "jsonb": "null"},
    {
        "text": "\n",
        "float8": "5e-324",
        "bool": False,
        "real": "-Infinity",
        "int4s": [[1, 2], [3, 4]],
    },
    {"text": " spaces ", "float8": "1.7976931348623157e308", "float8s": "{NaN,-Infinity}"},
    {"text": "=1+1", "float8": "0.1", "real": "3.4028235e38", "json": 5, "jsonb": "{}"},
]


def test_there_and_back_every_row_is_as_it_was(core_site, database, url):
    id, alias = factories.Resource()["id"], f"alias {factories.Resource()['id'][:8]}"
    call(
        core_site,
        "datastore_create",
        resource_id=id,
        force=True,
        fields=FIELDS,
        records=RECORDS,
        aliases=[alias],
        primary_key=["text"],
        indexes=["int8", ["date", "bool"]],
    )
    # Numbers that were given out, and are gone.
    database.exec_driver_sql(f'DELETE FROM "{id}" WHERE _id = 7')
    call(
        core_site,
        "datastore_upsert",
        resource_id=id,
        force=True,
        method="insert",
        records=[{"text": "eighth"}, {"text": "ninth"}],
    )
    database.exec_driver_sql(f'DELETE FROM "{id}" WHERE _id = 9')
    before = dump(core_site, id), json.loads(dump(core_site, id, "json"))
    information = call(core_site, "datastore_info", id=id)

    looked = run(id, "--from", url, "--dry-run")
    assert looked.exit_code == 0, looked.output
    assert f"{id}  7 rows" in looked.output and "1 of 1 tables, 7 rows: can be" in looked.output
    assert get_table(clients.bigquery_rw(), id) is None

    moved = run(id, "--from", url)
    assert moved.exit_code == 0, (moved.output, moved.exception)
    assert "  brought\n" in moved.output
    ours = helpers.call_action("datastore_search", resource_id=id, limit=100)
    theirs = call(core_site, "datastore_search", resource_id=id, limit=100)
    assert ours["records"] == theirs["records"]
    assert ours["fields"] == theirs["fields"]
    assert helpers.call_action("datastore_search", resource_id=alias)["total"] == 7
    assert helpers.call_action("datastore_info", id=id)["fields"][0]["info"] == FIELDS[0]["info"]
    made = get_table(clients.bigquery_rw(), id)
    assert made is not None
    assert (made.primary_key, made.last_id) == (("text",), 9)
    assert set(made.indexes) == {("int8",), ("date", "bool")}
    assert model.Resource.get(id).extras["datastore_active"] is True

    # An address with a password need not be seen by all who list processes.
    assert "  equal\n" in run(id, **{migrating.URL_VARIABLE: url}).output

    database.exec_driver_sql(f'DROP TABLE "{id}" CASCADE')
    looked = run(id, "--back", "--to", url, "--dry-run")
    assert f"{id}  7 rows" in looked.output and "7 rows: can be brought" in looked.output
    back = run(id, "--back", "--to", url)
    assert back.exit_code == 0, (back.output, back.exception)
    assert (dump(core_site, id), json.loads(dump(core_site, id, "json"))) == before
    again = call(core_site, "datastore_info", id=id)
    assert again["fields"] == information["fields"]
    assert again["meta"]["aliases"] == information["meta"]["aliases"] == [alias]
    assert call(core_site, "datastore_search", resource_id=id, q="comma")["total"] == 1
    call(
        core_site,
        "datastore_upsert",
        resource_id=id,
        force=True,
        method="insert",
        records=[{"text": "next"}],
    )
    assert (
        call(core_site, "datastore_search", resource_id=id, filters={"text": "next"})["records"][0][
            "_id"
        ]
        == 10
    )
    assert "left as it is" in run(id, "--back", "--to", url).output


def test_a_site_on_postgresql_moves_table_by_table_and_a_killed_run_is_finished(
    database, tmp_path, url
):
    """The site's own options name PostgreSQL until all is there."""
    first, second = sorted(
        table(
            database,
            "word text, n float8",
            f"SELECT n, NULL, 'word ' || n, n / 7.0 FROM generate_series(1, {rows}) AS n",
        )
        for rows in (20_000, 20_001)
    )
    ini = tmp_path / "ckan.ini"
    base = stack_ini("-postgresql")
    logging = base.read_text().partition("[loggers]")
    ini.write_text(
        f"[app:main]\nuse = config:{base}\n"
        "ckan.plugins = bigquery_datastore datastore\n\n" + "".join(logging[1:])
    )
    command = [str(Path(sys.executable).with_name("ckan")), "-c", str(ini), "bigquery", "migrate"]
    command += [first, second, "--to", tk.config["ckan.datastore.write_url"]]
    environment = {**os.environ, "CKAN_INI": str(ini)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith(first))
        process.kill()
    assert line.endswith("brought\n")
    half = get_table(clients.bigquery_rw(), second)
    assert half is None or half.num_rows > 20_000 - 1

    done = subprocess.run(command, capture_output=True, env=environment, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert lines[first].endswith("equal") and lines[second].endswith(("brought", "equal"))
    assert "2 of 2 tables, 40,001 rows: the same on both sides" in done.stdout
    search = helpers.call_action("datastore_search", resource_id=second, limit=1, offset=19_999)
    assert search["records"] == [{"_id": 20_000, "word": "word 20000", "n": 20_000 / 7}]


def test_what_cannot_be_brought_is_said_with_its_reason_and_keeps_nobody_else(database, url):
    bad = table(
        database,
        "n numeric, d date, t timestamp, clock time, price money, _hidden text",
        "(1, NULL, 1.5, '2020-01-01', '2020-01-01', '10:00', 5, 'x')",
    )
    values = table(
        database,
        "n numeric, d date, t timestamp, clock time",
        "(1, NULL, 1.5, '2020-01-01', '2020-01-01', '10:00')",
        "(2, NULL, 1234567890123456789012345678901234567890, '0044-03-15 BC', 'infinity', '24:00')",
        "(3, NULL, 'NaN', 'infinity', NULL, NULL)",
        "(4, NULL, 0.0000000001, NULL, '-infinity', NULL)",
    )
    good = table(database, '_x text, "q""" text', "(5, NULL, 'not shown', 'x')")
    fine = table(database, "_x text, t text", "(5, NULL, 'not shown', 'x')")
    empty = table(database, "t text, n float8")
    for arguments in (["--dry-run"], []):
        result = run(bad, values, good, fine, empty, "--from", url, *arguments)
        assert result.exit_code == 1
        told = result.output
        assert "    the column price: the DataStore on BigQuery has no type money\n" in told
        assert (
            '    the column "n", 3 rows, the first with _id 2: BigQuery\'s NUMERIC has 29 digits '
            "before and 9 after the point, and no NaN\n"
        ) in told
        for column, rows in (("d", 2), ("t", 2)):
            assert (
                f'    the column "{column}", {rows} rows, the first with _id 2: BigQuery knows the '
                "years 1 to 9999 only: nothing BC, and no infinity\n"
            ) in told
        assert '    the column "clock", 1 rows, the first with _id 2: BigQuery\'s days end' in told
        assert "    the column 'q\"': CKAN allows no such name\n" in told
        assert "    stays behind: the column _x, which CKAN does not show\n" in told
        assert "2 of 5 tables, 1 rows: " in told
    assert get_table(clients.bigquery_rw(), values) is None
    search = helpers.call_action("datastore_search", resource_id=fine)
    assert search["records"] == [{"_id": 5, "t": "x"}]
    assert helpers.call_action("datastore_search", resource_id=empty)["total"] == 0

    for id in (fine, empty):
        database.exec_driver_sql(f'DROP TABLE "{id}"')
    back = run(fine, empty, "--back", "--to", url)
    assert back.exit_code == 0, back.output
    assert list(database.exec_driver_sql(f'SELECT _id, t FROM "{fine}"')) == [(5, "x")]
    added = f"INSERT INTO \"{empty}\" (t) VALUES ('first') RETURNING _id"
    assert database.exec_driver_sql(added).scalar() == 1


@pytest.mark.ckan_config(
    "ckan.plugins", "bigquery_datastore datastore tabledesigner datatables_view text_view"
)
def test_rules_move_and_what_differs_is_replaced_only_when_asked(
    core_site, database, url, monkeypatch
):
    id = factories.Resource()["id"]
    rules = {"tdtype": "integer", "tdpkreq": "req", "tdminimum": "3", "tdmaximum": "9"}
    designed = json.dumps({"_info": {"label": "Count"}, "tabledesigner": rules})
    database.exec_driver_sql(
        f'CREATE TABLE "{id}" (_id serial PRIMARY KEY, _full_text tsvector, count int8, word text)'
    )
    database.exec_driver_sql(f"COMMENT ON COLUMN \"{id}\".count IS ' {designed}'")
    database.exec_driver_sql(
        f"INSERT INTO \"{id}\" (count, word) SELECT 5, 'word ' || n FROM generate_series(1, 2000) n"
    )
    bring = walk.google.bring

    def brought_and_changed(client: Any, *arguments: Any) -> None:
        bring(client, *arguments)
        made = get_table(client, id)
        assert made is not None
        query.write(client, f"UPDATE {made.sql_name} SET word = 'other' WHERE _id IN (777, 1500)")

    monkeypatch.setattr(walk.google, "bring", brought_and_changed)
    differs = run(id, "--from", url)
    assert differs.exit_code == 1
    assert 'the first row that differs has _id 777 (column "word")' in differs.output
    monkeypatch.undo()

    declined = run(id, "--from", url)
    assert declined.exit_code == 1 and "left as it is" in declined.output
    changed = helpers.call_action("datastore_search", resource_id=id, filters={"_id": 777})
    assert changed["records"][0]["word"] == "other"
    assert run(id, "--from", url, "--yes").exit_code == 0
    with pytest.raises(tk.ValidationError, match="9"):
        helpers.call_action(
            "datastore_upsert",
            resource_id=id,
            force=True,
            method="insert",
            records=[{"count": 10, "word": "too many"}],
        )

    back = run(id, "--back", "--to", url)
    assert back.exit_code == 0 and "equal" in back.output, back.output
    database.exec_driver_sql(f'DELETE FROM "{id}" WHERE _id > 1000')
    assert "left as it is" in run(id, "--back", "--to", url).output
    back = run(id, "--back", "--to", url, "--yes")
    assert back.exit_code == 0, back.output
    with pytest.raises(sa.exc.DBAPIError, match="9"):
        database.exec_driver_sql(f'INSERT INTO "{id}" (count) VALUES (10)')
    fields = call(core_site, "datastore_info", id=id)["fields"]
    assert (fields[0]["info"], fields[0]["type"]) == ({"label": "Count"}, "int8")
