"""An editor's uploads in a browser: waiting, loaded, failed, loaded anew; and what others see.

One site, one worker of its own queue, which is started when there is something to wait for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from ckan.lib import jobs
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import compat
from ckanext.bigquery_datastore.loading.steps import QUEUE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from ckanext.bigquery_datastore.tests.conftest import Site

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

TREES = b"name,height\nOak,21\nLinden,18\n"
RAGGED = b"name,height\nOak,21\nLinden,18,and more\n"
BIRDS = "Vogel,größe,seen\nKrähe,0.5,2026-01-01\n".encode()
PASSWORD = "correct horse"
# Of a load, on a machine that does other things too.
PATIENCE_MS = 120_000


@dataclass(frozen=True)
class Office:
    """A dataset, and the editor whose it is."""

    site: Site
    dataset: str
    editor: dict[str, Any]

    def url(self, path: str) -> str:
        return f"{self.site.url}/dataset/{self.dataset}/{path}"

    def post(self, action: str, content: bytes, **fields: str) -> dict[str, Any]:
        """What the action answers to an upload of the editor."""
        answer = requests.post(
            f"{self.site.url}/api/3/action/{action}",
            data=fields,
            files={"upload": ("trees.csv", content)},
            headers={"Authorization": self.editor["token"]},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    def enters(self, context: BrowserContext) -> Page:
        return enters(self.site, context, self.editor["name"])


@pytest.fixture
def office(live_site: Site) -> Office:
    editor = factories.UserWithToken(password=PASSWORD)
    owner = factories.Organization(users=[{"name": editor["name"], "capacity": "editor"}])
    # What tests before this one have uploaded is not to be loaded here.
    jobs.get_queue(QUEUE).empty()
    return Office(live_site, factories.Dataset(owner_org=owner["id"])["name"], editor)


@pytest.fixture
def start_worker(live_site: Site, tmp_path: Path) -> Iterator[Callable[[], None]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        ckan = str(Path(sys.executable).with_name("ckan"))
        # Nothing of ours is for later; the workers of CKAN 2.11 know no other jobs.
        alone = [] if compat.IS_2_11 else ["--no-scheduler"]
        command = [ckan, "-c", str(live_site.ini), "jobs", "worker", *alone, QUEUE]
        with (tmp_path / "worker.log").open("wb") as log:
            env = {**os.environ, "CKAN_INI": str(live_site.ini)}
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=env))

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


def enters(site: Site, context: BrowserContext, name: str) -> Page:
    """A page of somebody who is logged in."""
    page = context.new_page()
    page.goto(f"{site.url}/user/login")
    page.fill("input[name=login]", name)
    page.fill("input[name=password]", PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_url("**/dashboard/**")
    return page


def says(page: Page, text: str) -> None:
    """Wait until the page's status says so."""
    said = page.locator(".bigquery-datastore-load [role=status]")
    said.filter(has_text=text).wait_for(timeout=PATIENCE_MS)


