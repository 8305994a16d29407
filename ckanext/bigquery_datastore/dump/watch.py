"""Exports that somebody waits for: each is looked at once for all of them, in the process's loop.

A watch is made by the first who waits and ends with the export, or when nobody waits any more.
Its looks, which are calls to Google, and the joining at the end are done by a few threads of the
loop's own: who waits under WSGI holds a worker, and does nothing in it; under ASGI, not even that.
Exports for who finds no place to wait are begun here, too, one after the other.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from functools import partial

import anyio
from cachetools import TTLCache

from ckanext.bigquery_datastore.dump.engine import Engine
from ckanext.bigquery_datastore.dump.loop import in_thread
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.state import ASSEMBLE, RUNNING, Ready, Running
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError, NotReachable

# Between two looks at a job: it may be short, and most are not. So a part of the time that it has
# been waited for, in seconds.
_SHARE, _SHORTEST, _LONGEST = 1 / 10, 0.05, 2.5

# What Cloud Storage has for a file at the end of an export. Nobody's worker is held meanwhile.
_JOINING_SECONDS = 60

_watches: dict[str, _Watch] = {}

# Exports that nobody can wait for, begun one after the other: what a crowd wants is begun while its
# other requests are answered. How that failed is told to who comes back within some seconds.
_MOST_UNWAITED, _FAILED_SECONDS = 1000, 15
_unwaited: dict[str, tuple[Engine, DumpPlan]] = {}
_failed: TTLCache[str, BigQueryDatastoreError] = TTLCache(_MOST_UNWAITED, _FAILED_SECONDS)
_beginners: set[asyncio.Task[None]] = set()

# A process that forks leaves its loop, and so its watches, to the parent.
for _known in (_watches, _unwaited, _failed, _beginners):
    os.register_at_fork(after_in_child=_known.clear)


def seen(plan: DumpPlan) -> Running | None:
    """How far the export was a moment ago; None where nobody waits for it."""
    watch = _watches.get(plan.target)
    return watch.state if watch and isinstance(watch.state, Running) else None


async def wait(engine: Engine, plan: DumpPlan, state: Running, seconds: float) -> Ready | Running:
    """The file of an export that was last seen as ``state``, or how far it is after ``seconds``.

    :raises BigQueryDatastoreError: the export failed
    """
    watch = begin(engine, plan, state)
    watch.waiting += 1
    try:
        with anyio.move_on_after(seconds):
            await watch.ended.wait()
    finally:
        watch.waiting -= 1
    return watch.result()


def begin(engine: Engine, plan: DumpPlan, state: Running) -> _Watch:
    """Have the next step done, and those after it as long as somebody waits. In the loop."""
    watch = _watches.get(plan.target)
    if watch is None:
        watch = _watches[plan.target] = _Watch(engine, plan, state)
        watch.task = asyncio.create_task(watch.run())
    return watch


def begin_unwaited(engine: Engine, plan: DumpPlan, state: Running) -> None:
    """Have an export begun when it is its turn, for who cannot wait, and comes back. In the loop.

    :raises BigQueryDatastoreError: that was done a moment ago, and failed
    """
    if err := _failed.get(plan.target):
        raise err.with_traceback(None)
    RUNNING.put(plan.target, state)
    if len(_unwaited) < _MOST_UNWAITED:
        _unwaited.setdefault(plan.target, (engine, plan))
    if not _beginners:
        _beginners.add(task := asyncio.create_task(_begin_one_by_one()))
        task.add_done_callback(_beginners.discard)


async def _begin_one_by_one() -> None:
    while _unwaited:
        target, (engine, plan) = next(iter(_unwaited.items()))
        try:
            # Somebody may have come meanwhile who can wait, and has begun it.
            if target not in _watches:
                await _begin_one(engine, plan)
        finally:
            del _unwaited[target]


async def _begin_one(engine: Engine, plan: DumpPlan) -> None:
    try:
        state = await in_thread(partial(engine.begin, plan))
    except BigQueryDatastoreError as err:
        _failed[plan.target] = err
        return
    if isinstance(state, Running):
        RUNNING.put(plan.target, state)
        if state.phase == ASSEMBLE:
            begin(engine, plan, state)


class _Watch:
    def __init__(self, engine: Engine, plan: DumpPlan, state: Running) -> None:
        self.state: Ready | Running = state
        self.waiting = 0
        self.ended = anyio.Event()
        self.task: asyncio.Task[None] | None = None
        self._engine = engine
        self._plan = plan
        self._error: BigQueryDatastoreError | None = None

    async def run(self) -> None:
        """Look until the end."""
        self._error = NotReachable("The site was interrupted while it prepared the file.")
        try:
            await self._look_on()
            self._error = None
        except BigQueryDatastoreError as err:
            self._error = err
        finally:
            del _watches[self._plan.target]
            self.ended.set()

    async def _look_on(self) -> None:
        began, is_first = anyio.current_time(), True
        while isinstance(state := self.state, Running):
            if not is_first:
                pause = (anyio.current_time() - began) * _SHARE
                await anyio.sleep(min(max(pause, _SHORTEST), _LONGEST))
                if not self.waiting:
                    return
            self.state = await in_thread(
                partial(self._engine.look_again, self._plan, state, _JOINING_SECONDS)
            )
            is_first = False

    def result(self) -> Ready | Running:
        """For one of those who wait. A file that was published just now is new to one of them."""
        if self.ended.is_set() and self._error is not None:
            # One failure for all: each adds to a traceback of its own.
            raise self._error.with_traceback(None)
        state = self.state
        if isinstance(state, Ready):
            self.state = replace(state, cached=True)
        return state
