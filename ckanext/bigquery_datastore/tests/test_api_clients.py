"""Programs that fill a DataStore table over HTTP, in the steps that DataPusher and others take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from ckan.tests import factories

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

FIELDS = [
    {"id": "station", "type": "text", "info": {"label": "Station"}},
    {"id": "count", "type": "numeric"},
    {"id": "at", "type": "date"},
]
CHUNKS = 4
CHUNK = 250  # DataPusher's

Call = Callable[..., Any]


@pytest.fixture
def editor() -> dict[str, Any]:
    """A dataset of an organisation, and the token of an editor of it."""
    user = factories.User()
    owner = factories.Organization(users=[{"name": user["name"], "capacity": "editor"}])
    dataset = factories.Dataset(owner_org=owner["id"])
    token = str(factories.APIToken(user=user["name"])["token"])
    return {"dataset": dataset, "token": token}


@pytest.fixture
def call(live_site: Any, editor: dict[str, Any]) -> Call:
    """An action of the site, called as DataPusher does: JSON, and a token in the header."""

    def call(action: str, *, status: int = 200, **data: Any) -> Any:
        answer = requests.post(
            f"{live_site.url}/api/3/action/{action}",
            json=data,
            headers={"Authorization": editor["token"]},
            timeout=60,
        )
        assert answer.status_code == status, answer.text
        return answer.json()["result" if status == 200 else "error"]

    return call


def chunks(offset: int) -> Iterator[list[dict[str, Any]]]:
    for first in range(0, CHUNKS * CHUNK, CHUNK):
        yield [
            {"station": f"Straße {n}", "count": f"{n + offset}.5", "at": "2024-05-06"}
            for n in range(first, first + CHUNK)
        ]


def fill_by_upsert(call: Call, resource_id: str, offset: int) -> None:
    call("datastore_create", resource_id=resource_id, fields=FIELDS, force=True)
    for records in chunks(offset):
        call(
            "datastore_upsert",
            resource_id=resource_id,
            records=records,
            method="insert",
            force=True,
            calculate_record_count=records[-1]["station"] == f"Straße {CHUNKS * CHUNK - 1}",
        )


def fill_by_create(call: Call, resource_id: str, offset: int) -> None:
    for records in chunks(offset):
        call(
            "datastore_create",
            resource_id=resource_id,
            fields=FIELDS,
            records=records,
            force=True,
            calculate_record_count=records[-1]["station"] == f"Straße {CHUNKS * CHUNK - 1}",
        )


@pytest.mark.parametrize("fill", [fill_by_upsert, fill_by_create])
def test_a_table_is_pushed_in_chunks_and_pushed_again(
    live_site: Any, editor: dict[str, Any], call: Call, fill: Callable[[Call, str, int], None]
) -> None:
    resource = call(
        "resource_create",
        package_id=editor["dataset"]["id"],
        url="https://example.com/counts.csv",
        format="CSV",
    )
    id = resource["id"]
    assert not resource["datastore_active"]
    for offset in (0, 1000):
        if offset:
            call("datastore_delete", resource_id=id, force=True)
            assert not call("resource_show", id=id)["datastore_active"]
        call("datastore_search", status=404, resource_id=id, limit=0)
        fill(call, id, offset)
        assert call("resource_show", id=id)["datastore_active"]
        found = call(
            "datastore_search",
            resource_id=id,
            fields="_id,station,count",
            limit=1,
            sort="_id desc",
        )
        assert found["total"] == CHUNKS * CHUNK
        assert found["records"] == [{"_id": 1000, "station": "Straße 999", "count": 999.5 + offset}]
        download = requests.get(f"{live_site.url}/datastore/dump/{id}", timeout=60)
        lines = download.content.decode().splitlines()
        assert lines[0] == "_id,station,count,at"
        assert lines[1:] == [f"{n + 1},Straße {n},{n + offset}.5,2024-05-06" for n in range(1000)]


def test_a_table_of_ckans_own_is_made_with_its_resource_and_is_its_file(
    live_site: Any, editor: dict[str, Any], call: Call
) -> None:
    made = call(
        "datastore_create",
        resource={"package_id": editor["dataset"]["id"], "name": "Counts", "format": "csv"},
        fields=FIELDS,
        primary_key=["station"],
        records=[{"station": "a", "count": 1, "at": None}],
    )
    resource = call("resource_show", id=made["resource_id"])
    assert (resource["url_type"], resource["datastore_active"]) == ("datastore", True)
    assert resource["url"] == f"{live_site.url}/datastore/dump/{resource['id']}"
    # It is the DataStore's: nobody needs to force anything.
    call(
        "datastore_upsert",
        resource_id=resource["id"],
        records=[{"station": "a", "count": 2}, {"station": "b", "count": 3}],
    )
    head = "_id,station,count,at\n"
    assert requests.get(resource["url"], timeout=60).text.startswith(f"{head}1,a,2,\n")
    call("datastore_delete", resource_id=resource["id"], filters={"station": "a"})
    data = requests.get(resource["url"], timeout=60).text
    assert data.startswith(head)
    assert [line.split(",", 1)[1] for line in data.splitlines()[1:]] == ["b,3,"]
    call("datastore_delete", resource_id=resource["id"])
    assert requests.get(resource["url"], timeout=60).status_code == 404


def test_a_table_that_a_program_filled_is_not_changed_by_mistake(
    editor: dict[str, Any], call: Call
) -> None:
    resource = call(
        "resource_create", package_id=editor["dataset"]["id"], url="https://example.com/counts.csv"
    )
    call("datastore_create", resource_id=resource["id"], fields=FIELDS, force=True)
    for action in ("datastore_upsert", "datastore_create", "datastore_delete"):
        error = call(action, status=409, resource_id=resource["id"])
        assert "read-only" in error


def test_a_stranger_writes_nothing(live_site: Any, editor: dict[str, Any], call: Call) -> None:
    made = call(
        "datastore_create",
        resource={"package_id": editor["dataset"]["id"]},
        fields=FIELDS,
        records=[{"station": "a"}],
    )
    records = {"records": [{"station": "b"}]}
    for action, data in (
        ("datastore_upsert", records),
        ("datastore_create", records),
        ("datastore_delete", {}),
    ):
        answer = requests.post(
            f"{live_site.url}/api/3/action/{action}",
            json={"resource_id": made["resource_id"], **data},
            timeout=60,
        )
        assert answer.status_code == 403
    assert call("datastore_search", resource_id=made["resource_id"])["total"] == 1
