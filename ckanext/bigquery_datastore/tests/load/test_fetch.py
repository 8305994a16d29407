"""Files of linked resources: fetched from the internet, and from nowhere else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load.faults import Unchanged
from ckanext.bigquery_datastore.loading import fetch

PRIVATE = [
    *(
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
    ),
    *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::"),
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_inside_a_network_is_none_of_the_internet(address: str) -> None:
    assert not fetch.is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_one(address: str) -> None:
    assert fetch.is_public(address)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append(self.headers["Host"])  # type: ignore[attr-defined]
        where = {
            "/away": "http://10.0.0.1/x.csv",
            "/file": "file:///etc/passwd",
            "/ftp": "ftp://localhost/x.csv",
            "/loop": "/loop",
            "/here": "/x.csv",
            "/metadata": "http://169.254.169.254/computeMetadata/v1/",
        }.get(self.path)
        if where:
            self.send_response(302)
            self.send_header("Location", where)
            self.end_headers()
        elif self.path == "/missing":
            self.send_error(404)
        elif self.headers["If-None-Match"] == '"1"':
            self.send_response(304)
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "100" if self.path == "/cut" else "4")
            self.send_header("Content-Disposition", 'attachment; filename="named.csv"')
            self.end_headers()
            self.wfile.write(b"a\n1\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.seen = []  # type: ignore[attr-defined]
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()


ALLOWED = {"localhost"}


def url(server: ThreadingHTTPServer, path: str, host: str = "localhost") -> str:
    return f"http://{host}:{server.server_address[1]}{path}"


def test_a_file_of_an_allowed_host_with_what_its_server_tells(server: ThreadingHTTPServer) -> None:
    for path in ("/x.csv", "/here"):
        with fetch.opened(url(server, path), None, ALLOWED) as answer:
            assert answer.stream.read() == b"a\n1\n"
            told = answer.told
        assert (answer.size, answer.name, told) == (4, "named.csv", {"etag": '"1"'})
    with pytest.raises(Unchanged), fetch.opened(url(server, "/x.csv"), told, ALLOWED):
        pass


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/away", "10.0.0.1 has no public address"),
        ("/metadata", "169.254.169.254 has no public address"),
        ("/file", "no http or https address"),
        ("/ftp", "no http or https address"),
        ("/loop", "redirects more than 5 times"),
        ("/missing", "answers 404"),
    ],
)
def test_a_redirect_leads_nowhere_else(server: ThreadingHTTPServer, path: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words), fetch.opened(url(server, path), None, ALLOWED):
        pass


def test_an_answer_that_breaks_off_is_no_file(server: ThreadingHTTPServer) -> None:
    with (
        pytest.raises(BadRequest, match="the connection broke"),
        fetch.opened(url(server, "/cut"), None, ALLOWED) as answer,
    ):
        while answer.stream.read(10):
            pass


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "127.1", "0x7f000001", "2130706433", "[::1]", "[::ffff:7f00:1]"],
)
def test_nothing_on_this_machine_is_asked(server: ThreadingHTTPServer, host: str) -> None:
    before = len(server.seen)  # type: ignore[attr-defined]
    with pytest.raises(BadRequest), fetch.opened(url(server, "/x.csv", host)):
        pass
    assert len(server.seen) == before  # type: ignore[attr-defined]


def test_a_name_that_means_another_address_a_moment_later_gains_nothing(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is resolved once, and the connection goes to what was checked."""
    asked: list[str] = []
    original = socket.getaddrinfo

    def rebound(host: str, *rest: object, **named: object) -> object:
        asked.append(host)
        if host != "rebind.example":
            return original(host, *rest, **named)  # type: ignore[arg-type]
        place = "127.0.0.1" if asked.count(host) > 1 else "192.0.2.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, 80))]

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    monkeypatch.setattr(fetch, "is_public", lambda text: text == "192.0.2.1")
    monkeypatch.setattr(fetch, "CONNECT_SECONDS", 0.2)
    before = len(server.seen)  # type: ignore[attr-defined]
    with (
        pytest.raises(BadRequest, match=r"rebind\.example does not give the file"),
        fetch.opened(url(server, "/x.csv", "rebind.example")),
    ):
        pass
    assert asked.count("rebind.example") == 1
    assert len(server.seen) == before  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "bad",
    [
        "http://a:b@example.org/",
        "http://[",
        "javascript:1",
        "//x",
        "http://:80/",
        "http://x:99999/",
    ],
)
def test_what_is_no_plain_address_is_refused(bad: str) -> None:
    with pytest.raises(BadRequest), fetch.opened(bad):
        pass
