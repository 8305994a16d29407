"""The result of a query as a file: checked as datastore_search_sql, exported as a table."""

from __future__ import annotations

import urllib.request
from typing import Any
from urllib.parse import urlencode

import pytest
from ckan.tests import factories

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.dump import export
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = [
    pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins", "nothing_remembered"),
    pytest.mark.ckan_config(config.DUMP_SQL_ENABLED, "true"),
    pytest.mark.ckan_config("ckan.datastore.sqlsearch.enabled", "true"),
]

ROWS = [{"name": f"name {number % 3}", "size": number} for number in range(1, 101)]


@pytest.fixture()
def place() -> Place:
    return Place(config.dataset(), config.export_bucket())


@pytest.fixture()
def table(place) -> str:
    resource_id = factories.Resource()["id"]
    place.fill(resource_id, ROWS, name="STRING", size="INT64")
    return resource_id


def ask(app, sql: str, **params: Any):
    return app.get(
        f"/datastore/dump_sql?{urlencode({'sql': sql, **params})}", follow_redirects=False
    )


def file(app, sql: str, **params: Any) -> bytes:
    answer = ask(app, sql, **params)
    assert answer.status_code == 302, answer.body
    with urllib.request.urlopen(answer.location) as response:
        return response.read()


def test_the_result_of_a_query_is_one_file(app, table):
    sql = f'SELECT name, SUM(size) AS total FROM "{table}" GROUP BY name ORDER BY name DESC'
    assert file(app, sql) == b"name,total\r\nname 2,1650\nname 1,1717\nname 0,1683\n"


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("size DESC", b"100"),
        ("2 DESC", b"100"),
        ("-size", b"100"),
        ("size % 10 DESC, size", b"9"),
        ("size LIMIT 5 OFFSET 10", b"11"),
    ],
)
def test_the_order_of_a_query_is_the_order_of_the_file(app, table, order, first):
    data = file(app, f'SELECT name, size FROM "{table}" ORDER BY {order}')
    lines = data.splitlines()
    assert lines[0] == b"name,size"
    assert lines[1].split(b",")[1] == first


def test_the_file_is_made_once_while_no_table_in_it_changes(app, place, table):
    sql = f'SELECT COUNT(*) AS n FROM "{table}"'
    assert file(app, sql) == file(app, sql) == b"n\r\n100\n"
    assert len([job for job in place.export_jobs() if table in job.query]) == 1
    place.bigquery.query(f"DELETE FROM `{place.dataset}.{table}` WHERE size > 50").result()
    assert file(app, sql) == b"n\r\n50\n"


@pytest.mark.parametrize("format_name", ["tsv", "json", "xml", "parquet", "ndjson", "csv.gz"])
def test_every_format_is_there(app, table, format_name):
    answer = ask(app, f'SELECT name FROM "{table}" ORDER BY size LIMIT 2', format=format_name)
    assert answer.status_code in (200, 302), answer.body


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "DELETE FROM x",
        "SELECT * FROM {table}; SELECT 1",
        "SELECT * FROM other.{table}",
        "SELECT * FROM INFORMATION_SCHEMA.TABLES",
        "SELECT session_user() FROM {table}",
        "nonsense",
        "",
    ],
)
def test_what_is_not_one_select_of_the_datastores_tables_is_refused(app, table, sql):
    answer = ask(app, sql.replace("{table}", f'"{table}"'))
    assert answer.status_code in (400, 403), answer.body


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nothing FROM {table}",
        "SELECT name FROM {table} LIMIT 'a'",
        "SELECT regexp_replace(name, 'a') FROM {table}",
        "SELECT date_add() FROM {table}",
    ],
)
def test_a_query_that_bigquery_refuses_is_the_visitors_mistake(app, table, sql):
    assert ask(app, sql.replace("{table}", f'"{table}"')).status_code == 400


def test_the_read_only_identity_vouches_for_the_very_text_that_is_exported(app, table, monkeypatch):
    dry_run: list[str] = []
    original = query.dry_run

    def noted(client, sql, *args):
        assert client is clients.bigquery_ro()
        dry_run.append(sql)
        return original(client, sql, *args)

    monkeypatch.setattr(query, "dry_run", noted)
    exported: list[str] = []
    submit = export.submit

    def submitted(client, job_id, sql, *args):
        exported.append(sql.split(" AS\n", 1)[1])
        return submit(client, job_id, sql, *args)

    monkeypatch.setattr(export, "submit", submitted)
    file(app, f'SELECT name, size FROM "{table}" ORDER BY -size')
    assert exported and set(exported) <= set(dry_run)


def test_who_may_not_read_a_table_is_told_of_none(app, place, table):
    owner = factories.Organization()["id"]
    dataset = factories.Dataset(private=True, owner_org=owner)
    private = factories.Resource(package_id=dataset["id"])["id"]
    place.fill(private, ROWS, name="STRING", size="INT64")
    sql = f'SELECT a.name FROM "{table}" AS a JOIN "{private}" AS b ON a.size = b.size'
    assert ask(app, sql).status_code == 404


def test_it_is_off_unless_the_site_wants_it(app, table, monkeypatch):
    monkeypatch.setattr(config, "dump_sql_enabled", lambda: False)
    assert ask(app, f'SELECT name FROM "{table}"').status_code == 404
