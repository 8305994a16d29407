"""The stack itself: what the other tests take for granted."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING

import pytest
from ckan.tests import factories

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from ckanext.bigquery_datastore.tests.conftest import Site


def call(site: Site, action: str, token: str, **data: object) -> dict:
    request = urllib.request.Request(
        f"{site.url}/api/3/action/{action}",
        json.dumps(data).encode(),
        {"Content-Type": "application/json", "Authorization": token},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["result"]


@pytest.mark.usefixtures("clean_db", "clean_index")
def test_core_keeps_its_datastore_in_postgresql_and_dumps_it(core_site: Site) -> None:
    token = factories.SysadminWithToken()["token"]
    owner = call(core_site, "organization_create", token, name="owner")
    dataset = call(core_site, "package_create", token, name="core", owner_org=owner["id"])
    table = call(
        core_site,
        "datastore_create",
        token,
        resource={"package_id": dataset["id"]},
        fields=[{"id": "a", "type": "int"}, {"id": "b", "type": "text"}],
        records=[{"a": 1, "b": "x,y"}],
    )
    url = f"{core_site.url}/datastore/dump/{table['resource_id']}"
    with urllib.request.urlopen(url, timeout=30) as dump:
        assert dump.read() == b'_id,a,b\r\n1,1,"x,y"\n'


@pytest.mark.usefixtures("clean_db", "clean_index")
def test_chromium_opens_a_page_of_the_site(core_site: Site, page: Page) -> None:
    page.goto(core_site.url)
    assert page.title() == "Welcome - CKAN"
