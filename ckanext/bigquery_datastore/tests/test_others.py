"""Other loaders on the same site: held back, said so, and their buttons answered.

With the real ckanext-xloader, listed before ours and behind it.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests
from ckan.lib import jobs
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import config, others

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

OURS = "bigquery_datastore datastore"
TOKEN = pytest.mark.ckan_config("ckanext.xloader.api_token", "a-token")
BOTH_ORDERS = pytest.mark.parametrize(
    "plugins",
    [
        pytest.param(names, marks=pytest.mark.ckan_config("ckan.plugins", names))
        for names in (f"xloader {OURS}", f"{OURS} xloader")
    ],
)


@pytest.fixture(autouse=True)
def empty_queues() -> None:
    for queue in jobs.get_all_queues():
        queue.empty()


def queued() -> list[str]:
    return sorted(
        job.meta["title"].partition(":")[0] if "xloader" in job.func_name else queue.name
        for queue in jobs.get_all_queues()
        for job in queue.jobs
    )


def uploaded(**more: Any) -> dict[str, Any]:
    dataset = factories.Dataset()
    return factories.Resource(
        package_id=dataset["id"], url="http://127.0.0.1:9/a.csv", format="CSV", **more
    )


def said_at_start(caplog: pytest.LogCaptureFixture) -> str:
    """The one sentence that the log has from the start of the site."""
    told = [r.getMessage() for r in caplog.get_records("setup") if r.name == others.__name__]
    assert len(set(told)) == 1
    return told[0]


@TOKEN
@BOTH_ORDERS
def test_xloader_is_held_back_and_its_button_loads_with_ours(
    plugins: str, app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    resource = uploaded()
    assert not any("xloader" in title for title in queued())
    for queue in jobs.get_all_queues():
        queue.empty()
    by_hook = {"ignore_auth": True}
    assert tk.get_action("xloader_submit")(by_hook, {"resource_id": resource["id"]}) is False
    assert not queued()
    sentence = said_at_start(caplog)
    assert sentence.startswith("Plugin xloader is held back")
    assert "ckan.plugins" in sentence and others.WORKER in sentence

    # What a template's button or a script of an editor calls.
    user = factories.UserWithToken()
    owner = factories.Organization(users=[{"name": user["name"], "capacity": "editor"}])
    call_action("package_owner_org_update", id=resource["package_id"], organization_id=owner["id"])
    headers = {"Authorization": user["token"]}
    url = "/api/3/action/xloader_submit"
    answer = app.post(url, json={"resource_id": resource["id"]}, headers=headers)
    assert answer.json["success"] and answer.json["result"] is True
    status = call_action("bigquery_load_status", resource_id=resource["id"])
    assert status["state"] == "waiting"
    assert len(queued()) == 1 and queued()[0].endswith(":bigquery_loads")
    stranger = {"Authorization": factories.UserWithToken()["token"]}
    answer = app.post(url, json={"resource_id": resource["id"]}, headers=stranger)
    assert answer.status_code == 403
    answer = app.post(url, json={}, headers=headers)
    assert answer.status_code == 409 and "resource_id" in answer.json["error"]

    # One tab and one page, whatever link is followed.
    edit = app.get(
        f"/dataset/{resource['package_id']}/resource/{resource['id']}/edit", headers=headers
    )
    assert edit.body.count("/resource_data/") == 0
    assert edit.body.count(f"/datastore/{resource['id']}") == 1
    theirs = app.get(
        f"/dataset/{resource['package_id']}/resource_data/{resource['id']}", headers=headers
    )
    assert "Waiting for a worker" in theirs.body and "Load now" in theirs.body


@TOKEN
@pytest.mark.ckan_config("ckan.plugins", f"{OURS} xloader")
@pytest.mark.ckan_config(config.LOAD_ON_UPLOAD, "false")
def test_xloader_stays_held_back_where_nothing_is_loaded_by_itself() -> None:
    from ckanext.xloader import action

    resource = uploaded()
    assert not queued()
    # Its function, called by its name: it asks, and hears no.
    assert action.xloader_submit({"ignore_auth": True}, {"resource_id": resource["id"]}) is False
    assert not queued()


@pytest.mark.ckan_config("ckan.plugins", f"{OURS} datapusher")
@pytest.mark.ckan_config("ckan.datapusher.url", "http://127.0.0.1:9/")
@pytest.mark.ckan_config("ckan.datapusher.api_token", "a-token")
@pytest.mark.parametrize(
    "loads",
    [
        pytest.param(who, marks=pytest.mark.ckan_config(config.LOAD_ON_UPLOAD, option))
        for option, who in {"true": "ours", "false": "datapusher"}.items()
    ],
)
def test_one_option_says_whether_datapusher_loads_or_we(
    loads: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pushed: list[str] = []

    def post(url: str, data: str, **_: Any) -> Any:
        pushed.append(url)
        answer = requests.Response()
        answer.status_code = 200
        answer._content = b'{"job_id": "1", "job_key": "k"}'
        return answer

    # The boundary: DataPusher is a server of its own.
    monkeypatch.setattr("ckanext.datapusher.logic.action.requests.post", post)
    resource = uploaded()
    wish = {"resource_id": resource["id"]}
    user = factories.Sysadmin()["name"]
    if loads == "ours":
        assert not pushed
        sentence = said_at_start(caplog)
        assert "held back" in sentence and f"{config.LOAD_ON_UPLOAD} = false" in sentence
        assert tk.get_action("datapusher_submit")({"user": user}, wish) is True
        assert not pushed
        state = call_action("bigquery_load_status", **wish)["state"]
        assert state == "waiting"
    else:
        assert pushed == ["http://127.0.0.1:9/job"]
        assert "250 rows a call" in said_at_start(caplog)
        assert not any(name.endswith(":bigquery_loads") for name in queued())
