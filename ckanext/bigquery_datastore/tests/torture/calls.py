"""Processes whose calls to the outside are numbered, and that any of them can kill.

    python -m ckanext.bigquery_datastore.tests.torture.calls INI

is a CKAN that does what it is told by lines of JSON on its standard input, each in a process of its
own, forked off, and tells by a line of JSON what became of it. With ``"at": n`` that process kills
itself as hard as can be before its n-th call, or after it (``"when"``); with ``"seconds"`` it is
killed from outside after so long. Calls are counted where HTTP leaves the process, whichever
library makes them (``numbered``). What can be wished for is in ``wishes``.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEFORE, AFTER = "before", "after"
_NUMBER = struct.Struct("Q")

# What a process answers is told by one write to a pipe, which no other can break into.
_MOST = 3000


@dataclass(frozen=True)
class Outcome:
    """What became of a wish: what it gave, or why it could not; or whether it was killed."""

    killed: bool
    calls: int
    seconds: float
    result: Any = None
    error: str = ""


def numbered(seen: mmap.mmap, at: int | None = None, when: str = BEFORE) -> None:
    """Count the calls of this process in ``seen``; with ``at``, die at that one.

    Google's clients, Solr's and whatever uses requests meet in urllib3; streams use httpx.
    """
    import httpx
    import urllib3

    lock = threading.Lock()

    def count() -> int:
        with lock:
            number = _NUMBER.unpack_from(seen)[0] + 1
            _NUMBER.pack_into(seen, 0, number)
        if (number, BEFORE) == (at, when):
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def is_over(number: int) -> None:
        if (number, AFTER) == (at, when):
            os.kill(os.getpid(), signal.SIGKILL)

    send = urllib3.HTTPConnectionPool.urlopen
    send_async = httpx.AsyncHTTPTransport.handle_async_request

    def urlopen(*args: Any, **named: Any) -> Any:
        number = count()
        answer = send(*args, **named)
        is_over(number)
        return answer

    async def handle_async_request(*args: Any, **named: Any) -> Any:
        number = count()
        answer = await send_async(*args, **named)
        is_over(number)
        return answer

    urllib3.HTTPConnectionPool.urlopen = urlopen  # type: ignore[method-assign]
    httpx.AsyncHTTPTransport.handle_async_request = handle_async_request  # type: ignore


# --- the side of who wishes


class Workers:
    """A CKAN that does each wish in a process of its own; any number of them at once."""

    def __init__(self, ini: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name if __spec__ else __name__, str(ini)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._lock = threading.Lock()
        self._asked: dict[int, Future[Outcome]] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def do(self, wish: str, **order: Any) -> Outcome:
        """Have it done, or ended on its way."""
        answer: Future[Outcome] = Future()
        with self._lock:
            number = len(self._asked)
            self._asked[number] = answer
            assert self._process.stdin is not None
            print(json.dumps({"number": number, "wish": wish, **order}), file=self._process.stdin)
            self._process.stdin.flush()
        return answer.result(180)

    def done(self, wish: str, **order: Any) -> Any:
        """The same of what nobody disturbs; what it gives."""
        outcome = self.do(wish, **order)
        assert not outcome.error, outcome.error
        return outcome.result

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                told = json.loads(line)
                self._asked[told.pop("number")].set_result(Outcome(**told))


# --- the side of the processes


def serve(wishes: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> None:
    """Do what is told by lines on the standard input, until it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer themselves
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            order = json.loads(line)
            told = json.dumps({"number": order["number"], **_watched(order, wishes)})
            os.write(1, told.encode() + b"\n")
            os._exit(0)


def _watched(order: Mapping[str, Any], wishes: Mapping[str, Any]) -> dict[str, Any]:
    """What became of a process that does as ordered."""
    import time

    seen = mmap.mmap(-1, _NUMBER.size)
    read, write = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.write(write, json.dumps(_told(order, wishes, seen)).encode())
        os._exit(0)
    os.close(write)
    with _handle(child) as handle:
        if not select.select([handle], [], [], order.get("seconds"))[0]:
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return {
        "killed": os.waitstatus_to_exitcode(status) == -signal.SIGKILL,
        "calls": _NUMBER.unpack_from(seen)[0],
        "seconds": time.monotonic() - began,
        **json.loads(os.read(read, 4 * _MOST) or "{}"),
    }


@contextmanager
def _handle(child: int) -> Iterator[int]:
    handle = os.pidfd_open(child)
    yield handle
    os.close(handle)


def _told(order: Mapping[str, Any], wishes: Mapping[str, Any], seen: mmap.mmap) -> dict[str, Any]:
    numbered(seen, order.get("at"), order.get("when", BEFORE))
    try:
        return {"result": wishes[order["wish"]](order)}
    except Exception as err:  # noqa: BLE001
        told = f"{type(err).__name__}: {err}"
        return {"error": f"{told[:500]}\n{traceback.format_exc()[-2000:]}"}


if __name__ == "__main__":
    from ckanext.bigquery_datastore.tests.torture.wishes import started

    serve(started(sys.argv[1]))
