"""The front of an ASGI server, with a stand-in for CKAN and a storage that misbehaves."""

from __future__ import annotations

import datetime as dt
import http.client
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from werkzeug import Request, Response

from ckanext.bigquery_datastore import config, handover
from ckanext.bigquery_datastore.asgi import front, waits
from ckanext.bigquery_datastore.asgi.front import Front
from ckanext.bigquery_datastore.asgi.turns import Comer
from ckanext.bigquery_datastore.dump import watch
from ckanext.bigquery_datastore.dump.state import EXPORT, Ready, Running
from ckanext.bigquery_datastore.dump.stream import ByteRange, Inline, Part, Patience, Source
from ckanext.bigquery_datastore.handover import HEADER, Handover, Streamed, Wait
from ckanext.bigquery_datastore.places import Places
from ckanext.bigquery_datastore.tests.dump.upstream import Answer, Upstream
from ckanext.bigquery_datastore.web import answers

PATIENCE = Patience(connect=2, read=5, tries=2, pause=0.01)
DATA = Random(0).randbytes(3_000_000)


class Portal:
    """Leaves every download to the front; tells a failure that comes back from it in words."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.span: ByteRange | None = None
        self.rewrite: Any = None
        self.headers: dict[str, str] = {}
        self.places = Places(lambda: 1)
        self.wait: Any = None
        self.asked = 0
        self.turns, self.go_on = threading.Semaphore(0), threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        handed = handover.of(environ)
        assert isinstance(handed, Handover)
        response = Response("a page", headers=self.headers)
        if request.path == "/file":
            response = self._file(handed)
        if request.path == "/datastore/dump/slow":
            self.turns.release()
            assert self.go_on.wait(20)
        if request.path in ("/export", "/datastore/dump/export"):
            response = self._export(handed)
        if request.path == "/replaced":
            # What a middleware may do with CKAN's answer.
            self._file(handed)
        return response(environ, start_response)

    def _export(self, handed: Handover) -> Response:
        self.asked += 1
        if handed._outcome:
            return Response("ready")
        response = Response("not yet", 302, {"Location": "/again?_hop=1", **self.headers})
        response.headers.update(handed.leave(self.wait, self.places.take()))
        return response

    def await_free_place(self) -> None:
        """The server may be a moment behind its client."""
        end = time.monotonic() + 5
        while self.places.taken:
            assert time.monotonic() < end
            time.sleep(0.01)

    def _file(self, handed: Handover) -> Response:
        if handed._outcome:
            return Response(str(handed._outcome[1]), 502)
        work = Streamed("data", self.parts, self.span, PATIENCE, self.rewrite)
        response = Response(content_type="text/csv", headers={"ETag": '"7"'})
        response.headers.update(handed.leave(work, self.places.take()))
        return response


@pytest.fixture
def portal() -> Portal:
    return Portal()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def server(portal: Portal) -> Iterator[uvicorn.Server]:
    settings = uvicorn.Config(Front(portal), port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def client(server: uvicorn.Server) -> Iterator[http.client.HTTPConnection]:
    port = server.servers[0].sockets[0].getsockname()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    yield connection
    connection.close()


def get(client: http.client.HTTPConnection, path: str, **headers: str) -> http.client.HTTPResponse:
    client.request("GET", path, headers=headers)
    return client.getresponse()


def test_a_file_comes_whole_with_ckans_headers(portal, upstream, client):
    portal.parts = [Inline(b"head"), Source(upstream.put("a", DATA), len(DATA), 1)]
    answer = get(client, "/file")
    assert (answer.status, answer.read()) == (200, b"head" + DATA)
    assert (answer.headers["ETag"], answer.headers[HEADER]) == ('"7"', None)
    # On the same connection, and the place is free again.
    portal.span = ByteRange(2, 9)
    assert get(client, "/file").read() == b"ad" + DATA[:6]


def test_rows_are_rewritten_on_their_way(portal, upstream, client):
    portal.parts = [Source(upstream.put("a", DATA), len(DATA), 1)]
    portal.rewrite = lambda chunks: (bytes(reversed(chunk)) for chunk in chunks)
    answer = get(client, "/file")
    assert sorted(answer.read()) == sorted(DATA)


@pytest.mark.parametrize("rewrite", [None, lambda chunks: (b"x" for _ in chunks)])
def test_a_refusal_before_the_first_byte_is_ckans_to_tell(portal, upstream, client, rewrite):
    portal.parts = [Inline(b"head"), Source(upstream.put("a", b"", Answer(status=404)), 3, 1)]
    portal.rewrite = rewrite
    answer = get(client, "/file")
    assert (answer.status, b"any more" in answer.read()) == (502, True)
    portal.await_free_place()


@pytest.mark.parametrize("rewrite", [None, lambda chunks: (chunk.upper() for chunk in chunks)])
def test_a_failure_in_mid_stream_breaks_the_clients_connection(portal, upstream, client, rewrite):
    url = upstream.put("a", DATA, Answer(drop_after=2_000_000), Answer(status=404))
    portal.parts = [Source(url, len(DATA), 1)]
    portal.rewrite = rewrite
    answer = get(client, "/file")
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    portal.await_free_place()


@pytest.mark.parametrize("rewrite", [None, lambda chunks: chunks])
def test_a_client_who_leaves_releases_connection_and_place(portal, upstream, client, rewrite):
    stalled = Answer(stall_after=1_000_000)
    portal.parts = [Source(upstream.put("a", DATA, stalled), len(DATA), 1)]
    portal.rewrite = rewrite
    answer = get(client, "/file")
    assert len(answer.read(1000)) == 1000
    answer.close()
    client.close()
    upstream.wait_until(lambda now: now.open_connections == 0)
    portal.await_free_place()


def test_a_server_that_ends_breaks_what_is_not_whole(portal, upstream, server, client):
    portal.parts = [Source(upstream.put("a", DATA, Answer(stall_after=9)), len(DATA), 1)]
    answer = get(client, "/file")
    server.should_exit = True
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    upstream.wait_until(lambda now: now.open_connections == 0)


RUNNING = Running(EXPORT, None, dt.datetime.now(dt.timezone.utc))


@dataclass(frozen=True)
class Export:
    """An engine whose export is always as far as this."""

    state: Ready | Running
    before: Callable[[], object] = bool

    def look_again(self, *_: Any) -> Ready | Running:
        self.before()
        return self.state


@pytest.mark.parametrize(
    ("found", "answer", "asked"),
    [
        # As CKAN has said before the wait: it is not asked for each of a crowd, again and again.
        (RUNNING, (302, b"not yet", "/again?_hop=1"), 1),
        (Ready(()), (200, b"ready", None), 2),
    ],
)
def test_ckan_is_asked_again_where_there_is_news(portal, client, found, answer, asked):
    engine, plan = Export(found), SimpleNamespace(target=uuid.uuid4().hex)
    portal.wait = Wait(engine, plan, RUNNING, 0.2)  # type: ignore[arg-type]
    told = get(client, "/export")
    assert (told.status, told.read(), told.headers["Location"]) == answer
    assert told.headers[HEADER] is None
    assert portal.asked == asked
    portal.await_free_place()


def test_a_header_that_is_not_of_this_request_hands_nothing_over(portal, upstream, client):
    portal.parts = [Source(upstream.put("a", DATA), len(DATA), 1)]
    portal.headers = {HEADER: "made up"}
    for path in ("/page", "/replaced"):
        answer = get(client, path, **{HEADER: "made up"})
        assert (answer.status, answer.read(), answer.headers[HEADER]) == (200, b"a page", None)
    assert upstream.requests == []
    portal.await_free_place()


def begun_slowly(portal, server, threads: ThreadPoolExecutor, count: int) -> list[Any]:
    """So many downloads that CKAN works on until the portal lets them go on."""
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/datastore/dump/slow"
    slow = [threads.submit(urllib.request.urlopen, url, timeout=20) for _ in range(count)]
    for _ in slow:
        assert portal.turns.acquire(timeout=10)
    return slow


def test_who_gets_no_turn_in_time_is_told_to_come_again_and_pages_are_answered(
    portal, server, client, monkeypatch
):
    """As where Google is so slow that downloads have all the threads they may have."""
    monkeypatch.setattr(front, "NEW", Comer(0.2))
    with ThreadPoolExecutor(2) as threads:
        # A quarter of CKAN's eight threads.
        slow = begun_slowly(portal, server, threads, 2)
        answer = get(client, "/datastore/dump/slow")
        told = answer.read()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
        assert b"curl --retry" in told
        assert get(client, "/").read() == b"a page"
        portal.go_on.set()
        assert [one.result().status for one in slow] == [200, 200]
    assert get(client, "/datastore/dump/slow").status == 200


def test_who_has_come_back_waits_longer_for_a_turn(portal, server, client, monkeypatch):
    """A plain curl that was let in and sent round would be lost by a 503."""
    monkeypatch.setattr(front, "NEW", Comer(0.2))
    with ThreadPoolExecutor(3) as threads:
        slow = begun_slowly(portal, server, threads, 2)
        back = threads.submit(get, client, "/datastore/dump/x?_hop=1")
        with pytest.raises(TimeoutError):
            back.result(0.6)
        portal.go_on.set()
        assert back.result(20).status == 200
        assert [one.result().status for one in slow] == [200, 200]


def test_who_has_waited_and_gets_no_turn_is_sent_round_as_ckan_has_said(
    portal, server, client, monkeypatch
):
    """Its file is there: it comes back for it, and is not told that there is none."""
    monkeypatch.setattr(front, "AGAIN", Comer(0.2))
    with ThreadPoolExecutor(2) as threads:
        slow: list[Any] = []
        begin = partial(begun_slowly, portal, server, threads, 2)
        engine = Export(Ready(()), lambda: slow.extend(begin()))
        plan = SimpleNamespace(target=uuid.uuid4().hex)
        portal.wait = Wait(engine, plan, RUNNING, 5)  # type: ignore[arg-type]
        told = get(client, "/datastore/dump/export")
        assert (told.status, told.read(), told.headers["Location"]) == (
            302,
            b"not yet",
            "/again?_hop=1",
        )
        portal.go_on.set()
        assert [one.result().status for one in slow] == [200, 200]
    assert portal.asked == 1
    portal.await_free_place()


@dataclass
class Lasting:
    """An engine whose export runs until it is told to end, on an event loop of its own."""

    ended: bool = False

    def look_again(self, _: object, state: Running, __: object) -> Ready | Running:
        return Ready(()) if self.ended else state


@pytest.fixture
def lasting(portal, server, monkeypatch) -> Iterator[Lasting]:
    """An export that runs, and somebody who waits for it all the while."""
    monkeypatch.setattr(answers, "wait_without_thread", lambda: 0.2)
    monkeypatch.setattr(config, "waiting_requests", lambda: 5)
    portal.places = Places(lambda: 2)
    port = server.servers[0].sockets[0].getsockname()[1]
    export = Lasting()
    plan = SimpleNamespace(target=uuid.uuid4().hex)
    portal.wait = Wait(export, plan, RUNNING, 20)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as threads:
        url = f"http://127.0.0.1:{port}/datastore/dump/export?else=1"
        stays = threads.submit(urllib.request.urlopen, url, timeout=30)
        end = time.monotonic() + 10
        while watch.seen(plan) is None:  # type: ignore[arg-type]
            assert time.monotonic() < end
            time.sleep(0.01)
        portal.wait = replace(portal.wait, seconds=0.2)
        yield export
        export.ended = True
        assert stays.result().read() == b"ready"
    portal.await_free_place()


PATH = "/datastore/dump/export?format=csv"


def sent_round(portal, client, path: str, **headers: str) -> tuple[int, str | None, int]:
    """Status, where to, and how often CKAN was asked for it."""
    asked = portal.asked
    told = get(client, path, **headers)
    told.read()
    return told.status, told.headers["Location"], portal.asked - asked


def test_who_comes_back_waits_on_without_ckan_which_tells_of_the_end(portal, client, lasting):
    assert sent_round(portal, client, PATH, Cookie="a") == (302, "/again?_hop=1", 1)
    for hop in (1, 2):
        told = sent_round(portal, client, f"{PATH}&_hop={hop}", Cookie="a")
        assert told == (302, f"/again?_hop={hop + 1}", 0)
    lasting.ended = True
    status, _, asked = sent_round(portal, client, f"{PATH}&_hop=3", Cookie="a")
    # Of the other who waits, too.
    assert (status, asked >= 1) == (200, True)


@pytest.mark.parametrize(
    ("path", "cookie"),
    [
        # What is not the same request, or does not come back, or has come back too often.
        (f"{PATH}&_hop=1", "b"),
        (f"{PATH}&q=1&_hop=1", "a"),
        (f"{PATH}&_hop=1&q=1", "a"),
        (PATH, "a"),
        (f"{PATH}&_hop=0", "a"),
        (f"{PATH}&_hop=8", "a"),
    ],
)
def test_ckan_decides_of_any_other_request(portal, client, lasting, path, cookie):
    assert sent_round(portal, client, PATH, Cookie="a") == (302, "/again?_hop=1", 1)
    assert sent_round(portal, client, path, Cookie=cookie)[2] == 1


def test_ckan_decides_again_after_a_while(portal, client, lasting, monkeypatch):
    monkeypatch.setattr(waits, "SECONDS", 0)
    assert sent_round(portal, client, PATH) == (302, "/again?_hop=1", 1)
    assert sent_round(portal, client, f"{PATH}&_hop=1")[2] == 1


def test_a_cookie_of_one_client_is_given_to_no_other(portal, client, lasting):
    portal.headers = {"Set-Cookie": "session=1"}
    assert sent_round(portal, client, PATH)[2] == 1
    assert sent_round(portal, client, f"{PATH}&_hop=1")[2] == 1


def test_the_way_of_a_request_makes_it_no_other(portal, client, lasting):
    """Behind a proxy each of a crowd has an address of its own."""
    first, second = ({"X-Forwarded-For": f"192.0.2.{n}"} for n in (1, 2))
    assert sent_round(portal, client, PATH, **first)[2] == 1
    assert sent_round(portal, client, f"{PATH}&_hop=1", **second)[2] == 0
