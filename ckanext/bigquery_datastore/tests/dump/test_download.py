"""On the event loop: what lies between it and a slow reader, and connections opened ahead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from random import Random

import anyio
import pytest

from ckanext.bigquery_datastore.dump.loop import (
    LEAST_READ_BYTES,
    MORE_BYTES,
    SLOW_SECONDS,
    shared_loop,
)
from ckanext.bigquery_datastore.dump.stream import Patience, Source
from ckanext.bigquery_datastore.dump.stream.download import BUFFER, OPEN_AHEAD, Download, Pipe, Put
from ckanext.bigquery_datastore.dump.stream.parts import cut
from ckanext.bigquery_datastore.errors import OutsideError
from ckanext.bigquery_datastore.tests.dump.in_loop import open_in_loop
from ckanext.bigquery_datastore.tests.dump.upstream import Answer, Upstream

PATIENCE = Patience(connect=2, read=5, tries=3, pause=0.01)


def noise(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


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


def test_the_next_object_is_opened_before_the_last_one_ends(upstream: Upstream) -> None:
    first, second = noise(2 * OPEN_AHEAD, 1), noise(1000, 2)
    held = upstream.put("first", first, Answer(hold_after=len(first) - 1))
    parts = [Source(held, len(first), 1), Source(upstream.put("second", second), 1000, 1)]
    with open_in_loop(parts, None, PATIENCE) as stream:
        got = b"".join(next(stream) for _ in range(2))
        assert len(upstream.requests) == 1
        for chunk in stream:
            got += chunk
            if len(got) == len(first) - 1:
                upstream.wait_until(lambda now: len(now.requests) == 2)
                upstream.release()
        assert got == first + second


@pytest.mark.parametrize("second_answer", [Answer(stall_after=500_000), Answer(silent=True)])
@pytest.mark.parametrize("after_chunks", [0, 1])
def test_closing_closes_the_connections_within_a_second(
    upstream: Upstream, after_chunks: int, second_answer: Answer
) -> None:
    first, second = noise(OPEN_AHEAD), noise(OPEN_AHEAD)
    parts = [
        Source(upstream.put("first", first, Answer(stall_after=500_000)), len(first), 1),
        Source(upstream.put("second", second, second_answer), len(second), 1),
    ]
    stream = open_in_loop(parts, None, PATIENCE)
    for _ in range(after_chunks):
        next(stream)
    upstream.wait_until(lambda now: len(now.requests) == 2)
    stream.close()
    upstream.wait_until(lambda now: now.open_connections == 0)
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        next(stream)


def test_who_takes_much_is_given_much_and_who_takes_little_holds_little(upstream: Upstream) -> None:
    data = noise(8 * OPEN_AHEAD)
    parts = [Source(upstream.put("file", data), len(data), 1)]
    taken: list[bytes] = []

    async def put(chunk: bytes) -> None:
        taken.append(chunk)
        if sum(map(len, taken)) > len(data) // 2:
            await anyio.sleep(2 * SLOW_SECONDS)

    loop = shared_loop()
    download = loop.portal.call(Download, loop.client, cut(parts, None), PATIENCE)
    with loop.portal.wrap_async_context_manager(_passing(download, put)):
        loop.portal.call(
            _until, lambda: len(taken) > 3 and max(map(len, taken[-3:])) <= LEAST_READ_BYTES
        )
    first, last = len(taken[0]), len(taken[-1])
    assert first <= LEAST_READ_BYTES + MORE_BYTES and last <= LEAST_READ_BYTES
    assert max(map(len, taken)) > 4 * LEAST_READ_BYTES
    assert data.startswith(b"".join(taken))


@asynccontextmanager
async def _passing(download: Download, put: Put) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(download.pass_on, put)
        yield
        tasks.cancel_scope.cancel()


async def _until(happens: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not happens():
            await anyio.sleep(0.01)


def test_closing_while_a_connection_is_being_made_loses_none(upstream: Upstream) -> None:
    data = noise(OPEN_AHEAD)
    silent = Answer(stall_after=500_000)
    parts = [Source(upstream.put(name, data, silent), len(data), 1) for name in ("one", "two")]
    for _ in range(60):
        stream = open_in_loop(parts, None, PATIENCE)
        # The second connection is accepted here, and perhaps not yet known over there.
        upstream.wait_until(lambda now: now.open_connections == 2)
        stream.close()
        upstream.wait_until(lambda now: now.open_connections == 0)
