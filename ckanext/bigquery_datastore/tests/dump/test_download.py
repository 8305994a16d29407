"""What lies between the event loop and a visitor who reads slowly."""

from __future__ import annotations

import anyio
import pytest

from ckanext.bigquery_datastore.dump.stream.download import BUFFER, Pipe
from ckanext.bigquery_datastore.errors import OutsideError


def test_a_full_pipe_takes_nothing_until_it_is_emptied() -> None:
    async def scene() -> None:
        pipe = Pipe()
        await pipe.put(b"a" * (BUFFER - 1))
        await pipe.put(b"bb")
        with pytest.raises(TimeoutError), anyio.fail_after(0.05):
            await pipe.put(b"c")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipe.put, b"d")
            assert await pipe.take() == [b"a" * (BUFFER - 1), b"bb"]
            assert await pipe.take() == [b"d"]

    anyio.run(scene)


def test_a_pipe_gives_out_its_chunks_before_its_error() -> None:
    async def scene() -> None:
        pipe = Pipe()
        await pipe.put(b"a")
        pipe.finish(OutsideError("broken"))
        assert await pipe.take() == [b"a"]
        with pytest.raises(OutsideError, match="broken"):
            await pipe.take()

    anyio.run(scene)


def test_a_pipe_that_was_finished_ends_for_whoever_waits() -> None:
    async def scene() -> None:
        pipe = Pipe()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_finish_later, pipe)
            assert await pipe.take() == []
        assert await pipe.take() == []

    anyio.run(scene)


async def _finish_later(pipe: Pipe) -> None:
    await anyio.lowlevel.checkpoint()
    pipe.finish(None)
