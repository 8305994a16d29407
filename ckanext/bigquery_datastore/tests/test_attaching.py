"""A table that is in BigQuery already is a resource's, without a copy and without being touched.

Another project's dataset, which is open to its owner and to the read-write account alone: what the
read-only one reads there it reads through the view.
"""

from __future__ import annotations

import io
import json
import re
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest
from ckan import model
from ckan.cli.cli import ckan
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery import AccessEntry

from ckanext.bigquery_datastore import attaching, config, downloads
from ckanext.bigquery_datastore.backend import behind
from ckanext.bigquery_datastore.errors import BadRequest, BigQueryDatastoreError
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

OWNER = "weather-office"
BIRDS = [("robin", 16), ("wren", 9), ("crane", 5500)]


class Elsewhere:
    """A dataset of somebody else's."""

    def __init__(self, name: str, **access: str) -> None:
        self.client = bigquery.Client(OWNER, credentials=AnonymousCredentials(), location="EU")
        self.name = f"{OWNER}.{name}"
        made = bigquery.Dataset(self.name)
        made.location = "EU"
        entries = {"owner@example.com": "OWNER", **access}
        made.access_entries = [AccessEntry(r, "userByEmail", who) for who, r in entries.items()]
        self.client.create_dataset(made)

    def run(self, sql: str) -> list[Any]:
        return list(self.client.query(re.sub(r"\bHERE\b", f"`{self.name}`", sql)).result())

    def birds(self, table: str = "birds", columns: str = "_id INT64, name STRING, grams INT64"):
        self.run(f"CREATE TABLE HERE.{table} ({columns})")
        rows = ", ".join(f"({number}, '{n}', {g})" for number, (n, g) in enumerate(BIRDS, 1))
        self.run(f"INSERT HERE.{table} VALUES {rows}")
        return f"{self.name}.{table}"

    def let_in(self) -> list[str]:
        """The views that may read it."""
        entries = self.client.get_dataset(self.name).access_entries
        return [e.entity_id["tableId"] for e in entries if e.entity_type == "view"]


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    behind._KNOWN.clear()
    made = Elsewhere(f"birds_{uuid.uuid4().hex[:8]}", **{"emulator-rw": "OWNER"})
    yield made
    made.client.delete_dataset(made.name, delete_contents=True)


@pytest.fixture
def resource() -> str:
    return factories.Resource()["id"]


@pytest.fixture
def run(cli: Any) -> Callable[..., str]:
    """A command that succeeds; what it says."""

    def run(*arguments: str, fails: bool = False) -> str:
        result = cli.invoke(ckan, ["bigquery", *arguments])
        assert result.exit_code == (1 if fails else 0), result.output
        return result.output

    return run


def records(resource: str, **asked: Any) -> list[dict[str, Any]]:
    return call_action("datastore_search", resource_id=resource, **asked)["records"]


def tables() -> set[str]:
    client = bigquery.Client(config.project(), credentials=AnonymousCredentials())
    return {item.table_id for item in client.list_tables(config.dataset())}


def is_active(resource: str) -> bool:
    return call_action("resource_show", id=resource)["datastore_active"]


def downloaded(app: Any, resource: str, query: str = "") -> bytes:
    downloads.TABLES.clear()
    behind._KNOWN.clear()
    answer = visit(app, resource, query)
    assert answer.status_code == 302, answer.text
    with urllib.request.urlopen(answer.location, timeout=20) as found:
        return found.read()


def exports(resource: str) -> int:
    place = Place(config.dataset(), config.export_bucket())
    return len([job for job in place.export_jobs() if resource in job.query])


def files(resource: str) -> list[str]:
    place = Place(config.dataset(), config.export_bucket())
    return [found.name for found in place.store.list(f"dumps/{resource}/")]


