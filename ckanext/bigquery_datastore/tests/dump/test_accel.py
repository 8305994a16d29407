"""Debian's nginx fetches the file for the visitor: the configuration of the README, at work."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random

import pytest
import requests
from ckan.tests import factories
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2 import service_account
from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler, make_server

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.dump.accel import accel_headers, accel_path
from ckanext.bigquery_datastore.dump.stream.ranges import ByteRange, parse_range, range_applies
from ckanext.bigquery_datastore.tests.conftest import STACK, Sites
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.dump.upstream import Answer, Upstream

DATA = Random(0).randbytes(3_000_000)
MODIFIED = datetime(2026, 8, 1, 12, tzinfo=timezone.utc)
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
CONFIGURATION = Path(__file__).with_name("nginx.conf")


@dataclass
class Portal:
    """A stand-in for CKAN that answers every download with an order for nginx."""

    url: str = ""
    redirect_to: str | None = None
    seen: list[str] = field(default_factory=list)

    def __call__(self, environ: object, start_response: object) -> object:
        request = Request(environ)  # type: ignore[arg-type]
        self.seen.append(request.path)
        if not request.path.startswith("/datastore/dump/"):
            return Response("no such page", 404)(environ, start_response)  # type: ignore[arg-type]
        response = Response(content_type="text/csv; charset=utf-8")
        response.headers["Content-Disposition"] = 'attachment; filename="a.csv"'
        response.headers["Cache-Control"] = "no-store"
        response.headers["Set-Cookie"] = "ckan=1"
        response.headers["ETag"] = '"revision-7"'
        response.last_modified = MODIFIED
        applies = range_applies(request.headers.get("If-Range"), '"revision-7"', MODIFIED)
        asked = parse_range(request.headers.get("Range") if applies else None, len(DATA))
        response.headers.update(accel_headers(self.url, asked.span))
        if self.redirect_to is not None:
            response.headers["X-Accel-Redirect"] = self.redirect_to
        return response(environ, start_response)  # type: ignore[arg-type]


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture
def portal() -> Iterator[tuple[Portal, int]]:
    portal = Portal()
    server = make_server("127.0.0.1", 0, portal, threaded=True, request_handler=_Quiet)  # type: ignore[arg-type]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield portal, server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


# From the storage's address, and perhaps the port of another portal than the stand-in.
Start = Callable[..., str]


@pytest.fixture
def nginx(portal: tuple[Portal, int], tmp_path: Path) -> Iterator[Start]:
    """Start nginx with the documented configuration for a storage at ``http://host:port``."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(storage_url: str, portal_port: int = portal[1]) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        text = CONFIGURATION.read_text()
        for old, new in {
            "127.0.0.1:8080": address,
            "127.0.0.1:5000": f"127.0.0.1:{portal_port}",
            "https://storage.googleapis.com": storage_url,
            r"https/storage\.googleapis\.com": storage_url.replace("://", "/").replace(".", r"\."),
        }.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "nginx.conf").write_text(text)
        command = [NGINX, "-p", str(tmp_path), "-c", "nginx.conf"]
        with (tmp_path / "log").open("wb") as log:
            processes.append(subprocess.Popen(command, stderr=log))
        _await(address, processes[-1], tmp_path / "log")
        return f"http://{address}"

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, port = address.split(":")
    for _ in range(200):
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, int(port))) == 0:
                return
        threading.Event().wait(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture
def signed_url() -> Iterator[str]:
    """An object in the stack's Cloud Storage, behind a URL that Google's client signed."""
    endpoint = os.environ["STORAGE_EMULATOR_HOST"]
    key = service_account.Credentials.from_service_account_file(STACK / "credentials.json")
    client = storage.Client(
        project="local",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": endpoint},
    )
    bucket = client.create_bucket(f"accel-{uuid.uuid4().hex}")
    blob = bucket.blob("dumps/a b+c=d/é/data.csv")
    blob.upload_from_string(DATA, content_type="application/octet-stream")
    yield blob.generate_signed_url(
        version="v4",
        expiration=timedelta(minutes=5),
        api_access_endpoint=endpoint,
        credentials=key,
        response_disposition='attachment; filename="é.csv"',
    )
    blob.delete()
    bucket.delete()


# ── the path ──────────────────────────────────────────────────────────────────


def test_the_internal_path_holds_the_signed_url_unchanged() -> None:
    url = "https://storage.googleapis.com/b/dumps/a%2Bb%20c/data.csv?X-Goog-Date=1&x=%2F%25"
    assert accel_path(url) == (
        "/_bigquery_export/https/storage.googleapis.com"
        "/b/dumps/a%252Bb%2520c/data.csv?X-Goog-Date=1&x=%2F%25"
    )
    assert accel_headers(url, None) == {"X-Accel-Redirect": accel_path(url)}
    assert accel_headers(url, ByteRange(5, 9))["X-Bigquery-Range"] == "bytes=5-9"


def test_nginx_accepts_the_configuration_as_it_is_documented(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = CONFIGURATION.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    (tmp_path / "nginx.conf").write_text(text)
    checked = subprocess.run(
        [NGINX, "-t", "-p", str(tmp_path), "-c", "nginx.conf"],
        stderr=subprocess.PIPE,
        check=False,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr


# ── nginx, and a storage that looks at what reaches it ────────────────────────


def test_the_storage_gets_the_url_as_signed_and_nothing_of_the_visitors(
    portal: tuple[Portal, int], nginx: Start, upstream: Upstream
) -> None:
    upstream.put("a%2Bb%20c%C3%A9/~d", DATA)
    origin = f"http://127.0.0.1:{upstream.port}"
    target = "/bucket/a%2Bb%20c%C3%A9/~d?X-Goog-Signature=5ec4e7&x=%2F+%25~&y="
    portal[0].url = origin + target
    site = nginx(origin)
    answer = requests.get(
        f"{site}/datastore/dump/1?bom=true",
        headers={
            "Authorization": "token",
            "Cookie": "ckan=1",
            "If-None-Match": '"x"',
            "If-Modified-Since": "Sat, 01 Aug 2026 12:00:00 GMT",
            "X-Goog-User-Project": "p",
            "Range": "bytes=0-9,20-29",
        },
        timeout=10,
    )
    assert (answer.status_code, answer.content) == (200, DATA)
    (request,) = upstream.requests
    assert request.target == target
    assert request.headers == {
        "host": f"127.0.0.1:{upstream.port}",
        "accept-encoding": "identity",
    }


def test_the_visitor_gets_ckans_headers_and_none_of_the_storages(
    portal: tuple[Portal, int], nginx: Start, upstream: Upstream
) -> None:
    told = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": "attachment; filename=data.csv",
        "Cache-Control": "public, max-age=3600",
        "Expires": "Sat, 01 Aug 2026 12:00:00 GMT",
        "Set-Cookie": "storage=1",
        "Alt-Svc": 'h3=":443"',
        "ETag": '"CKih16GjycICEAE="',
        "Last-Modified": "Sat, 01 Aug 2026 12:30:00 GMT",
        "X-GUploader-UploadID": "x",
        "x-goog-metageneration": "1",
        "x-goog-storage-class": "STANDARD",
        "x-goog-stored-content-encoding": "identity",
        "x-goog-stored-content-length": "3000000",
        "x-goog-hash": "crc32c=8P9ykg==",
        "Accept-Ranges": "bytes",
    }
    portal[0].url = upstream.put("a", DATA, Answer(headers=tuple(told.items())))
    answer = requests.get(
        f"{nginx(f'http://127.0.0.1:{upstream.port}')}/datastore/dump/1",
        headers={"Accept-Encoding": "gzip"},
        timeout=10,
    )
    assert answer.content == DATA
    headers = {k.lower(): v for k, v in answer.raw.headers.items()}
    for ours in ("date", "server", "connection"):
        headers.pop(ours)
    assert headers == {
        "content-type": "text/csv; charset=utf-8",
        "content-disposition": 'attachment; filename="a.csv"',
        "content-length": "3000000",
        "cache-control": "no-store",
        "set-cookie": "ckan=1",
        "etag": '"revision-7"',
        "last-modified": "Sat, 01 Aug 2026 12:00:00 GMT",
        "accept-ranges": "bytes",
        "x-goog-hash": "crc32c=8P9ykg==",
    }


@pytest.mark.parametrize("status", [302, 400, 403, 404, 429, 503])
def test_a_refusal_of_the_storage_is_a_503_that_shows_no_signature(
    portal: tuple[Portal, int], nginx: Start, upstream: Upstream, status: int
) -> None:
    refusal = Answer(status=status, body=b"5ec4e7", headers=(("Location", "http://x/?5ec4e7"),))
    portal[0].url = upstream.put("a", DATA, refusal)
    answer = requests.get(
        f"{nginx(f'http://127.0.0.1:{upstream.port}')}/datastore/dump/1",
        timeout=10,
        allow_redirects=False,
    )
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "10"
    assert answer.text == "The file is not available at the moment. Please try again.\n"
    assert "5ec4e7" not in str(answer.headers)


# ── nginx and the real client's signed URL ────────────────────────────────────


def test_a_file_comes_whole_and_by_range_through_nginx(
    portal: tuple[Portal, int], nginx: Start, signed_url: str
) -> None:
    portal[0].url = signed_url
    url = f"{nginx(os.environ['STORAGE_EMULATOR_HOST'])}/datastore/dump/1"

    def get(**headers: str) -> tuple[int, bytes, str | None]:
        answer = requests.get(url, headers=headers, timeout=10)
        return answer.status_code, answer.content, answer.headers.get("Content-Range")

    assert get() == (200, DATA, None)
    part = (206, DATA[1000:2001], "bytes 1000-2000/3000000")
    assert get(Range="bytes=1000-2000") == part
    assert get(Range="bytes=1000-2000", **{"If-Range": '"revision-7"'}) == part
    assert get(Range="bytes=1000-2000", **{"If-Range": '"revision-6"'}) == (200, DATA, None)
    assert get(Range="bytes=-5") == (206, DATA[-5:], "bytes 2999995-2999999/3000000")
    head = requests.head(url, timeout=10)
    assert (head.status_code, head.headers["Content-Length"]) == (200, "3000000")
    assert head.headers["Content-Disposition"] == 'attachment; filename="a.csv"'


# ── outsiders ─────────────────────────────────────────────────────────────────


def test_a_visitor_cannot_ask_for_the_internal_location(
    portal: tuple[Portal, int], nginx: Start, upstream: Upstream
) -> None:
    portal[0].url = upstream.put("a", DATA)
    host = f"127.0.0.1:{upstream.port}"
    address = nginx(f"http://{host}").removeprefix("http://")
    for path in (
        f"/_bigquery_export/http/{host}/bucket/a",
        f"//_bigquery_export/http/{host}/bucket/a",
        f"/x/../_bigquery_export/http/{host}/bucket/a",
        f"/%5Fbigquery_export/http/{host}/bucket/a",
        f"/_bigquery_export%2Fhttp/{host}/bucket/a",
        f"/_bigquery_export/http/{host}%2Fbucket/a",
        "/_bigquery_export/",
    ):
        assert _raw_status(address, path) == 404, path
    assert upstream.requests == []


def _raw_status(address: str, path: str) -> int:
    """The status of a GET whose path no client library has tidied up."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        return int(connection.makefile("rb").readline().split()[1])


def test_no_other_host_can_be_reached_whatever_ckan_answers(
    portal: tuple[Portal, int], nginx: Start, upstream: Upstream
) -> None:
    upstream.put("a", DATA)
    with Upstream() as other:
        other.put("a", DATA)
        site = nginx(f"http://127.0.0.1:{upstream.port}")
        ours, theirs = f"127.0.0.1:{upstream.port}", f"127.0.0.1:{other.port}"
        for path in (
            f"/_bigquery_export/http/{theirs}/bucket/a",
            f"/_bigquery_export/https/{ours}/bucket/a",
            f"/_bigquery_export/http/{ours}@{theirs}/bucket/a",
            f"/_bigquery_export/http/{ours}.example.org/bucket/a",
            f"/_bigquery_export/http/{ours}",
            f"/_bigquery_export/http/{ours}/../{theirs}/bucket/a",
        ):
            portal[0].redirect_to = path
            answer = requests.get(f"{site}/datastore/dump/1", timeout=10)
            assert answer.status_code in (404, 500, 502), path
            assert answer.content != DATA
        assert other.requests == upstream.requests == []


# ── with CKAN ─────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")
def test_a_portal_behind_nginx_gives_files_and_ranges_and_shows_no_bucket(
    nginx: Start, start_site: Sites
) -> None:
    site = start_site({config.DELIVERY: "accel"})
    resource_id = factories.Resource(name="A name")["id"]
    place = Place(config.dataset(), config.export_bucket())
    place.fill(resource_id, [{"text": "x" * 1000}] * 2000, text="STRING")
    csv = b"_id,text\n" + b"".join(b"%d,%s\n" % (n, b"x" * 1000) for n in range(1, 2001))
    url = nginx(os.environ["STORAGE_EMULATOR_HOST"], int(site.url.rpartition(":")[2]))
    url = f"{url}/datastore/dump/{resource_id}"
    whole = requests.get(url, timeout=60)
    assert (whole.status_code, whole.content) == (200, csv)
    assert whole.history == []
    assert whole.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert whole.headers["Content-Disposition"].endswith('-A-name.csv"')
    assert whole.headers["Content-Length"] == str(len(csv))
    assert place.bucket not in str(whole.headers)
    for wanted in ({}, {"If-Range": whole.headers["ETag"]}):
        part = requests.get(url, headers={"Range": "bytes=1000-1999", **wanted}, timeout=60)
        assert (part.status_code, part.content) == (206, csv[1000:2000])
        assert part.headers["Content-Range"] == f"bytes 1000-1999/{len(csv)}"
    resumed = requests.get(
        url, headers={"Range": "bytes=1000-", "If-Range": '"of-another-revision"'}, timeout=60
    )
    assert (resumed.status_code, resumed.content) == (200, csv)
    head = requests.head(url, timeout=60)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(csv)))
    beyond = requests.get(url, headers={"Range": "bytes=99999999-"}, timeout=60)
    assert beyond.status_code == 416
    rows = requests.get(f"{url}?format=json", timeout=60).json()["records"]
    assert len(rows) == 2000
