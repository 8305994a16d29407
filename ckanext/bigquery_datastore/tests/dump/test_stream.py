"""One file out of many objects, while it streams: whole, or not at all."""

from __future__ import annotations

import http.client
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.serving import WSGIRequestHandler, make_server

from ckanext.bigquery_datastore.dump import loop
from ckanext.bigquery_datastore.dump.stream import (
    ByteRange,
    Inline,
    Part,
    Patience,
    Source,
    Stream,
    open_stream,
)
from ckanext.bigquery_datastore.errors import NotReachable, OutsideError, PermissionMissing
from ckanext.bigquery_datastore.tests.dump.in_loop import open_in_loop
from ckanext.bigquery_datastore.tests.dump.upstream import Answer, Upstream

PATIENCE = Patience(connect=2, read=5, tries=3, pause=0.01)
HURRIED = Patience(connect=1, read=0.2, tries=2, pause=0.01)


@pytest.fixture(params=["direct", "in the loop"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As a WSGI worker reads, and as the event loop does."""
    if request.param == "in the loop":
        monkeypatch.setattr(sys.modules[__name__], "open_stream", open_in_loop)
    return request.param


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def lasting_upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


def noise(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


def read(parts: list[Part], span: ByteRange | None = None, patience: Patience = PATIENCE) -> bytes:
    with open_stream(parts, span, patience) as stream:
        data = b"".join(stream)
        assert stream.length in (None, len(data))
    return data


# ── whole files and ranges ────────────────────────────────────────────────────


def test_parts_come_out_in_their_order_as_one_file(upstream: Upstream) -> None:
    shards = [noise(size, size) for size in (300_000, 1, 0, 65_536, 1_500_000)]
    sources = [
        Source(upstream.put(f"part-{i}", data), len(data), 1) for i, data in enumerate(shards)
    ]
    assert read([Inline(b"a,b\r\n"), *sources]) == b"a,b\r\n" + b"".join(shards)


def test_an_object_of_no_bytes_is_not_asked_for(upstream: Upstream) -> None:
    empty = Source(upstream.put("empty", b""), 0, 1)
    assert read([empty, Inline(b"x"), Inline(b""), empty]) == b"x"
    assert upstream.requests == []


def test_objects_of_unknown_size_come_out_whole_and_without_a_length(upstream: Upstream) -> None:
    counted, chunked = noise(200_000, 1), noise(200_000, 2)
    parts = [
        Source(upstream.put("counted", counted)),
        Source(upstream.put("chunked", chunked, Answer(framing="chunked"))),
        Source(upstream.put("empty", b"", Answer(framing="chunked"))),
    ]
    with open_stream(parts, None, PATIENCE) as stream:
        assert stream.length is None
        assert b"".join(stream) == counted + chunked


def test_a_range_of_parts_of_unknown_size_is_refused(upstream: Upstream) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        open_stream([Source(upstream.put("a", b"abc"))], ByteRange(0, 1), PATIENCE)


def test_a_range_asks_only_for_the_bytes_it_needs(upstream: Upstream) -> None:
    one, two, three = noise(1000, 1), noise(1000, 2), noise(1000, 3)
    parts = [
        Source(upstream.put(name, data), 1000, 1)
        for name, data in (("one", one), ("two", two), ("three", three))
    ]
    assert read([Inline(b"head"), *parts], ByteRange(1002, 2103)) == one[998:] + two + three[:100]
    assert [(r.target.split("/")[2][:3], r.range) for r in upstream.requests] == [
        ("one", "bytes=998-999"),
        ("two", None),
        ("thr", "bytes=0-99"),
    ]


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.tuples(st.booleans(), st.integers(0, 200)), min_size=1, max_size=6),
    data=st.data(),
)
def test_any_range_of_any_parts_is_the_slice_of_the_file(
    lasting_upstream: Upstream, sizes: list[tuple[bool, int]], data: st.DataObject
) -> None:
    shards = [noise(size, i) for i, (_, size) in enumerate(sizes)]
    parts: list[Part] = [
        Inline(shard)
        if inline
        else Source(lasting_upstream.put(f"shard-{i}", shard), len(shard), 1)
        for i, ((inline, _), shard) in enumerate(zip(sizes, shards, strict=True))
    ]
    whole = b"".join(shards)
    assert read(parts) == whole
    if whole:
        first = data.draw(st.integers(0, len(whole) - 1))
        last = data.draw(st.integers(first, len(whole) - 1))
        assert read(parts, ByteRange(first, last)) == whole[first : last + 1]


def test_the_signed_url_reaches_the_storage_as_it_was_signed(upstream: Upstream) -> None:
    upstream.put("a%2Bb%20c/~d%3D", b"abc")
    query = "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a%40b%2Fauto%2F&x=%2B+%7E~&e="
    target = f"/bucket/a%2Bb%20c/~d%3D?{query}"
    source = Source(f"http://127.0.0.1:{upstream.port}{target}", 3, 1, {"x-goog-signed": "yes"})
    assert read([source]) == b"abc"
    assert upstream.requests[0].target == target
    assert upstream.requests[0].headers["x-goog-signed"] == "yes"
    assert upstream.requests[0].headers["accept-encoding"] == "identity"


def test_a_proxy_of_the_environment_is_asked_and_told_who_asks(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    # The loop's client is made once, and has read its environment.
    if way == "in the loop":
        monkeypatch.setattr(loop, "_home", loop._Home())
    monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{upstream.port}")
    upstream.put("a", b"abc")
    assert read([Source("http://storage.invalid/bucket/a?X-Goog-Signature=5ec4e7", 3, 1)]) == b"abc"
    (request,) = upstream.requests
    assert request.target == "http://storage.invalid/bucket/a?X-Goog-Signature=5ec4e7"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"


# ── connections that break ────────────────────────────────────────────────────


def test_a_broken_connection_is_resumed_where_it_broke(upstream: Upstream) -> None:
    data = noise(500_000)
    url = upstream.put("a", data, Answer(drop_after=100_000), Answer(drop_after=50_000), Answer())
    assert read([Inline(b"head"), Source(url, len(data), 1)]) == b"head" + data
    assert [r.range for r in upstream.requests] == [
        None,
        "bytes=100000-499999",
        "bytes=150000-499999",
    ]


def test_a_range_that_breaks_is_resumed_within_its_bounds(upstream: Upstream) -> None:
    data = noise(500_000)
    url = upstream.put("a", data, Answer(drop_after=1000), Answer())
    assert read([Source(url, len(data), 1)], ByteRange(200, 400_000)) == data[200:400_001]
    assert [r.range for r in upstream.requests] == ["bytes=200-400000", "bytes=1200-400000"]


def test_a_chunked_answer_that_breaks_is_resumed_to_its_end(upstream: Upstream) -> None:
    data = noise(300_000)
    url = upstream.put("a", data, Answer(framing="chunked", drop_after=65_536), Answer())
    assert read([Source(url)]) == data
    assert [r.range for r in upstream.requests] == [None, "bytes=65536-"]


def test_a_stalled_connection_is_given_up_and_resumed(upstream: Upstream) -> None:
    data = noise(300_000)
    url = upstream.put("a", data, Answer(stall_after=100_000), Answer())
    assert read([Source(url, len(data), 1)], patience=HURRIED) == data
    assert upstream.requests[1].range == "bytes=100000-299999"


def test_a_break_before_the_first_byte_costs_nothing(upstream: Upstream) -> None:
    data = noise(1000)
    url = upstream.put("a", data, Answer(drop_after=0), Answer(status=503), Answer())
    assert read([Source(url, len(data), 1)]) == data
    assert [r.range for r in upstream.requests] == [None, None, None]


def test_bytes_of_another_generation_are_never_mixed_in(upstream: Upstream) -> None:
    data = noise(500_000)
    url = upstream.put("a", data, Answer(drop_after=200_000), Answer(generation=2))
    stream = open_stream([Source(url, len(data), 1)], None, PATIENCE)
    got = b""
    with pytest.raises(OutsideError, match="replaced"):
        for chunk in stream:
            got += chunk
    assert got == data[:200_000]


def test_a_generation_that_was_not_known_before_is_held_on_to(upstream: Upstream) -> None:
    data = noise(500_000)
    url = upstream.put("a", data, Answer(drop_after=9), Answer(generation=2))
    with pytest.raises(OutsideError, match="replaced"):
        read([Source(url, len(data))])


def test_a_strong_etag_stands_in_for_a_generation(upstream: Upstream) -> None:
    data = noise(1000)

    def tagged(tag: str, drop_after: int | None = None) -> Answer:
        return Answer(generation=None, headers=(("ETag", tag),), drop_after=drop_after)

    same = upstream.put("same", data, tagged('"1"', 500), tagged('"1"'))
    other = upstream.put("other", data, tagged('"1"', 500), tagged('"2"'))
    weak = upstream.put("weak", data, tagged('W/"1"', 500), tagged('W/"1"'))
    assert read([Source(same, 1000)]) == data
    with pytest.raises(OutsideError, match="replaced"):
        read([Source(other, 1000)])
    with pytest.raises(OutsideError, match="same version"):
        read([Source(weak, 1000)])


def test_tries_are_bounded_however_the_storage_fails(upstream: Upstream) -> None:
    data = noise(500_000)
    url = upstream.put("a", data, Answer(drop_after=100_000), Answer(drop_after=10))
    with pytest.raises(NotReachable):
        read([Source(url, len(data), 1)])
    assert len(upstream.requests) == PATIENCE.tries


def test_a_connection_that_brought_much_is_no_failed_try(upstream: Upstream) -> None:
    data = noise(8 * 1024 * 1024)
    url = upstream.put("a", data, Answer(drop_after=1200 * 1024))
    assert read([Source(url, len(data), 1)]) == data
    assert len(upstream.requests) == 7 > PATIENCE.tries


# ── refusals ──────────────────────────────────────────────────────────────────

ACCESS_DENIED = b"<Error><Code>AccessDenied</Code><StringToSign>5ec4e7</StringToSign></Error>"


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (Answer(status=403, body=ACCESS_DENIED), PermissionMissing, "storage.objects.get"),
        (Answer(status=401), PermissionMissing, "HTTP 401"),
        (Answer(status=404), OutsideError, "not in the export bucket any more"),
        (Answer(status=412), OutsideError, "not in the export bucket any more"),
        (Answer(status=301), OutsideError, "HTTP 301"),
        (Answer(status=429), NotReachable, "try again later"),
        (Answer(status=500), NotReachable, "try again later"),
        (Answer(status=503), NotReachable, "try again later"),
        (Answer(stall_after=0), NotReachable, "try again later"),
        (Answer(drop_after=0), NotReachable, "try again later"),
        (Answer(silent=True), NotReachable, "try again later"),
        (Answer(generation=2), OutsideError, "replaced"),
        (Answer(generation=None), OutsideError, "replaced"),
        (
            Answer(framing="chunked", headers=(("Content-Encoding", "gzip"),)),
            OutsideError,
            "Encoding",
        ),
    ],
)
def test_a_refusal_surfaces_before_the_first_byte(
    upstream: Upstream, answer: Answer, kind: type[OutsideError], message: str
) -> None:
    url = upstream.put("a", b"abc", answer)
    with pytest.raises(OutsideError, match=message) as caught:
        open_stream([Inline(b"head"), Source(url, 3, 1)], None, HURRIED)
    assert type(caught.value) is kind
    assert "5ec4e7" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_a_storage_that_cannot_be_reached_is_said_so_soon() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/bucket/a?X-Goog-Signature=5ec4e7"
        started = time.monotonic()
        with pytest.raises(NotReachable) as caught:
            open_stream([Source(url, 3)], None, PATIENCE)
    assert time.monotonic() - started < PATIENCE.tries * PATIENCE.connect
    assert "5ec4e7" not in str(caught.value)


def test_the_first_byte_is_not_waited_for_longer_than_allowed(upstream: Upstream) -> None:
    url = upstream.put("a", b"abc", Answer(silent=True))
    started = time.monotonic()
    with pytest.raises(NotReachable):
        open_stream([Source(url, 3, 1)], None, Patience(connect=5, read=30, first_byte=0.2))
    assert time.monotonic() - started < 5
    upstream.wait_until(lambda now: now.open_connections == 0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(ignores_range=True), "HTTP 200"),
        (Answer(shifted=1), "other bytes"),
    ],
)
def test_other_bytes_than_asked_for_are_refused(
    upstream: Upstream, answer: Answer, message: str
) -> None:
    url = upstream.put("a", noise(1000), answer)
    with pytest.raises(OutsideError, match=message):
        open_stream([Source(url, 1000, 1)], ByteRange(10, 20), PATIENCE)


@pytest.mark.parametrize("size", [999, 1001])
def test_an_object_of_another_size_than_listed_is_refused(upstream: Upstream, size: int) -> None:
    url = upstream.put("a", noise(1000))
    with pytest.raises(OutsideError, match=f"should have {size} bytes"):
        open_stream([Source(url, size, 1)], None, PATIENCE)


def test_an_object_of_another_size_is_noticed_without_a_length(upstream: Upstream) -> None:
    long = upstream.put("long", noise(1001), Answer(framing="chunked"))
    short = upstream.put("short", noise(999), Answer(framing="chunked"))
    with pytest.raises(OutsideError, match="more bytes"):
        read([Source(long, 1000, 1)])
    with pytest.raises(OutsideError):
        read([Source(short, 1000, 1)])


def test_a_body_that_just_ends_with_the_connection_is_refused(upstream: Upstream) -> None:
    url = upstream.put("a", noise(1000), Answer(framing="none"))
    with pytest.raises(OutsideError, match="how long"):
        open_stream([Source(url)], None, PATIENCE)


def test_a_later_object_that_is_gone_fails_in_its_turn(upstream: Upstream) -> None:
    first = noise(300_000)
    url = upstream.put("first", first)
    gone = url.replace("first", "gone")
    stream = open_stream([Source(url, len(first), 1), Source(gone, 5, 1)], None, PATIENCE)
    got = b""
    with pytest.raises(OutsideError, match="any more"):
        for chunk in stream:
            got += chunk
    assert got == first


def test_a_log_of_requests_shows_no_signature(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    data = noise(1000)
    assert read([Source(upstream.put("a", data, Answer(drop_after=9), Answer()), 1000, 1)]) == data
    assert f"http://127.0.0.1:{upstream.port}/bucket/a" in caplog.text
    assert "5ec4e7" not in caplog.text
    assert "5ec4e7" not in repr(Source("http://h/b/o?X-Goog-Signature=5ec4e7"))


# ── what is open, and for how long ────────────────────────────────────────────


@pytest.mark.parametrize("after_chunks", [0, 1])
def test_closing_closes_the_connection_within_a_second(
    upstream: Upstream, after_chunks: int
) -> None:
    data = noise(1_000_000)
    url = upstream.put("a", data, Answer(stall_after=500_000))
    stream = open_stream([Source(url, len(data), 1), Inline(b"more")], None, PATIENCE)
    for _ in range(after_chunks):
        next(stream)
    stream.close()
    upstream.wait_until(lambda now: now.open_connections == 0)
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        next(stream)


def test_closing_while_the_storage_is_silent_does_not_wait_for_it(upstream: Upstream) -> None:
    data = noise(1000)
    stream = open_stream(
        [Source(upstream.put("a", data, Answer(stall_after=10)), 1000, 1)], None, PATIENCE
    )
    assert next(stream) == data[:10]
    outcome: list[type[Exception]] = []

    def wait_for_more() -> None:
        try:
            next(stream)
        except (OutsideError, ValueError) as err:
            outcome.append(type(err))

    reader = threading.Thread(target=wait_for_more, daemon=True)
    reader.start()
    stream.close()
    upstream.wait_until(lambda now: now.open_connections == 0)
    reader.join(1)
    assert outcome in ([OutsideError], [ValueError])


def test_closing_a_rewritten_stream_closes_the_connection(upstream: Upstream) -> None:
    data = noise(1000)

    def open_one() -> Stream:
        source = Source(upstream.put("a", data, Answer(stall_after=500)), 1000, 1)
        return open_stream([source], None, PATIENCE).rewritten(lambda lines: (x for x in lines))

    unread, read_a_little = open_one(), open_one()
    assert next(read_a_little) == data[:500]
    assert unread.length is None
    unread.close()
    read_a_little.close()
    upstream.wait_until(lambda now: now.open_connections == 0)


def test_a_connection_is_used_again_for_the_next_download(upstream: Upstream) -> None:
    data = noise(100_000)
    source = Source(upstream.put("a", data), len(data), 1)
    for _ in range(5):
        assert read([source]) == data
    assert upstream.connections == 1


# ── behind a WSGI server ──────────────────────────────────────────────────────


class _Http11(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture
def serve() -> Iterator[object]:
    servers = []

    def start(stream: Stream) -> http.client.HTTPConnection:
        def app(environ: object, start_response: object) -> Stream:
            headers = [("Content-Type", "text/csv")]
            if stream.length is not None:
                headers.append(("Content-Length", str(stream.length)))
            start_response("200 OK", headers)  # type: ignore[operator]
            return stream

        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Http11)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("known_length", [True, False])
def test_a_failure_in_mid_stream_breaks_the_visitors_connection(
    upstream: Upstream, serve: object, known_length: bool
) -> None:
    data = noise(500_000)
    url = upstream.put("a", data, Answer(drop_after=200_000), Answer(status=404))
    stream = open_stream([Source(url, len(data) if known_length else None, 1)], None, PATIENCE)
    visitor = serve(stream)  # type: ignore[operator]
    visitor.request("GET", "/")
    answer = visitor.getresponse()
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


def test_a_visitor_who_leaves_releases_the_storages_connection(
    upstream: Upstream, serve: object
) -> None:
    data = noise(64 * 1024 * 1024)
    stream = open_stream([Source(upstream.put("a", data), len(data), 1)], None, PATIENCE)
    visitor = serve(stream)  # type: ignore[operator]
    visitor.request("GET", "/")
    answer = visitor.getresponse()
    assert answer.read(1000) == data[:1000]
    answer.close()
    visitor.close()
    upstream.wait_until(lambda now: now.open_connections == 0)
