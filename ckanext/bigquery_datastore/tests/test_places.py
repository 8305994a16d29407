"""How many may wait, told from the server; whoever finds no place hears so at once."""

from __future__ import annotations

import sys
import time
import types
from typing import Any

import pytest

from ckanext.bigquery_datastore import config, handover, places, servers
from ckanext.bigquery_datastore.errors import Crowded
from ckanext.bigquery_datastore.handover import Handover
from ckanext.bigquery_datastore.places import Places


def test_a_place_is_taken_once_and_left_once():
    room = Places(lambda: 2)
    one, two = room.take(), room.take()
    with pytest.raises(Crowded):
        room.take()
    one.leave()
    one.leave()
    assert room.taken == 1
    with room.take():
        assert room.taken == 2
    two.leave()
    assert room.taken == 0


def test_a_place_that_is_forgotten_is_left():
    room = Places(lambda: 1)
    place = room.take()
    assert room.taken == 1
    del place
    assert room.taken == 0


def test_nobody_new_gets_the_place_of_who_comes_back_at_once(monkeypatch):
    room = Places(lambda: 1)
    with room.take():
        room.keep()
    assert room.is_full
    with pytest.raises(Crowded):
        room.take()
    with room.take(is_back=True):
        assert room.is_full
    # Kept for one, who has come; and not for ever.
    room.take().leave()
    room.keep()
    now = time.monotonic()
    monkeypatch.setattr(places.time, "monotonic", lambda: now + 3)
    room.take().leave()


class FakeWorker:
    """Stands below a request as gunicorn's does."""

    def __init__(self, threads: int) -> None:
        self.cfg = types.SimpleNamespace(threads=threads)

    def handle(self, environ: dict[str, Any]) -> servers.Server:
        module = {"__name__": "gunicorn.workers.gthread", "of_request": servers.of_request}
        code = compile("def handle(self, environ): return of_request(environ)", "worker", "exec")
        exec(code, module)
        return module["handle"](self, environ)  # type: ignore[operator]


def by_gunicorn(threads: int) -> servers.Server:
    return FakeWorker(threads).handle({"gunicorn.socket": None, "wsgi.multithread": threads > 1})


def test_threads_are_known_of_common_servers(monkeypatch):
    assert by_gunicorn(8).threads == 8
    assert by_gunicorn(1).threads == 1
    asgi = {"asgi.scope": {handover.KEY: Handover()}, "wsgi.multithread": True}
    assert servers.of_request(asgi).threads is None
    assert servers.of_request({"werkzeug.socket": None, "wsgi.multithread": True}).threads == 64
    assert servers.of_request({"wsgi.multithread": True}).threads == 8
    assert servers.of_request({"wsgi.multithread": False}).threads == 1
    uwsgi = types.SimpleNamespace(opt={"threads": b"4", "enable-threads": True})
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    assert servers.of_request({}).threads == 4


@pytest.mark.parametrize(("threads", "most"), [(1, 1), (4, 1), (8, 2), (40, 10), (None, 1024 // 2)])
def test_a_quarter_of_the_threads_may_wait_unless_the_site_says_otherwise(
    monkeypatch, threads, most
):
    monkeypatch.setattr(places, "server", lambda: servers.Server("one", threads))
    monkeypatch.setattr(servers, "open_files", lambda: 1024)
    monkeypatch.setattr(config, "waiting_requests", lambda: None)
    assert places.WAITING.most == most
    monkeypatch.setattr(config, "waiting_requests", lambda: 0)
    with pytest.raises(Crowded):
        places.WAITING.take()
