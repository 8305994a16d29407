"""Which of the downloads, and of the pages, CKAN works on first under ASGI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from ckanext.bigquery_datastore.asgi.turns import Comer, Turns

NEW, BACK = Comer(30), Comer(30, after_pages=20)


def played(scene: Callable[[Turns, TaskGroup, list[str]], Any], most: int = 2) -> list[str]:
    """Who came on, in a scene that is played on an event loop of its own."""
    came: list[str] = []

    async def play() -> None:
        async with anyio.create_task_group() as tasks:
            await scene(Turns(most), tasks, came)
            tasks.cancel_scope.cancel()

    anyio.run(play)
    return came


async def take(turns: Turns, comer: Comer, came: list[str], name: str) -> None:
    """A turn that lasts until the scene is over."""
    async with turns.download(comer) as has_turn:
        came.append(name if has_turn else f"{name}: none")
        if has_turn:
            await anyio.sleep_forever()


async def nothing_more_happens() -> None:
    await anyio.wait_all_tasks_blocked()


def test_so_many_at_a_time_and_no_more():
    async def scene(turns, tasks, came):
        for name in ("a", "b", "c"):
            tasks.start_soon(take, turns, NEW, came, name)
        await nothing_more_happens()

    assert played(scene) == ["a", "b"]


def test_who_comes_in_vain_is_told_so_and_takes_no_place():
    async def scene(turns, tasks, came):
        async with turns.download(NEW):
            await take(turns, Comer(0.01), came, "a")
        tasks.start_soon(take, turns, NEW, came, "b")
        await nothing_more_happens()

    assert played(scene, most=1) == ["a: none", "b"]


def test_a_crowd_that_has_waited_keeps_nobody_out():
    async def scene(turns, tasks, came):
        for name in ("back 1", "back 2", "back 3"):
            tasks.start_soon(take, turns, BACK, came, name)
        await nothing_more_happens()
        tasks.start_soon(take, turns, NEW, came, "new")
        await nothing_more_happens()

    assert played(scene) == ["back 1", "new"]


def test_pages_go_before_who_has_waited_and_not_before_who_is_new():
    async def scene(turns, tasks, came):
        with turns.page():
            tasks.start_soon(take, turns, BACK, came, "back")
            tasks.start_soon(take, turns, NEW, came, "new")
            await nothing_more_happens()
            with turns.page():
                pass
            await nothing_more_happens()
            came.append("page")
        await nothing_more_happens()

    assert played(scene) == ["new", "page", "back"]


def test_a_site_that_always_works_on_a_page_holds_up_nobody_for_long():
    async def scene(turns, tasks, came):
        with turns.page():
            tasks.start_soon(take, turns, Comer(30, after_pages=0.01), came, "back")
            while not came:
                await anyio.sleep(0.01)

    assert played(scene) == ["back"]


def test_who_leaves_gives_back_its_turn():
    async def scene(turns, tasks, came):
        for comer in (NEW, BACK):
            with anyio.CancelScope() as leaving:
                async with turns.download(comer):
                    leaving.cancel()
                    await anyio.sleep_forever()
        tasks.start_soon(take, turns, BACK, came, "back")
        await nothing_more_happens()

    assert played(scene, most=1) == ["back"]
