"""Under ASGI, when CKAN works on a download's request: a few at a time, and after its pages.

All threads of a process share one interpreter. A crowd that has waited for the same export comes
back at once, and would slow down every page for seconds; a page's visitor notices a tenth of a
second, who has waited a minute does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import anyio


@dataclass(frozen=True)
class Comer:
    """How many seconds a turn may take to come, and in how many of them CKAN's pages go first."""

    seconds: float
    after_pages: float = 0


NEW = Comer(10)
# It comes back by redirect, and would be lost if it were told to come later.
BACK = Comer(40, after_pages=2)
# Its export has ended, or its time. It can be sent back by redirect.
AGAIN = Comer(5, after_pages=2)


class Turns:
    """Of one process, on its event loop.

    :param most: how many downloads CKAN may work on at a time; half of them of those who have
        waited already, whose crowd must not keep others out
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._free_after_pages = asyncio.Semaphore(max(1, most // 2))
        self._pages = 0
        self._no_page = asyncio.Event()
        self._no_page.set()

    @contextmanager
    def page(self) -> Iterator[None]:
        """While CKAN works on anything else."""
        self._pages += 1
        self._no_page.clear()
        try:
            yield
        finally:
            self._pages -= 1
            if not self._pages:
                self._no_page.set()

    @asynccontextmanager
    async def download(self, comer: Comer) -> AsyncIterator[bool]:
        """A turn, or False where none came in time."""
        end = anyio.current_time() + comer.seconds
        queues = [self._free_after_pages] if comer.after_pages else []
        taken: list[asyncio.Semaphore] = []
        try:
            with anyio.CancelScope(deadline=end):
                for queue in [*queues, self._free]:
                    await queue.acquire()
                    taken.append(queue)
            has_turn = len(taken) > len(queues)
            if has_turn and comer.after_pages:
                await self._pages_first(end - comer.seconds + comer.after_pages)
            yield has_turn
        finally:
            for queue in taken:
                queue.release()

    async def _pages_first(self, deadline: float) -> None:
        with suppress(TimeoutError), anyio.CancelScope(deadline=deadline):
            await self._no_page.wait()
