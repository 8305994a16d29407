"""What programs get: addresses with a name, lines to run, data packages, ckanext-dcat's words."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb_extension_httpfs
import frictionless
import pytest
import requests
from ckan.tests import factories
from ckan.tests.helpers import call_action
from google.cloud import bigquery
from rdflib import RDF, Graph, URIRef
from rdflib.namespace import DCAT, DCTERMS

from ckanext.bigquery_datastore import config, downloads
from ckanext.bigquery_datastore.dump.formats import offered
from ckanext.bigquery_datastore.dump.state import ASSEMBLE, EXPORT, Running
from ckanext.bigquery_datastore.tests.dump.exporting import PROJECT
from ckanext.bigquery_datastore.tests.webpage.conftest import RECORDS
from ckanext.bigquery_datastore.web import menu, recipes, views, waiting

DATASTORE_TYPES = ["int", "text", "int4", "float8", "bool", "timestamp", "json"]


def got(url: str, **headers: str) -> requests.Response:
    return requests.get(url, timeout=60, headers=headers)


def streets(text: str) -> list[str]:
    return [row["Street"] for row in csv.DictReader(io.StringIO(text))]


def test_an_address_ends_with_the_name_of_its_file(a_table: Any) -> None:
    table = a_table()
    expected = [record["Street"] for record in RECORDS]
    # The name is not looked at, but for its end; parameters are as before.
    for name in ("trees.csv", "..%2e.csv", quote("<b>`$(x)` ' ü.CSV"), "a.parquet.csv"):
        assert streets(got(f"{table['dump']}/{name}").text) == expected
    assert streets(got(f"{table['dump']}/x.csv?filters=" + '{"size":[1,2]}').text) == expected[:2]
    packed = got(f"{table['dump']}/trees.csv.gz")
    assert streets(gzip.decompress(packed.content).decode()) == expected
    assert packed.headers["Content-Disposition"].endswith(".csv.gz")
    # The old address stays.
    assert streets(got(table["dump"]).text) == expected


def test_a_name_without_a_known_end_is_told_so_and_bounded(a_table: Any) -> None:
    table = a_table()
    wrong = got(f"{table['dump']}/trees.xlsx")
    assert wrong.status_code == 400
    assert "name: it must end with one of .csv, .tsv" in wrong.text
    assert got(f"{table['dump']}/{'x' * 300}.csv").status_code == 404


def test_who_waits_hears_what_happens_and_how_long_it_may_take(with_request_context: Any) -> None:
    now = dt.datetime.now(dt.timezone.utc)

    def told(seconds: float, phase: str = EXPORT, **known: Any) -> tuple[str, str]:
        began = now - dt.timedelta(seconds=seconds)
        state = Running(**{"phase": phase, "progress": None, "started": began, **known})
        return waiting.words(state), waiting.time_words(state)

    assert told(30) == (
        "The table is being exported. How much there is to do is not known yet.",
        "30 seconds so far",
    )
    assert told(240, progress=0.4) == (
        "The table is being exported: 40 percent are done.",
        "4 minutes so far, about 6 minutes left",
    )
    # Of a thousandth that is done nobody tells the rest.
    assert told(30, progress=0.001)[1] == "30 seconds so far"
    assert told(30, ASSEMBLE, parts=17)[0] == (
        "The table is exported: its 17 parts are being joined into one file."
    )


def test_who_may_not_read_gets_404_for_all_that_is_told_of_a_table(a_table: Any) -> None:
    table = a_table(private=True)
    member = factories.UserWithToken()
    call_action(
        "organization_member_create", id=table["owner"], username=member["name"], role="member"
    )
    paths = [f"{table['dump']}/trees.csv", f"{table['dump']}/trees.csv/status"] + [
        f"{table['about']}/{name}" for name in ("formats", "datapackage.json", "dictionary.csv")
    ]
    assert [got(path).status_code for path in paths] == [404] * 5
    codes = [got(path, Authorization=member["token"]).status_code for path in paths]
    assert codes == [200] * 5
    assert got(f"{table['about']}-none/formats").status_code == 404


def test_a_data_package_says_what_the_file_is(a_table: Any) -> None:
    table = a_table()
    address = f"{table['about']}/datapackage.json"
    before = got(address).json()["resources"][0]
    assert "bytes" not in before and "hash" not in before
    data = got(before["path"]).content
    after = awaited(lambda: got(address).json(), lambda found: "bytes" in found["resources"][0])
    resource = after["resources"][0]
    assert resource["bytes"] == len(data)
    assert resource["hash"].startswith("crc32c:")
    assert resource["title"] == "Trees of Zürich (2024)"
    assert resource["schema"]["primaryKey"] == ["Street"]
    assert resource["schema"]["fields"][1] == {
        "name": "Street",
        "type": "string",
        "title": "Street name",
        "description": "As on the sign.",
    }
    assert after["licenses"][0]["name"] == "cc-by"
    # The standard's own library reads the package, and every cell of the file that it names.
    report = frictionless.validate(address)
    assert report.valid, report.to_summary()
    assert report.tasks[0].stats["rows"] == 60


def test_the_data_dictionary_is_a_table_too(a_table: Any) -> None:
    text = got(f"{a_table()['about']}/dictionary.csv").text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["column"] for row in rows][:3] == ["_id", "Street", "size"]
    assert [row["type"] for row in rows] == DATASTORE_TYPES
    assert (rows[1]["label"], rows[1]["description"]) == ("Street name", "As on the sign.")
    assert rows[2]["unit"] == "metres"


def test_every_line_to_copy_runs(a_table: Any, tmp_path: Path) -> None:
    table = a_table()
    basename = downloads.basename_of(table["id"])
    places = {
        "csv": f"{table['dump']}/trees.csv",
        "parquet": f"{table['dump']}/trees.parquet",
        "file": basename,
        "table": f"{PROJECT}.{config.dataset()}.{table['id']}",
    }
    whole = got(places["csv"]).content
    # A download that broke off.
    (tmp_path / f"{basename}.csv").write_bytes(whole[:100])
    (tmp_path / "trees.csv").write_bytes(whole[:100])
    ran = []
    for recipe in recipes.RECIPES:
        if recipe.is_run:
            rows = RUN[recipe.name](recipes.filled(recipe, places), tmp_path)
            ran.append((recipe.name, rows))
    assert ran == [
        ("curl", 60),
        ("wget", 60),
        ("pandas", 60),
        ("polars", 60),
        ("duckdb", 10),
        ("bigquery", 60),
    ]
    assert (tmp_path / f"{basename}.csv").read_bytes() == whole
    assert (tmp_path / "trees.csv").read_bytes() == whole
    assert {recipe.name for recipe in recipes.RECIPES if not recipe.is_run} == {"r", "excel"}


def in_shell(file: str) -> Any:
    def run(text: str, folder: Path) -> int:
        subprocess.run(["sh", "-c", text], cwd=folder, check=True, timeout=60)
        found = next(path for path in folder.iterdir() if path.name.endswith(file))
        return len(streets(found.read_text()))

    return run


def in_python(text: str, folder: Path) -> int:
    script = f"{text}\nprint(len(data))"
    ran = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=120)
    return int(ran.stdout)


def in_duckdb(text: str, folder: Path) -> int:
    import duckdb

    parts = Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
    with duckdb.connect(config={"allow_unsigned_extensions": True}) as connection:
        # DuckDB fetches it by itself where there is a network.
        connection.execute(f"LOAD '{next(parts)}'")
        return len(connection.execute(text).fetchall())


def in_bigquery(text: str, folder: Path) -> int:
    from google.auth.credentials import AnonymousCredentials

    client = bigquery.Client(PROJECT, credentials=AnonymousCredentials())
    return len(list(client.query(text).result()))


RUN = {
    "curl": in_shell("2024.csv"),
    "wget": in_shell("trees.csv"),
    "pandas": in_python,
    "polars": in_python,
    "duckdb": in_duckdb,
    "bigquery": in_bigquery,
}


def test_those_who_collect_hear_of_every_format(site: Any, a_table: Any) -> None:
    table = a_table()
    whole = got(f"{table['dump']}/trees.parquet").content

    def told() -> Graph:
        text = got(f"{site.url}/dataset/{table['dataset']}.ttl").text
        return Graph().parse(data=text, format="turtle")

    graph = awaited(told, lambda graph: any(graph.subjects(DCAT.byteSize)))
    found = {
        str(ref).partition("#")[2]: ref
        for ref in graph.subjects(RDF.type, DCAT.Distribution)
        if "#" in str(ref)
    }
    assert set(found) == {row.name for row in offered(())}
    parquet = found["parquet"]
    assert graph.value(parquet, DCAT.byteSize).toPython() == len(whole)
    assert got(str(graph.value(parquet, DCAT.downloadURL))).content == whole
    media_type = str(graph.value(parquet, DCAT.mediaType))
    assert media_type.endswith("/media-types/application/vnd.apache.parquet")
    assert graph.value(parquet, DCTERMS.modified) is not None
    spdx = "http://spdx.org/rdf/terms#"
    checksum = graph.value(parquet, URIRef(f"{spdx}checksum"))
    assert str(graph.value(checksum, URIRef(f"{spdx}algorithm"))) == "crc32c"

    croissant = got(f"{site.url}/dataset/{table['dataset']}/croissant.jsonld").json()
    files = {
        each["@id"].partition("#")[2]: each
        for each in croissant["distribution"]
        if "#" in each["@id"]
    }
    assert set(files) == {row.name for row in offered(())}
    # A context with a language has texts without one as values.
    said = {
        key: value["@value"] if isinstance(value, dict) else value
        for key, value in files["parquet"].items()
    }
    assert said["contentSize"] == str(len(whole))
    assert got(said["contentUrl"]).content == whole
    assert said["encodingFormat"] == "application/vnd.apache.parquet"


def test_formats_of_other_plugins_stay_in_the_menu(
    a_table: Any, monkeypatch: pytest.MonkeyPatch, app: Any
) -> None:
    class Plugin:
        """As ckan#9345 has it; no released CKAN knows the interface."""

        def register_dump_formats(self) -> dict[str, Any]:
            return {"xlsx": {"label": "Excel"}, "xml": None}

    monkeypatch.setattr(menu, "_implementations", lambda: [Plugin()])
    table = a_table()
    body = app.get(f"/dataset/{table['dataset']}/resource/{table['id']}").body
    assert f"/datastore/dump/{table['id']}?format=xlsx" in body
    assert 'data-format="csv"' in body and 'data-format="xml"' not in body
    # Core's view is asked for it, which knows what plugins bring.
    monkeypatch.setattr(views, "core_dump", lambda resource_id: f"core's file of {resource_id}")
    answer = app.get(f"/datastore/dump/{table['id']}?format=xlsx")
    assert answer.body == f"core's file of {table['id']}"


def test_where_the_backend_is_another_core_shows_its_own_menu(
    a_table: Any, monkeypatch: pytest.MonkeyPatch, app: Any
) -> None:
    table = a_table()
    monkeypatch.setattr(config, "is_active", lambda: False)
    page = f"/dataset/{table['dataset']}/resource/{table['id']}"
    assert "bigquery-datastore" not in app.get(f"/dataset/{table['dataset']}").body
    body = app.get(page).body
    assert "bigquery-datastore" not in body and "dropdownDownloadFormat" in body
    app.get(f"/datastore/dump/{table['id']}/trees.csv", status=404)
    app.get(f"/datastore/about/{table['id']}/formats", status=404)


def awaited(ask: Any, is_there: Any, seconds: float = 30) -> Any:
    """What is asked for, once it is as wished: a site remembers for a second."""
    end = time.monotonic() + seconds
    while not is_there(found := ask()):
        assert time.monotonic() < end, json.dumps(found, default=str)[:2000]
        time.sleep(0.3)
    return found
