"""CKAN's own commands on a table in BigQuery: ``ckan datastore dump`` and ``purge``."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from ckan.cli.cli import ckan
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action
from ckanext.datastore import blueprint

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend.table.lookup import get_table
from ckanext.bigquery_datastore.tests.dump.exporting import Place

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

FIELDS = [
    {"id": "name", "type": "text"},
    {"id": "size", "type": "numeric"},
    {"id": "more", "type": "json"},
    {"id": "tags", "type": "_text"},
]
RECORDS = [
    {"name": f'Straße "{n}", x', "size": n / 4, "more": {"n": [n, None]}, "tags": ["a", str(n)]}
    for n in range(250)
]


@pytest.fixture
def resource() -> str:
    found = factories.Resource(url_type="datastore")["id"]
    call_action("datastore_create", resource_id=found, fields=FIELDS, records=RECORDS)
    return found


def run(cli: Any, *arguments: Any, **options: Any) -> Any:
    result = cli.invoke(ckan, ["datastore", *map(str, arguments)], **options)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("format_name", ["csv", "tsv"])
def test_the_command_writes_the_bytes_of_the_download(
    cli: Any, resource: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str
) -> None:
    monkeypatch.setattr(blueprint, "PAGINATE_BY", 100)
    file = tmp_path / "file"
    run(cli, "dump", resource, file, "--format", format_name)
    place = Place(config.dataset(), config.export_bucket())
    # But for the end of its header, which is core's: see the README's table "Compatibility".
    by_core = file.read_bytes().replace(b"\r\n", b"\n", 1)
    assert by_core == place.file(resource, format_name)
    assert file.read_bytes().count(b"\n") == 251


@pytest.mark.parametrize("format_name", ["json", "xml"])
def test_the_command_writes_the_bytes_of_the_rewritten_download(
    cli: Any,
    app: Any,
    resource: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format_name: str,
) -> None:
    monkeypatch.setattr(blueprint, "PAGINATE_BY", 100)
    file = tmp_path / "file"
    run(cli, "dump", resource, file, "--format", format_name)
    assert file.read_bytes() == app.get(f"/datastore/dump/{resource}?format={format_name}").data


def test_the_command_writes_a_part(cli: Any, resource: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    run(cli, "dump", resource, file, "--offset", 248, "--limit", 1, "--bom")
    assert file.read_bytes() == (
        b"\xef\xbb\xbf_id,name,size,more,tags\r\n"
        b'249,"Stra\xc3\x9fe ""248"", x",62,"{""n"": [248, null]}","[""a"",""248""]"\n'
    )


@pytest.fixture
def orphan(resource: str) -> str:
    """A table that belongs to no resource."""
    found = str(uuid.uuid4())
    place = f"{config.project()}.{config.dataset()}"
    clients.bigquery_rw().query_and_wait(
        f"CREATE TABLE `{place}.{found}` AS SELECT * FROM `{place}.{resource}`"
    )
    return found


def test_tables_without_a_resource_are_purged_and_others_stay(
    cli: Any, resource: str, orphan: str
) -> None:
    call_action("datastore_create", resource_id=resource, aliases=[f"alias-{resource}"])
    client = clients.bigquery_rw()
    said = run(cli, "purge", input="y\n").output
    assert f"Resource '{orphan}' orphaned - queued for drop" in said
    assert f"Table '{orphan}' dropped" in said
    assert resource not in said
    assert get_table(client, orphan) is None
    assert call_action("datastore_search", resource_id=f"alias-{resource}")["total"] == 250
    assert "0 orphaned tables found." in run(cli, "purge").output


@pytest.mark.parametrize("who", ["", "a user"])
def test_only_a_sysadmin_drops_a_table_without_a_resource(orphan: str, who: str) -> None:
    context = {"ignore_auth": False, "user": factories.User()["name"] if who else ""}
    with pytest.raises((tk.NotAuthorized, tk.ObjectNotFound)):
        call_action("datastore_delete", context, resource_id=orphan, force=True)
    assert get_table(clients.bigquery_ro(), orphan) is not None
