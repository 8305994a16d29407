"""The result of a query as a file: checked as datastore_search_sql, exported as a table."""

from __future__ import annotations

import urllib.request
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from ckan.tests import factories

from ckanext.bigquery_datastore import clients, config, downloads
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.dump import engine, export, sweep
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
    assert file(app, sql) == b"name,total\nname 2,1650\nname 1,1717\nname 0,1683\n"


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
    assert file(app, sql) == file(app, sql) == b"n\n100\n"
    assert len([job for job in place.export_jobs() if table in job.query]) == 1
    place.bigquery.query(f"DELETE FROM `{place.dataset}.{table}` WHERE size > 50").result()
    assert file(app, sql) == b"n\n50\n"


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
        "SELECT lpad() FROM {table}",
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


# --- limits of its own


def results(place) -> set[str]:
    """What there is of results in the bucket, but for the claims of exports."""
    found = place.storage.list_blobs(place.bucket, prefix="dumps/sql-")
    return {blob.name for blob in found if not blob.name.endswith("/attempt")}


def exports(place, table) -> int:
    return len([job for job in place.export_jobs() if table in job.query])


def test_a_result_that_is_too_large_is_refused_deleted_and_not_billed_again(
    app, place, table, monkeypatch
):
    sql = f'SELECT name, size FROM "{table}" AS here ORDER BY size'
    before = results(place)
    monkeypatch.setattr(config, "dump_sql_result_bytes", lambda: 500)
    for _ in range(3):
        answer = ask(app, sql)
        assert answer.status_code == 413, answer.body
        assert "this site allows 500" in answer.body
    assert exports(place, table) == 1
    assert results(place) <= before
    monkeypatch.setattr(config, "dump_sql_result_bytes", lambda: 5000)
    assert len(file(app, sql).splitlines()) == 101
    assert exports(place, table) == 2


@pytest.mark.ckan_config(config.JOB_LABELS, "emulator_run_seconds=60")
@pytest.mark.ckan_config(config.DUMP_SQL_TIMEOUT_SECONDS, "1")
def test_a_query_that_takes_too_long_is_stopped_after_a_time_of_its_own(app, table):
    answer = ask(app, f'SELECT name FROM "{table}" AS slow')
    assert answer.status_code == 413, answer.body
    assert "dump_sql_timeout_seconds" in answer.body


def test_a_query_that_fails_while_it_runs_is_the_visitors_mistake(app, table):
    answer = ask(app, f'SELECT CAST(name AS INTEGER) AS n FROM "{table}"')
    assert answer.status_code == 400, answer.body
    assert "name" in answer.body


def test_results_that_nobody_asks_for_any_more_are_swept_by_the_next_one(
    app, place, table, monkeypatch
):
    """Each query has a family of its own; without this, none but the command would sweep it."""
    swept: list[str] = []
    original = engine.sweep

    def noted(store, prefix, *args):
        swept.append(prefix)
        return original(store, prefix, *args)

    monkeypatch.setattr(engine, "sweep", noted)
    file(app, f'SELECT size FROM "{table}" AS a')
    file(app, f'SELECT size FROM "{table}" AS b')
    assert swept == ["dumps/sql-"] * 2 and results(place)
    lifetime = timedelta(hours=1)
    monkeypatch.setattr(sweep, "MARGIN", -2 * lifetime)
    sweep.sweep(downloads.store_rw(), swept[0], lifetime)
    assert not results(place)


def test_a_result_that_is_asked_for_again_is_renewed_and_stays_the_same_object(
    app, place, table, monkeypatch
):
    sql = f'SELECT size FROM "{table}" AS renewed'
    link = ask(app, sql).location
    (before,) = (
        blob
        for blob in place.storage.list_blobs(place.bucket, prefix="dumps/sql-")
        if blob.name in link
    )
    monkeypatch.setattr(downloads, "url_lifetime", lambda: timedelta(0))
    downloads.FILES.clear()
    assert file(app, sql)
    after = place.storage.bucket(place.bucket).get_blob(before.name)
    assert (after.generation, after.time_created) == (before.generation, before.time_created)
    assert before.custom_time is None and after.custom_time > before.time_created
