"""A table that is loaded anew keeps what CKAN knows of it, and is replaced in one step."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from ckan import model
from ckan.cli.cli import ckan
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import clients, config, load
from ckanext.bigquery_datastore.backend.table.lookup import get_table
from ckanext.bigquery_datastore.backend.write import lock, replace
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins", "nothing_left")

FIELDS = [
    {"id": "code", "type": "text", "info": {"label": "Code", "notes": "Of the\n\nstation."}},
    {"id": "count", "type": "int4", "info": {"notes": "All of them."}},
    {"id": "at", "type": "timestamp"},
    {"id": "seen", "type": "timestamptz"},
    {"id": "more", "type": "json", "info": {"label": "More"}},
    {"id": "tags", "type": "_text"},
    {"id": "gone", "type": "text", "info": {"label": "Gone"}},
]
CSV = (
    "code,count,at,seen,more,tags,new\n"
    '007,1,2024-05-06 07:08:09,2024-05-06 07:08:09+00,"{""a"": [1, null]}","[""x""]",1.5\n'
    "012,,,,,,2.5\n"
)
FIRST = {
    "_id": 1,
    "code": "007",
    "count": 1,
    "at": "2024-05-06T07:08:09",
    "seen": "2024-05-06T07:08:09+00:00",
    "more": {"a": [1, None]},
    "tags": ["x"],
    "new": 1.5,
}
EMPTY = dict.fromkeys(("count", "at", "seen", "more", "tags"))


@pytest.fixture
def resource() -> str:
    """A table with a data dictionary, a key, an index and an alias."""
    found = factories.Resource(url_type="datastore")["id"]
    call_action(
        "datastore_create",
        resource_id=found,
        fields=FIELDS,
        primary_key=["code"],
        indexes=["count", "gone"],
        aliases=[f"alias-of-{found}"],
        records=[{"code": "old", "gone": "x"}],
    )
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(CSV)
    return path


def run(cli: Any, *arguments: Any) -> Any:
    return cli.invoke(ckan, ["bigquery", "load", *map(str, arguments)])


def rows(resource_id: str, **params: Any) -> list[dict[str, Any]]:
    return call_action("datastore_search", resource_id=resource_id, **params)["records"]


def dictionary(resource_id: str) -> list[dict[str, Any]]:
    fields = call_action("datastore_info", id=resource_id)["fields"]
    return [{k: v for k, v in field.items() if k != "schema"} for field in fields]


@pytest.mark.ckan_config("ckan.datastore.ms_in_timestamp", "false")
def test_columns_that_stay_keep_their_types_and_their_place_in_the_dictionary(
    cli: Any, resource: str, file: Path
) -> None:
    expected = [*dictionary(resource)[:-1], {"id": "new", "type": "float8"}]
    for _ in range(2):
        result = run(cli, resource, file)
        assert result.exit_code == 0, result.output
        assert dictionary(resource) == expected
        assert rows(resource) == [FIRST, {"_id": 2, "code": "012", **EMPTY, "new": 2.5}]


def test_plugin_data_stays(cli: Any, resource: str, file: Path) -> None:
    table = get_table(clients.bigquery_ro(), resource)
    assert table is not None
    before = {**dict(table.column("code").plugin_data)}  # type: ignore[union-attr]
    from ckanext.datastore.backend import DatastoreBackend

    backend = DatastoreBackend.get_active_backend()
    fields = [{"id": field["id"], "info": field.get("info", {})} for field in FIELDS]
    backend.create(
        {}, {"resource_id": resource, "fields": fields}, {0: {"some_plugin": {"deep": ["ü"]}}}
    )
    assert run(cli, resource, file).exit_code == 0
    found = backend.resource_plugin_data(resource)["code"]
    assert {k: v for k, v in found.items() if k != "_info"} == {
        **before,
        "some_plugin": {"deep": ["ü"]},
    }


def test_the_key_and_an_index_that_can_stay_do(cli: Any, resource: str, file: Path) -> None:
    assert run(cli, resource, file).exit_code == 0
    table = get_table(clients.bigquery_ro(), resource)
    assert table is not None
    assert (table.primary_key, table.indexes) == (("code",), (("count",),))
    call_action(
        "datastore_upsert",
        resource_id=resource,
        force=True,
        records=[{"code": "007", "new": 9}, {"code": "x", "more": [1], "tags": ["y"]}],
    )
    found = rows(resource)
    assert [(row["code"], row["new"]) for row in found] == [("007", 9), ("012", 2.5), ("x", None)]
    assert found[2]["_id"] > found[1]["_id"]


def test_an_alias_stands_for_the_new_columns(cli: Any, resource: str, file: Path) -> None:
    alias = f"alias-of-{resource}"
    assert run(cli, resource, file).exit_code == 0
    assert [row["code"] for row in rows(alias)] == ["007", "012"]
    view = clients.bigquery_ro().get_table(f"{config.project()}.{config.dataset()}.{alias}")
    assert [field.name for field in view.schema] == list(FIRST)
    assert call_action("datastore_info", id=resource)["meta"]["aliases"] == [alias]


def test_the_download_and_the_data_dictionary_page_work(
    cli: Any, app: Any, resource: str, file: Path
) -> None:
    place = Place(config.dataset(), config.export_bucket())
    for text in (CSV, CSV.replace("007", "700")):
        file.write_text(text)
        assert run(cli, resource, file).exit_code == 0
        data = place.file(resource, "csv").decode()
        assert data.splitlines()[0] == "_id,code,count,at,seen,more,tags,new"
        assert data.splitlines()[1].startswith(f"1,{text.splitlines()[1][:3]},1,")
    user = factories.Sysadmin()
    token = factories.APIToken(user=user["name"])["token"]
    dataset = call_action("resource_show", id=resource)["package_id"]
    page = app.get(
        f"/dataset/{dataset}/dictionary/{resource}", headers={"Authorization": str(token)}
    )
    assert 'value="Code"' in page.body
    assert "Of the\n\nstation." in page.body
    assert "Gone" not in page.body


def test_two_rows_with_one_key_replace_nothing(cli: Any, resource: str, file: Path) -> None:
    file.write_text("code,count\na,1\n,2\n,3\na,4\n")
    result = run(cli, resource, file)
    assert result.exit_code == 1
    assert "Two rows have the same code, which is the table's primary key." in result.output
    assert [row["code"] for row in rows(resource)] == ["old"]


def test_a_file_without_the_keys_column_replaces_nothing(
    cli: Any, resource: str, file: Path
) -> None:
    file.write_text("count\n1\n")
    result = run(cli, resource, file)
    assert result.exit_code == 1
    assert "The column code is missing, which is in the table's primary key" in result.output
    assert [row["code"] for row in rows(resource)] == ["old"]


def test_a_value_that_a_kept_type_cannot_hold_replaces_nothing(
    cli: Any, resource: str, file: Path
) -> None:
    file.write_text("code,count\na,many\n")
    result = run(cli, resource, file)
    assert result.exit_code == 1
    assert "Line 2 of the file: 'many' in the column 'count' is no integer" in result.output
    assert [row["code"] for row in rows(resource)] == ["old"]
    assert run(cli, resource, file, "--type", "count=text").exit_code == 0
    assert dictionary(resource)[1] == {**FIELDS[1], "type": "text"}


def test_what_is_no_json_does_not_come_into_a_column_of_json(
    cli: Any, resource: str, file: Path
) -> None:
    file.write_text("code,more\na,{b\n")
    result = run(cli, resource, file)
    assert result.exit_code == 1
    assert "Line 2 of the file: '{b' in the column 'more' is no JSON" in result.output
    assert [row["code"] for row in rows(resource)] == ["old"]


def test_a_parquet_file_goes_into_the_types_of_the_table(
    cli: Any, resource: str, tmp_path: Path
) -> None:
    moment = dt.datetime(2024, 5, 6, 7, 8, 9)
    path = tmp_path / "rows.parquet"
    columns = {
        "code": ["007"],
        "count": pa.array([1], pa.int32()),
        "at": pa.array([moment], pa.timestamp("us")),
        "seen": pa.array([moment], pa.timestamp("us", tz="UTC")),
        "more": pa.array([{"a": [1, None]}]),
        "tags": pa.array([["x"]]),
        "new": [1.5],
    }
    pq.write_table(pa.table(columns), path)
    before = dictionary(resource)
    result = run(cli, resource, path)
    assert result.exit_code == 0, result.output
    assert dictionary(resource) == [*before[:-1], {"id": "new", "type": "float8"}]
    (row,) = rows(resource)
    assert {k: row[k] for k in ("code", "count", "more", "new")} == {
        k: FIRST[k] for k in ("code", "count", "more", "new")
    }


def test_labels_and_a_text_for_people_stay(cli: Any, resource: str, file: Path) -> None:
    client = clients.bigquery_rw()
    api = client.get_table(f"{config.project()}.{config.dataset()}.{resource}")
    api.labels = {"team": "air"}
    api.description = f"Measured by the city.\n\n{api.description}"
    client.update_table(api, ["labels", "description"])
    assert run(cli, resource, file).exit_code == 0
    api = client.get_table(api.reference)
    assert api.labels == {"team": "air"}
    assert api.description.startswith("Measured by the city.\n\nCKAN {")


def test_a_load_waits_for_who_writes(
    cli: Any, resource: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written while the file was read is replaced too; nothing is mixed."""
    waits, may_go = threading.Event(), threading.Event()
    original = lock.writing

    def told(*args: Any, **named: Any) -> Any:
        waits.set()
        return original(*args, **named)

    def write() -> None:
        with original(resource):
            may_go.set()
            assert waits.wait(60)
            seen.append([row["code"] for row in rows(resource)])

    seen: list[list[str]] = []
    writer = threading.Thread(target=write)
    writer.start()
    assert may_go.wait(60)
    monkeypatch.setattr(lock, "writing", told)
    assert run(cli, resource, file).exit_code == 0
    writer.join()
    assert seen == [["old"]]
    assert [row["code"] for row in rows(resource)] == ["007", "012"]