def test_a_table_is_searched_and_downloaded_in_all_formats_as_if_it_was_ours(
    app, run, elsewhere, resource
):
    said = run("attach", resource, elsewhere.birds())
    assert "is shown as the table of" in said and "until its rows change" not in said
    assert "metadataViewer" in said  # the read-only account sees the view alone
    assert is_active(resource) and elsewhere.let_in() == [resource]
    found = call_action("datastore_search", resource_id=resource, filters={"name": "wren"})
    assert found["records"] == [{"_id": 2, "name": "wren", "grams": 9}]
    assert [r["name"] for r in records(resource, sort="grams desc", limit=1)] == ["crane"]
    assert [r["name"] for r in records(resource, q="robin")] == ["robin"]
    info = call_action("datastore_info", id=resource)
    assert (info["meta"]["count"], info["meta"]["table_type"]) == (3, "VIEW")
    assert [(f["id"], f["type"]) for f in info["fields"]] == [("name", "text"), ("grams", "int8")]
    sql = f'SELECT count(*) AS n FROM "{resource}" WHERE grams < 20'
    context = {"ignore_auth": True, "user": ""}
    found = tk.get_action("datastore_search_sql")(context, {"sql": sql})
    assert found["records"] == [{"n": 2}]
    csv = b"_id,name,grams\n1,robin,16\n2,wren,9\n3,crane,5500\n"
    assert downloaded(app, resource) == csv
    assert downloaded(app, resource, "format=tsv") == csv.replace(b",", b"\t")
    assert downloaded(app, resource, "filters=%7B%22name%22%3A%22wren%22%7D&fields=name") == (
        b"name\nwren\n"
    )
    parquet = pq.read_table(io.BytesIO(downloaded(app, resource, "format=parquet")))
    assert parquet.column("name").to_pylist() == ["robin", "wren", "crane"]
    rows = [json.loads(line) for line in downloaded(app, resource, "format=ndjson").splitlines()]
    assert rows[1] == {"_id": "2", "name": "wren", "grams": "9"}
    answer = visit(app, resource, "format=json")
    assert json.loads(answer.data)["records"][0] == [1, "robin", 16]


def test_its_files_are_kept_until_the_rows_of_any_table_behind_it_change(app, run, resource):
    # Which the read-only account may see, too.
    elsewhere = Elsewhere(
        f"zoo_{uuid.uuid4().hex[:8]}", **{"emulator-rw": "OWNER", "emulator-ro": "READER"}
    )
    elsewhere.birds()
    elsewhere.run("CREATE TABLE HERE.homes (name STRING, home STRING)")
    elsewhere.run("INSERT HERE.homes VALUES ('wren', 'hedge')")
    elsewhere.run(
        "CREATE VIEW HERE.housed AS SELECT b.name, h.home "
        "FROM HERE.birds b JOIN HERE.homes h ON b.name = h.name"
    )
    assert "until its rows change" in run("attach", resource, f"{elsewhere.name}.housed")
    assert downloaded(app, resource) == downloaded(app, resource) == b"name,home\nwren,hedge\n"
    assert exports(resource) == 1
    elsewhere.run("UPDATE HERE.homes SET home = 'shed' WHERE TRUE")
    assert downloaded(app, resource) == b"name,home\nwren,shed\n"
    elsewhere.run("DELETE FROM HERE.birds WHERE TRUE")
    assert downloaded(app, resource) == downloaded(app, resource) == b"name,home\n"
    assert exports(resource) == 3
    # What gives other rows by itself, and what other views are made of.
    elsewhere.run(
        "CREATE VIEW HERE.today AS SELECT name, CURRENT_TIMESTAMP() AS now FROM HERE.housed"
    )
    other = factories.Resource()["id"]
    assert "when it gives other rows" in run("attach", other, f"{elsewhere.name}.today")


