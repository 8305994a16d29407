"""A link had before the data were taken away is dead within seconds, however they were taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore.tests.torture import sight
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = [
    pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins", "nothing_remembered"),
    pytest.mark.ckan_config("ckan.auth.allow_dataset_collaborators", "true"),
    pytest.mark.ckan_config("ckan.auth.create_unowned_dataset", "true"),
]

FORMATS = ("csv", "parquet")
SECONDS = 5


def patch(house: sight.House, **more: Any) -> object:
    return call_action("package_patch", id=sight.dataset_of(house.ids["it"]), **more)


def remove_member(house: sight.House) -> object:
    boss = {"user": house.user("sysadmin")}
    name = house.user("member")
    return call_action("organization_member_delete", boss, id=house.owner, username=name)


def remove_collaborator(house: sight.House) -> object:
    id, user = sight.dataset_of(house.ids["it"]), house.user("collaborator")
    return call_action("package_collaborator_delete", id=id, user_id=user)


# Whether the dataset is private, who has the link, and what takes the data away.
SWITCHES: dict[str, tuple[bool, str, Callable[[sight.House], object]]] = {
    "made private": (False, "anonymous", lambda house: patch(house, private=True)),
    "made a draft": (False, "anonymous", lambda house: patch(house, state="draft")),
    "resource deleted": (
        False,
        "anonymous",
        lambda house: call_action("resource_delete", id=house.ids["it"]),
    ),
    "dataset deleted": (
        True,
        "member",
        lambda house: call_action("package_delete", id=sight.dataset_of(house.ids["it"])),
    ),
    "member removed": (True, "member", remove_member),
    "collaborator removed": (True, "collaborator", remove_collaborator),
    "user deleted": (
        True,
        "collaborating editor",
        lambda house: call_action("user_delete", id=house.user("collaborating editor")),
    ),
}


def link(app: Any, house: sight.House, role: str, format_: str) -> str:
    query, headers = f"format={format_}", house.visitors[role].headers
    answer = visit(app, house.ids["it"], query, **headers)
    while "_hop=" in (answer.location or ""):
        answer = visit(app, house.ids["it"], query, **headers)
    assert answer.status_code == 302, answer.data
    assert requests.get(answer.location, timeout=20).status_code == 200
    return answer.location


def seconds_alive(url: str) -> float:
    began = time.monotonic()
    while requests.get(url, timeout=20).status_code == 200 and time.monotonic() - began < SECONDS:
        time.sleep(0.2)
    return time.monotonic() - began


def test_a_link_is_dead_within_seconds_of_each_switch(app, ledger, amount):
    house = sight.house()
    tried, alive = 0, []
    chosen = amount(["made private", "member removed", "collaborator removed"], list(SWITCHES))
    for switch in chosen:
        private, role, take = SWITCHES[switch]
        sight.resource(house, "it", private=private)
        links = [link(app, house, role, format_) for format_ in FORMATS]
        take(house)
        tried += len(links)
        alive += [f"{switch}: {url}" for url in links if seconds_alive(url) >= SECONDS]
    ledger.add(
        "links had before a switch",
        tried,
        len(alive),
        f"{len(chosen)} switches, two formats; dead within seconds",
    )
    assert alive == []


def test_who_stays_gets_the_file_again_when_another_member_has_left(app):
    house = sight.house()
    sight.resource(house, "it", private=True)
    link(app, house, "member", "csv")
    remove_member(house)
    link(app, house, "editor", "csv")
    assert visit(app, house.ids["it"], **house.visitors["member"].headers).status_code == 404
