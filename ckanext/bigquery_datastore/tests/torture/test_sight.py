"""Who may see what: every route and action answers as CKAN's own resource would, at that moment."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.tests.torture import sight

pytestmark = [
    pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins", "nothing_remembered"),
    pytest.mark.ckan_config("ckan.auth.allow_dataset_collaborators", "true"),
    pytest.mark.ckan_config("ckan.datastore.sqlsearch.enabled", "true"),
    pytest.mark.ckan_config(config.DUMP_SQL_ENABLED, "true"),
]

SEED = 16
STATES = ("public", "private", "draft", "deleted", "resource deleted")

Cell = tuple[str, str, str]


def stand(house: sight.House, state: str) -> str:
    """A resource of the house in this state, with its table; its id."""
    id = sight.resource(house, state, private=state == "private")
    if state == "draft":
        call_action("package_patch", id=sight.dataset_of(id), state="draft")
    if state == "deleted":
        call_action("package_delete", id=sight.dataset_of(id))
    if state == "resource deleted":
        sight.delete_keeping_the_table(id)
    return id


def in_order(cells: Iterable[Cell]) -> list[Cell]:
    """Reads first, as writes make their files anew; last what ends the table."""
    powers = ["read", "nobody", "change", "drop", "rule"]
    return sorted(
        cells,
        key=lambda cell: (
            sight.ASKS[cell[1]].ends_the_table,
            powers.index(sight.ASKS[cell[1]].power),
            cell,
        ),
    )


def answered(
    app: Any, house: sight.House, cells: Iterable[Cell]
) -> Iterator[tuple[Cell, str, str]]:
    """Each cell of the table: what CKAN decides, and what the extension has answered."""
    for cell in cells:
        state, name, role = cell
        ask, who, id = sight.ASKS[name], house.visitors[role], house.ids[state]
        wanted = sight.decides(ask.power, who, id)
        answer = ask.send(app, id, who.headers)
        found = sight.told(ask, answer)
        if found == sight.SHUT_OUT and sight.is_gone(who):
            # CKAN 2.12 takes a deleted user for a stranger; 2.11 keeps them out of what is public.
            wanted = found
        if wanted == sight.SHUT_OUT and (leaked := sight.leaks(answer)):
            found += f", and told {leaked}"
        yield cell, wanted, found


def counts(rows: list[tuple[Cell, str, str]]) -> str:
    told = Counter(wanted for _, wanted, _ in rows)
    return ", ".join(f"{count} {what}" for what, count in sorted(told.items()))


def wrong(rows: list[tuple[Cell, str, str]]) -> list[str]:
    return [f"{cell}: {found}, not {wanted}" for cell, wanted, found in rows if found != wanted]


def test_every_route_and_every_action_has_its_row(app):
    assert sight.routes(app) == set(sight.ROUTES)
    assert sight.actions() == set(sight.ACTIONS)


def test_each_answer_is_what_ckan_decides(app, ledger, amount, seconds):
    house = sight.house()
    for state in STATES:
        stand(house, state)
    cells = [
        (state, name, role) for state in STATES for name in sight.ASKS for role in house.visitors
    ]
    some = random.Random(SEED).sample(cells, amount(60, min(len(cells), round(seconds(0, 350)))))
    rows = list(answered(app, house, in_order(some)))
    ledger.add("who may see and change what", len(rows), len(wrong(rows)), counts(rows))
    assert not wrong(rows), "\n".join(wrong(rows))


def without(house: sight.House, role: str) -> object:
    boss = {"user": house.user("sysadmin")}
    return call_action(
        "organization_member_delete", boss, id=house.owner, username=house.user(role)
    )


def without_collaborator(house: sight.House, role: str) -> object:
    return call_action(
        "package_collaborator_delete",
        id=sight.dataset_of(house.ids["it"]),
        user_id=house.user(role),
    )


def patched(house: sight.House, **more: Any) -> object:
    return call_action("package_patch", id=sight.dataset_of(house.ids["it"]), **more)


# One after the other, of one dataset.
SWITCHES: dict[str, Callable[[sight.House], object]] = {
    "public": lambda house: None,
    "public to private": lambda house: patched(house, private=True),
    "member removed": lambda house: without(house, "member"),
    "editor removed": lambda house: without(house, "editor"),
    "collaborator removed": lambda house: without_collaborator(house, "collaborator"),
    "user deleted": lambda house: call_action("user_delete", id=house.user("collaborating editor")),
    "private to public": lambda house: patched(house, private=False),
    "organisation deleted": lambda house: call_action("organization_delete", id=house.owner),
    "dataset deleted": lambda house: call_action(
        "package_delete", id=sight.dataset_of(house.ids["it"])
    ),
}


def test_each_answer_is_what_ckan_decides_after_a_switch(app, ledger, amount, seconds):
    house, chosen = sight.house(), random.Random(SEED)
    sight.resource(house, "it")
    names = [name for name, ask in sight.ASKS.items() if not ask.ends_the_table]
    rows: list[tuple[Cell, str, str]] = []
    bad: list[str] = []
    some = amount(6, min(60, round(seconds(0, 25))))
    for switch, make in SWITCHES.items():
        make(house)
        cells = [("it", name, role) for name in names for role in house.visitors]
        found = list(answered(app, house, in_order(chosen.sample(cells, some))))
        rows += found
        bad += [f"{switch}: {line}" for line in wrong(found)]
    ledger.add(f"the same after {len(SWITCHES) - 1} switches", len(rows), len(bad), counts(rows))
    assert not bad, "\n".join(bad)