def test_an_editor_sees_an_upload_wait_get_loaded_fail_and_get_loaded_anew(
    office: Office, browser: Browser, start_worker: Callable[[], None], tmp_path: Path
) -> None:
    page = office.enters(browser.new_context(accept_downloads=True))
    file = tmp_path / "trees.csv"
    file.write_bytes(TREES)
    page.goto(f"{office.site.url}/dataset/{office.dataset}/resource/new")
    page.set_input_files("input[type=file]", file)
    page.fill("input[name=name]", "Trees")
    page.locator("button[name=save][value^=go-]").last.click()
    page.get_by_role("link", name="Trees").first.wait_for()
    id = call_action("package_show", id=office.dataset)["resources"][0]["id"]

    # The badge leads to the page, which shows each state without being read anew.
    page.goto(office.url(f"resource/{id}"))
    page.get_by_role("link", name="DataStore: waiting to be loaded").click()
    says(page, "Waiting for a worker")
    tab = page.locator(".nav-tabs .active")
    assert tab.inner_text().strip() == "DataStore"
    assert not page.get_by_role("link", name="Delete from the DataStore").is_visible()
    page.evaluate("window.sameDocument = true")
    start_worker()
    says(page, "Loaded.")
    facts = page.locator(".bigquery-datastore-load-facts").inner_text()
    assert "Rows\n2" in facts and "trees.csv" in facts
    assert "2 rows were loaded." in page.locator("table.bigquery-datastore-load-log").inner_text()
    assert page.get_by_role("link", name="Delete from the DataStore").is_visible()
    assert page.locator("progress").is_hidden()
    assert page.evaluate("window.sameDocument")
    page.goto(office.url(f"resource/{id}"))
    assert page.get_by_text("DataStore:").count() == 0

    # A row that does not fit is named, and the table stays.
    office.post("resource_patch", RAGGED, id=id)
    page.goto(office.url(f"datastore/{id}"))
    says(page, "The last load failed. The table is as it was before.")
    error = page.locator(".alert-danger .bigquery-datastore-load-facts").inner_text()
    assert "Line\n3" in error and "and more" in error
    page.goto(office.url(f"resource/{id}"))
    assert page.get_by_role("link", name="DataStore: the load failed").is_visible()
    found = call_action("datastore_search", resource_id=id)["records"]
    assert [record["name"] for record in found] == ["Oak", "Linden"]

    # Other columns take the place of the old ones, and are what is downloaded.
    office.post("resource_patch", BIRDS, id=id)
    page.goto(office.url(f"datastore/{id}"))
    says(page, "Loaded.")
    page.goto(office.url(f"resource/{id}"))
    menu = page.locator(".bigquery-datastore-menu")
    menu.locator("summary").click()
    with page.expect_download(timeout=PATIENCE_MS) as coming:
        menu.locator("a[data-format='tsv']").click()
    data = Path(coming.value.path()).read_bytes().decode("utf-8-sig")
    assert data == "_id\tVogel\tgröße\tseen\n1\tKrähe\t0.5\t2026-01-01\n"

    page.goto(office.url(f"datastore/{id}"))
    page.locator("[data-load-delete]").click()
    page.get_by_role("button", name="Confirm").click()
    page.get_by_text("The table and its data dictionary have been deleted.").wait_for()
    assert not call_action("resource_show", id=id)["datastore_active"]


def test_without_scripts_an_editor_loads_looks_and_deletes_and_others_see_nothing(
    office: Office, browser: Browser, start_worker: Callable[[], None]
) -> None:
    dataset = call_action("package_show", id=office.dataset)["id"]
    fields = {"package_id": dataset, "name": "Trees", "format": "CSV"}
    id = office.post("resource_create", RAGGED, **fields)["id"]
    start_worker()
    page = office.enters(browser.new_context(java_script_enabled=False))
    page.goto(office.url(f"datastore/{id}"))
    # The page comes anew by itself.
    says(page, "The last load failed. There is no table.")

    stranger = factories.UserWithToken(password=PASSWORD)
    contexts = browser.new_context(), browser.new_context()
    for other in (contexts[0].new_page(), enters(office.site, contexts[1], stranger["name"])):
        other.goto(office.url(f"resource/{id}"))
        assert other.get_by_text("DataStore:").count() == 0
        assert other.locator(f"a[href*='/datastore/{id}']").count() == 0
    token = {"Authorization": stranger["token"]}
    for headers in ({}, token):
        for path in (f"datastore/{id}", f"datastore/{id}/status", f"datastore/{id}/delete"):
            answer = requests.get(office.url(path), headers=headers, timeout=60)
            assert answer.status_code == 403
            assert "Line" not in answer.text
    answer = requests.post(office.url(f"datastore/{id}"), headers=token, timeout=60)
    assert answer.status_code == 403
    call_action("package_patch", id=dataset, private=True)
    assert requests.get(office.url(f"datastore/{id}"), headers=token, timeout=60).status_code == 404

    office.post("resource_patch", TREES, id=id)
    page.get_by_role("button", name="Load now").click()
    page.get_by_text("The file is going to be loaded.").wait_for()
    says(page, "Loaded.")
    page.get_by_role("link", name="Delete from the DataStore").click()
    page.get_by_role("link", name="Cancel").click()
    page.get_by_role("link", name="Delete from the DataStore").click()
    page.get_by_role("button", name="Delete from the DataStore").click()
    page.get_by_text("The table and its data dictionary have been deleted.").wait_for()
    assert not call_action("resource_show", id=id)["datastore_active"]
    assert not page.get_by_role("link", name="Delete from the DataStore").is_visible()
    says(page, "The table has been deleted since the last load.")
