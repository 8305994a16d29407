"""`ckan bigquery dump`, `status`, `purge`, `sweep`: on a terminal, in a pipe, and in trouble."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests
from ckan.tests import factories

from ckanext.bigquery_datastore import config, downloads
from ckanext.bigquery_datastore.cli import bigquery as commands
from ckanext.bigquery_datastore.dump.objects import Headers
from ckanext.bigquery_datastore.tests.conftest import stack_ini
from ckanext.bigquery_datastore.tests.dump.exporting import Place

ROWS = 30_000
CSV = b"_id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(1, ROWS + 1))


def resource_in(dataset: dict[str, Any], name: str) -> dict[str, Any]:
    return factories.Resource(package_id=dataset["id"], name=name)


def filled(resource: dict[str, Any]) -> str:
    place = Place(config.dataset(), config.export_bucket())
    place.bigquery.query(
        f"CREATE TABLE `{place.dataset}.{resource['id']}` AS SELECT n AS _id, "
        f"CONCAT('name ', CAST(n AS STRING)) AS name FROM UNNEST(GENERATE_ARRAY(1, {ROWS})) AS n"
    ).result()
    for remembered in (downloads.TABLES, downloads.FILES):
        remembered.clear()
    return resource["id"]


def run(cli: Any, *arguments: Any, **options: Any) -> Any:
    # Click before 8.2, which CKAN 2.11 has, mixes both streams unless it is told.
    cli.mix_stderr = False
    return cli.invoke(commands, list(map(str, arguments)), **options)


# --- on a terminal, and in a pipe


@pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins", "nothing_remembered")
def test_a_terminal_sees_progress_and_a_pipe_gets_nothing_but_the_file(tmp_path: Path):
    dataset = factories.Dataset()
    filled(resource_in(dataset, "Rows of a year"))
    command = [str(Path(sys.executable).with_name("ckan")), "-c", str(stack_ini(""))]
    dump = [*command, "bigquery", "dump", f"{dataset['name']}/Rows of a year"]

    screen, terminal = pty.openpty()
    on_terminal = subprocess.Popen(
        [*dump, "rows.csv"], cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    seen = b""
    try:
        while chunk := os.read(screen, 65536):
            seen += chunk
    except OSError:
        pass  # how Linux says that nobody writes any more
    assert on_terminal.wait(60) == 0, seen
    assert (tmp_path / "rows.csv").read_bytes() == CSV
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    for shown in (b"exporting", b"downloading", b"100%", f"rows.csv {len(CSV)} bytes".encode()):
        assert shown in seen

    piped = subprocess.run([*dump, "-", "--limit", "40000"], capture_output=True, timeout=90)
    assert (piped.returncode, piped.stdout) == (0, CSV)
    assert b"exporting" not in piped.stderr and b"%" not in piped.stderr


# --- dump


@pytest.fixture()
def table(own_site) -> str:
    return filled(resource_in(factories.Dataset(), "rows"))


def parts(folder: Path) -> list[Path]:
    return list(folder.glob("*.part"))


@pytest.mark.usefixtures("non_clean_db")
def test_a_download_that_breaks_off_goes_on_where_it_was(cli, own_site, table, tmp_path):
    file = tmp_path / "out.csv"
    broken = {"method": "GET", "path": "/dumps/.*/data.csv", "times": 0, "truncate": 50_000}
    own_site.fault(**broken)
    # A stream goes on by itself some times; then the rest of it does not come any more.
    own_site.fault(method="GET", path="/dumps/.*/data.csv", times=0, status=503)
    first = run(cli, "dump", table, file)
    (part,) = parts(tmp_path)
    assert (first.exit_code, file.exists()) == (1, False)
    assert "Traceback" not in first.output and len(first.stderr.splitlines()) == 1
    begun = part.stat().st_size
    assert 0 < begun < len(CSV)

    own_site.mend()
    own_site.forget_requests()
    again = run(cli, "dump", table, file)
    assert (again.exit_code, file.read_bytes() == CSV, parts(tmp_path)) == (0, True, [])
    ranges = {seen["range"] for seen in own_site.seen(path="/data.csv")["requests"]}
    assert f"bytes={begun}-{len(CSV) - 1}" in ranges

    # What lies beside it is not what came: the sum tells, and nothing of it is kept.
    file.unlink()
    part.write_bytes(b"x" + CSV[1:begun])
    spoilt = run(cli, "dump", table, file)
    assert (spoilt.exit_code, file.exists(), parts(tmp_path)) == (1, False, [])
    assert "CRC32C" in spoilt.stderr


@pytest.mark.usefixtures("non_clean_db")
def test_every_format_and_part_of_a_table_can_be_dumped(cli, own_site, table, tmp_path):
    files = {
        "rows.csv": CSV,
        "rows.csv.gz": None,
        "rows.json": None,
        "rows.parquet": None,
        "some.tsv": b"name\nname 7\nname 6\n",
    }
    some = ["--filters", '{"_id": [6, 7]}', "--fields", "name", "--sort", "_id desc"]
    for name, content in files.items():
        done = run(cli, "dump", table, tmp_path / name, *(some if name == "some.tsv" else []))
        assert done.exit_code == 0, done.output
        assert content is None or (tmp_path / name).read_bytes() == content
    assert json.loads((tmp_path / "rows.json").read_bytes())["records"][-1] == [
        ROWS,
        f"name {ROWS}",
    ]
    assert (tmp_path / "rows.parquet").read_bytes()[-4:] == b"PAR1"
    few = run(cli, "dump", table, "-", "--limit", 1, "--bom")
    assert few.stdout_bytes == b"\xef\xbb\xbf_id,name\n1,name 1\n"
    assert run(cli, "dump", table, tmp_path).stdout.startswith(f"{tmp_path}/")
    for arguments, said in (
        (["none"], "There is no resource none. Give its id"),
        (["no-dataset/rows"], "There is no dataset no-dataset."),
        ([table, "/nowhere/at/all.csv"], "/nowhere/at/all.csv"),
        ([table, "-", "--filters", "[1"], "--filters"),
        ([table, "-", "--filters", '{"nme": 1}'], "nme"),
        ([table, "-", "--format", "geojson"], "needs a column of type GEOGRAPHY"),
    ):
        refused = run(cli, "dump", *arguments)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert said in refused.stderr and "Traceback" not in refused.stderr


# --- status, purge, sweep


@pytest.mark.usefixtures("non_clean_db")
def test_status_tells_of_tables_files_jobs_and_the_bucket(cli, own_site, tmp_path):
    dataset = factories.Dataset()
    id = filled(resource_in(dataset, "rows"))
    name = f"{dataset['name']}/rows"
    assert "ready: no file" in run(cli, "status", name).stdout
    assert run(cli, "export", name, "--format", "csv", "--format", "parquet").exit_code == 0
    own_site.admin("PUT", "defaults", {"run_seconds": {"EXPORT_DATA": "60"}})
    plan = downloads.prepare(id, {"format": "ndjson", "bom": False})
    assert plan is not None
    downloads.begin(plan)

    text = run(cli, "status", name, "--billed").stdout
    assert text.startswith(f"{name} ({id})\n    {ROWS:,} rows, ")
    assert "ready: csv " in text and ", parquet " in text
    assert f"running: export data of {id} since" in text
    assert f"    ckan_resource={id}: " in text

    found = json.loads(run(cli, "status", "--json", "--billed").stdout)
    (mine,) = [table for table in found["tables"] if table["id"] == id]
    assert (mine["resource"], mine["rows"]) == (name, ROWS)
    # With and without the mark for spreadsheets.
    assert mine["files"]["csv"] == len(CSV) + 3
    assert found["bucket"]["holds"]["dumps"]["bytes"] >= len(CSV)
    assert found["billed"]["by_label"][f"ckan_resource={id}"] >= 10 * 2**20
    own_site.admin("DELETE", "defaults")


@pytest.mark.usefixtures("non_clean_db")
def test_purge_asks_first_and_a_dry_run_deletes_nothing(cli, app, own_site, table):
    def names() -> set[str]:
        return {name for name, *_ in own_site.files(config.export_bucket()) if table in name}

    url = app.get(f"/datastore/dump/{table}", follow_redirects=False).location
    assert requests.get(url, timeout=30).content == CSV
    there = names()
    assert len(there) == 1
    dry = run(cli, "purge", table, "--dry-run")
    assert f"gs://{config.export_bucket()}/{next(iter(there))} {len(CSV)} bytes" in dry.stdout
    assert run(cli, "purge", table, input="n\n").exit_code == 1
    assert names() == there
    assert run(cli, "purge", table, input="y\n").exit_code == 0
    assert (names(), requests.get(url, timeout=30).status_code) == (set(), 404)

    # Of a resource that is gone: nobody's request deletes it any more.
    run(cli, "sweep")
    store = Place(config.dataset(), config.export_bucket()).store
    left = f"dumps/{uuid.uuid4()}/csv/00/all-0/data.csv"
    store.create(left, b"left", Headers("text/csv"))
    dry = run(cli, "sweep", "--dry-run")
    assert f"gs://{config.export_bucket()}/{left} 4 bytes" in dry.stdout.splitlines()
    assert store.find(left) is not None
    assert run(cli, "sweep").stdout == "1 objects deleted\n"
    assert store.find(left) is None