def test_columns_that_ckan_cannot_show_get_other_names(run, elsewhere, resource):
    long = "l" * 80
    elsewhere.run(
        f"CREATE TABLE HERE.odd AS SELECT 'x' AS _id, 1 AS _count, 2 AS count, 3 AS `{long}`, "
        "[1, 2] AS list, STRUCT(1 AS a) AS pair, DATE '2024-02-29' AS day, 4 AS `Größe in %`"
    )
    said = run("attach", resource, f"{elsewhere.name}.odd")
    assert "The column '_id' is called 'id' in CKAN" in said
    assert "The column '_count' is called 'count_2' in CKAN" in said
    assert records(resource) == [
        {
            **{"id": "x", "count_2": 1, "count": 2, "l" * 63: 3, "list": [1, 2]},
            **{"pair": {"a": 1}, "day": "2024-02-29", "Größe in %": 4},
        }
    ]


def test_nothing_writes_to_it_and_its_data_dictionary_can_be_kept(run, elsewhere, resource):
    name = elsewhere.birds()
    run("attach", resource, name)
    for action, asked in (
        ("datastore_upsert", {"records": [{"_id": 1, "name": "x"}], "method": "update"}),
        ("datastore_upsert", {"records": [{"name": "x"}], "method": "insert"}),
        ("datastore_create", {"records": [{"name": "x"}]}),
        ("datastore_create", {"fields": [{"id": "name"}, {"id": "new", "type": "text"}]}),
        ("datastore_create", {"primary_key": ["name"]}),
        ("datastore_delete", {"filters": {"name": "wren"}}),
        ("datastore_delete", {}),
    ):
        with pytest.raises(tk.ValidationError, match="they are changed there, and never here"):
            call_action(action, resource_id=resource, force=True, **asked)
    said = run("layout", resource, fails=True)
    assert "is no table of the DataStore's own" in said
    call_action(
        "datastore_create",
        resource_id=resource,
        force=True,
        fields=[{"id": "name", "info": {"label": "Species", "notes": "In English."}}],
        aliases=["birds"],
    )
    assert call_action("datastore_info", id=resource)["fields"][0]["info"]["label"] == "Species"
    assert elsewhere.let_in() == [resource]
    assert len(records(resource)) == len(records("birds")) == 3
    assert elsewhere.run("SELECT COUNT(*) AS n FROM HERE.birds")[0].n == 3
    assert "is shown by" not in run("attach", resource, name, fails=True)


def test_a_file_is_not_loaded_over_it(run, elsewhere, resource, tmp_path):
    run("attach", resource, elsewhere.birds())
    file = tmp_path / "rows.csv"
    file.write_text("name\nowl\n")
    assert "they are changed there" in run("load", resource, str(file), fails=True)
    assert len(records(resource)) == 3


def test_when_it_is_detached_or_its_resource_deleted_only_the_view_goes(
    app, run, elsewhere, resource
):
    name = elsewhere.birds()
    run("attach", resource, name)
    downloaded(app, resource)
    assert files(resource)
    run("detach", resource)
    assert files(resource) == []
    assert not is_active(resource) and elsewhere.let_in() == [] and resource not in tables()
    assert "No table is attached" in run("detach", resource, fails=True)
    run("attach", resource, name)
    call_action("resource_delete", id=resource)
    assert elsewhere.let_in() == [] and resource not in tables()
    assert elsewhere.run("SELECT COUNT(*) AS n FROM HERE.birds")[0].n == 3


def test_a_view_of_a_resource_that_is_gone_is_purged_and_its_table_stays(
    cli, run, elsewhere, resource
):
    run("attach", resource, elsewhere.birds())
    model.Session.query(model.Resource).filter_by(id=resource).delete()
    model.Session.commit()
    result = cli.invoke(ckan, ["datastore", "purge"], input="y\n")
    assert f"Table '{resource}' dropped" in result.output, result.output
    assert elsewhere.let_in() == [] and resource not in tables()
    assert elsewhere.run("SELECT COUNT(*) AS n FROM HERE.birds")[0].n == 3


