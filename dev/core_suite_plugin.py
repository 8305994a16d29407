"""What core's DataStore tests need around them on another backend, brought from outside.

- The fixtures of those tests clean a PostgreSQL database: here they clean the dataset.
- Their option ``ckan.plugins`` names ``datastore``: here ``bigquery_datastore`` stands before it.
- Where a test looks at its table by SQL of its own, on PostgreSQL, the table is there: a copy of
  what BigQuery has at that moment, made by core's backend in a scratch database. When our backend
  is told to count a table's rows, or to forget its count, core's does so with the copy.
- Tests that are about PostgreSQL itself are left out: core_suite_excluded.txt says which and why.

On core's own backend (CORE_SUITE_BACKEND=postgresql) nothing of this happens.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ckanext.bigquery_datastore.tests import pace

IS_BIGQUERY = os.environ.get("CORE_SUITE_BACKEND") == "bigquery"
EXCLUDED = Path(__file__).with_name("core_suite_excluded.txt")
counts: dict[str, int] = {"excluded": 0}


def excluded() -> dict[str, str]:
    """The reason for each test that is left out, by its name: file.py::[Class::]test.

    A name with @2.11 behind it is left out for that version of CKAN only.
    """
    version = os.environ.get("STACK_CKAN", "2.12")
    found = {}
    for line in EXCLUDED.read_text(encoding="utf-8").splitlines():
        name, bar, reason = line.partition(" | ")
        name, _, only = name.strip().partition("@")
        if bar and not line.startswith("#") and only in ("", version):
            found[name] = reason.strip()
    return found


def pytest_sessionstart() -> None:
    pace.keep()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    with pace.until(nextitem):
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    is_only_excluded = bool(os.environ.get("CORE_SUITE_ONLY_EXCLUDED"))
    if not IS_BIGQUERY and not is_only_excluded:
        return
    reasons = excluded()
    kept, left_out = [], []
    seen: set[int] = set()
    for item in items:
        name = re.sub(r"\[.*\]$", "", item.nodeid.split("/")[-1])
        (left_out if name in reasons else kept).append(item)
        for node in item.listchain():
            if IS_BIGQUERY and id(node) not in seen:
                seen.add(id(node))
                _name_our_plugin(node)
    if is_only_excluded:
        kept, left_out = left_out, kept
    else:
        counts["excluded"] = len(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def _name_our_plugin(node: Any) -> None:
    for place, mark in enumerate(node.own_markers):
        if mark.name == "ckan_config" and mark.args[0] == "ckan.plugins":
            plugins = mark.args[1].split()
            if "datastore" in plugins and "bigquery_datastore" not in plugins:
                value = f"bigquery_datastore {mark.args[1]}"
                node.own_markers[place] = pytest.mark.ckan_config("ckan.plugins", value).mark


def pytest_terminal_summary(terminalreporter: Any) -> None:
    passed = len(terminalreporter.stats.get("passed", []))
    failed = len(terminalreporter.stats.get("failed", []) + terminalreporter.stats.get("error", []))
    backend = "BigQuery" if IS_BIGQUERY else "PostgreSQL"
    terminalreporter.write_line(
        f"core-suite on {backend}: {passed} passed, {failed} failed, {counts['excluded']} excluded"
    )


class Mirror:
    """Copies a resource's table from BigQuery to PostgreSQL before a statement looks at it."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.is_busy = False
        self.copied: dict[str, str | None] = {}

    def __call__(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any
    ) -> None:
        looks = statement.lstrip().lower().startswith(("select", "analyze"))
        if self.is_busy or not looks:
            return
        values = parameters.values() if isinstance(parameters, dict) else ()
        names = set(re.findall(r'"([^"]+)"', statement)) | {v for v in values if isinstance(v, str)}
        self.is_busy = True
        try:
            if "pg_class" in statement:
                names |= table_ids()  # it looks for an index, whose name tells no table
            for name in names:
                self.copy(name)
        finally:
            self.is_busy = False

    def copy(self, name: str) -> None:
        import sqlalchemy as sa
        from ckanext.datastore.backend.postgres import DatastorePostgresqlBackend, identifier

        from ckanext.bigquery_datastore import clients
        from ckanext.bigquery_datastore.backend.search import run
        from ckanext.bigquery_datastore.backend.search.build import build
        from ckanext.bigquery_datastore.backend.table.lookup import get_table

        table = get_table(clients.bigquery_ro(), name)
        if table is not None and table.alias_of:
            table = get_table(clients.bigquery_ro(), table.alias_of)
        id, state = (table.id, table.etag) if table else (name, None)
        if id in self.copied and self.copied[id] == state:
            return  # a session of the test may be reading it
        self.copied[id] = state
        with self.engine.begin() as connection:
            is_there = "SELECT 1 FROM pg_{0}s WHERE {0}name = :id AND {0}name !~ '^(_|pg_)'"
            kinds = "SELECT 1 FROM pg_type WHERE typname = 'nested'"
            if not connection.execute(sa.text(kinds)).first():
                connection.execute(sa.text("CREATE TYPE nested AS (json json, extra text)"))
            for alias in table.aliases if table else ():
                connection.execute(sa.text(f"DROP VIEW IF EXISTS {identifier(alias)} CASCADE"))
            for kind in ("VIEW", "TABLE"):
                if connection.execute(sa.text(is_there.format(kind.lower())), {"id": id}).first():
                    connection.execute(sa.text(f"DROP {kind} {identifier(id)} CASCADE"))
        if table is None:
            return
        found = run.run(clients.bigquery_ro(), build(table, {"limit": 1000}), 60)
        records = run.formatted("objects", found.columns, found.rows)
        for record in records:
            del record["_id"]
        DatastorePostgresqlBackend().create(
            {},
            {
                "resource_id": table.id,
                "fields": [run.field_of(column) for column in table.user_columns],
                "records": records,
                "aliases": list(table.aliases),
                "primary_key": list(table.primary_key),
                "indexes": [list(index) for index in table.indexes],
                "include_records": False,
                "delete_fields": False,
            },
            {},
        )


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Put ours in the place of what reaches into PostgreSQL."""
    if not IS_BIGQUERY:
        return
    import sqlalchemy as sa
    from ckan import model
    from ckanext.datastore.backend import postgres
    from ckanext.datastore.tests import helpers

    scratch = configparser.RawConfigParser()
    scratch.read(os.environ["CORE_SUITE_SCRATCH"])
    engine = sa.create_engine(
        scratch["app:main"]["ckan.datastore.write_url"],
        json_deserializer=lambda text: text,  # as core's own engine
    )
    mirror = Mirror(engine)
    sa.event.listen(engine, "before_cursor_execute", mirror)
    postgres._get_engine_from_url = lambda url, **_options: engine
    _count_copies(mirror)
    # test_unit.py configures the PostgreSQL backend, and then tests names of fields.
    postgres.DatastorePostgresqlBackend._check_urls_and_permissions = lambda _self: None

    def rebuild_all_dbs(_session: Any) -> None:
        empty_dataset()
        model.repo.rebuild_db()

    helpers.clear_db = lambda _session: empty_dataset()
    helpers.rebuild_all_dbs = rebuild_all_dbs
    make_dataset()


def _count_copies(mirror: Mirror) -> None:
    """Let what core calls on our backend for a table's statistics happen to its copy, too."""
    from ckanext.datastore.backend.postgres import DatastorePostgresqlBackend

    from ckanext.bigquery_datastore.backend import BigQueryBackend

    def also(name: str) -> None:
        ours = getattr(BigQueryBackend, name)
        cores = getattr(DatastorePostgresqlBackend, name)

        def both(self: BigQueryBackend, resource_id: str) -> None:
            ours(self, resource_id)
            mirror.is_busy = True
            try:
                mirror.copy(resource_id)
                cores(DatastorePostgresqlBackend(), resource_id)
            finally:
                mirror.is_busy = False

        setattr(BigQueryBackend, name, both)

    for name in ("calculate_record_count", "clear_table_stats"):
        if hasattr(DatastorePostgresqlBackend, name):  # CKAN 2.11 has no table of statistics
            also(name)


def _client() -> Any:
    from ckanext.bigquery_datastore import clients

    return clients.bigquery_rw()


def make_dataset() -> None:
    from google.cloud import bigquery, storage

    from ckanext.bigquery_datastore import clients, config

    dataset = bigquery.Dataset(f"{config.project()}.{config.dataset()}")
    dataset.location = config.location()
    _client().delete_dataset(dataset.reference, delete_contents=True, not_found_ok=True)
    _client().create_dataset(dataset)
    google: storage.Client = clients.storage_rw()
    if google.lookup_bucket(config.export_bucket()) is None:
        google.create_bucket(config.export_bucket(), location=config.location())


def empty_dataset() -> None:
    for table in _tables():
        _client().delete_table(table.reference, not_found_ok=True)


def table_ids() -> set[str]:
    return {table.table_id for table in _tables() if table.table_type == "TABLE"}


def _tables() -> list[Any]:
    from ckanext.bigquery_datastore import config

    return list(_client().list_tables(f"{config.project()}.{config.dataset()}"))