def test_a_load_that_has_lost_the_lock_replaces_nothing(
    cli: Any, resource: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> None:
        holders = (
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        with model.meta.engine.connect() as other:
            ended = other.execute(
                sa.text(f"SELECT pg_terminate_backend(pid, 5000) FROM ({holders}) AS h")
            ).all()
        # That of the load, and that of the table's writers.
        assert len(ended) == 2

    monkeypatch.setattr(replace, "check_key", lose)
    result = run(cli, resource, file)
    assert result.exit_code == 1, result.output
    assert "The connection to PostgreSQL was lost" in result.output
    assert [row["code"] for row in rows(resource)] == ["old"]
    assert left() == (0, 0)


def test_who_reads_meanwhile_finds_the_old_table_or_the_new_one(
    cli: Any, resource: str, file: Path
) -> None:
    client = clients.bigquery_ro()
    table = get_table(client, resource)
    assert table is not None
    ended = threading.Event()
    found: set[tuple[str, ...]] = set()

    def read() -> None:
        while not ended.is_set():
            result = client.query_and_wait(f"SELECT * FROM {table.sql_name} ORDER BY _id")
            found.add(tuple(row["code"] for row in result))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert run(cli, resource, file).exit_code == 0
    finally:
        ended.set()
        reader.join()
    assert ("old",) in found
    assert found <= {("old",), ("007", "012")}


KILLED = """
import os, signal, sys
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.write import lock, replace
def kill(*_args, **_named):
    os.kill(os.getpid(), signal.SIGKILL)
{module}.{function} = kill
from ckan.cli.cli import ckan
ckan(["-c", sys.argv[1], "bigquery", "load", *sys.argv[2:]])
"""


@pytest.mark.parametrize(
    ("module", "function"), [("lock", "writing"), ("replace", "check_key"), ("query", "write")]
)
def test_a_load_that_is_killed_leaves_the_old_table_and_what_it_leaves_is_swept_up(
    cli: Any,
    resource: str,
    file: Path,
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    function: str,
) -> None:
    ini = str(Path(str(pytestconfig.getoption("ckan_ini"))).resolve())
    script = KILLED.format(module=module, function=function)
    process = subprocess.run(
        [sys.executable, "-c", script, ini, resource, str(file)],
        env=os.environ,
        capture_output=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()[-3000:]
    assert [row["code"] for row in rows(resource)] == ["old"]
    # The lock ended with its holder.
    call_action("datastore_upsert", resource_id=resource, force=True, records=[{"code": "b"}])
    assert left() == (3, 1)
    # A load that runs is left alone …
    assert cli.invoke(ckan, ["bigquery", "sweep"]).exit_code == 0
    assert left() == (3, 1)
    # … and one that has no time left is swept up.
    monkeypatch.setattr(load, "LOAD_LIFETIME", dt.timedelta(0))
    assert cli.invoke(ckan, ["bigquery", "sweep"]).exit_code == 0
    assert left() == (0, 0)


def left() -> tuple[int, int]:
    """Objects and tables of loads."""
    place = Place(config.dataset(), config.export_bucket())
    tables = [table.table_id for table in place.bigquery.list_tables(place.dataset)]
    staging = [name for name in tables if name.startswith(load.STAGING_PREFIX)]
    return len(place.store.list(load.ROOT)), len(staging)