def test_what_cannot_be_attached_is_said_and_leaves_nothing(run, elsewhere, resource):
    own = factories.Resource()["id"]
    call_action("datastore_create", resource_id=own, force=True, records=[{"secret": 1}])
    ours = f"{config.project()}.{config.dataset()}"
    elsewhere.run(f"CREATE VIEW HERE.onto_ours AS SELECT * FROM `{ours}.{own}`")
    elsewhere.birds()
    far = bigquery.Dataset(f"{OWNER}.far_{uuid.uuid4().hex[:8]}")
    far.location = "US"
    elsewhere.client.create_dataset(far)
    elsewhere.run(f"CREATE TABLE `{far.dataset_id}`.t AS SELECT 1 AS n")
    shut = Elsewhere(f"shut_{uuid.uuid4().hex[:8]}")
    shut.birds()
    half = Elsewhere(f"half_{uuid.uuid4().hex[:8]}", **{"emulator-rw": "READER"})
    half.birds()
    before = tables()
    for name, sentence in {
        "birds": "is no name of one table",
        f"{elsewhere.name}.birds`; DROP TABLE x; --": "is no name of one table",
        f"{elsewhere.name}.bird*": "is no name of one table",
        f"{elsewhere.name}.birds$20240101": "is no name of one table",
        f"{elsewhere.name}.INFORMATION_SCHEMA.TABLES": "is no name of one table",
        f"{elsewhere.name}.nothing": "There is no table",
        f"{ours}.{own}": "is in this site's own DataStore",
        f"{elsewhere.name}.onto_ours": "is in this site's own DataStore",
        f"{far.project}.{far.dataset_id}.t": "is in the location US",
        f"{shut.name}.birds": "Access Denied",
        f"{half.name}.birds": "bq query --use_legacy_sql=false 'GRANT `roles/bigquery.dataOwner`",
    }.items():
        with pytest.raises(BigQueryDatastoreError, match=re.escape(sentence)):
            attaching.attach(resource, name)
    assert tables() == before and not is_active(resource) and half.let_in() == []
    assert "has a table already" in run("attach", own, f"{elsewhere.name}.birds", fails=True)
    assert "There is no resource" in run("attach", "nothing", "a.b.c", fails=True)


def test_a_table_that_came_between_is_not_dropped(elsewhere, resource, monkeypatch):
    """It was made after it was looked for, by somebody who asks for no lock of ours."""
    client = bigquery.Client(config.project(), credentials=AnonymousCredentials())
    client.query(f"CREATE TABLE `{config.dataset()}.{resource}` AS SELECT 1 AS kept").result()
    monkeypatch.setattr(attaching, "get_table", lambda *_: None)
    with pytest.raises(BadRequest, match="has a table already"):
        attaching.attach(resource, elsewhere.birds())
    found = client.query(f"SELECT kept FROM `{config.dataset()}.{resource}`").result()
    assert [row["kept"] for row in found] == [1]
    assert elsewhere.let_in() == []


def test_a_table_as_aircan_writes_it_is_taken_as_it_is(app, run, resource):
    """Named by the resource's id, ``_id`` first: nothing is attached, it is there."""
    client = bigquery.Client(config.project(), credentials=AnonymousCredentials())
    client.query(
        f"CREATE TABLE `{config.dataset()}.{resource}` (_id INT64 NOT NULL, name STRING, seen TIME)"
    ).result()
    client.query(
        f"INSERT `{config.dataset()}.{resource}` VALUES (1, 'a', NULL), (2, 'b', TIME '07:08:09')"
    ).result()
    assert records(resource)[1] == {"_id": 2, "name": "b", "seen": "07:08:09"}
    call_action(
        "datastore_upsert",
        resource_id=resource,
        force=True,
        method="insert",
        records=[{"name": "c"}],
    )
    call_action(
        "datastore_upsert",
        resource_id=resource,
        force=True,
        method="update",
        records=[{"_id": 1, "name": "A"}],
    )
    assert downloaded(app, resource) == b"_id,name,seen\n1,A,\n2,b,07:08:09\n3,c,\n"
