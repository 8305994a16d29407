"""Which key does what: reads by the one, work by the other, and signatures without a word of it."""

from __future__ import annotations

import base64
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google.auth
import pytest
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from google.auth import credentials as gcredentials
from google.auth import iam
from google.oauth2 import service_account

from ckanext.bigquery_datastore import clients, config, downloads
from ckanext.bigquery_datastore.dump import sign
from ckanext.bigquery_datastore.emulator.credentials import write_key_file
from ckanext.bigquery_datastore.errors import PermissionMissing
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = pytest.mark.usefixtures("non_clean_db", "own_site", "with_plugins", "heard_in_full")

ROWS = [{"name": "one", "size": 1}]
CSV = b"_id,name,size\n1,one,1\n"
RO, RW = "emulator-ro", "emulator-rw"


@pytest.fixture
def resource(own_site) -> dict[str, Any]:
    found = factories.Resource()
    place = Place(config.dataset(), config.export_bucket())
    place.fill(found["id"], ROWS, name="STRING", size="INT64")
    own_site.forget_requests()
    return found


def forget() -> None:
    downloads.TABLES.clear()
    downloads.FILES.clear()


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read()


def done_by(own_site, identity: str) -> set[tuple[str, str, str]]:
    """What an identity did: service, method, and the last names of the path."""
    seen = own_site.seen(identity=f"^{identity}$")["requests"]
    # Where OpenTelemetry is installed, Google's client asks once in the background for the bucket.
    seen = [request for request in seen if not request["path"].endswith(f"/b/{bucket()}")]
    return {(s["service"], s["method"], kind(s["path"])) for s in seen}


def bucket() -> str:
    return config.export_bucket()


def kind(path: str) -> str:
    for word in ("/compose", "/upload/", "/jobs/", "/jobs", "/queries", "/tables/"):
        if word in path:
            return word.strip("/") if word != "/jobs/" else "job"
    return "list" if path.endswith("/o") else path.rpartition("/")[2].partition("-")[0]


# --- who does what


def test_a_cached_download_makes_no_call_with_the_read_write_key(app, own_site, resource):
    assert visit(app, resource["id"]).status_code == 302
    forget()
    own_site.forget_requests()
    answer = visit(app, resource["id"])
    assert own_site.seen(identity=RW)["count"] == 0
    assert done_by(own_site, RO) == {("bigquery", "GET", "tables"), ("storage", "GET", "list")}
    assert fetched(answer.location) == CSV


def test_a_few_rows_are_read_with_the_read_only_key(app, own_site, resource):
    assert visit(app, resource["id"], "limit=5").status_code == 200
    assert own_site.seen(identity=RW)["count"] == 0


def test_an_export_uses_the_read_write_key_for_its_work_and_for_nothing_else(
    app, own_site, resource
):
    assert visit(app, resource["id"]).status_code == 302
    assert done_by(own_site, RW) == {
        ("storage", "POST", "upload"),  # the claim and the header line
        ("bigquery", "GET", "job"),
        ("bigquery", "POST", "jobs"),
        ("storage", "GET", "list"),
        ("storage", "POST", "compose"),
        ("storage", "DELETE", "head"),
        ("storage", "DELETE", "part"),
    }
    assert done_by(own_site, RO) == {
        ("bigquery", "GET", "tables"),
        ("storage", "GET", "list"),
        ("storage", "GET", "data.csv"),
        ("storage", "GET", "attempt"),
    }


def test_the_read_only_key_never_writes(app, own_site, resource):
    for query in ("", "?format=json", "?format=parquet", "?limit=1", "/status"):
        visit(app, resource["id"], query)
    methods = {method for _, method, what in done_by(own_site, RO) if what != "queries"}
    assert methods == {"GET"}


def test_a_read_only_key_that_is_refused_is_not_replaced_by_the_other(app, own_site, resource):
    assert visit(app, resource["id"]).status_code == 302
    forget()
    own_site.forget_requests()
    own_site.fault(service="storage", identity=f"^{RO}$", status=403, times=0)
    own_site.fault(service="bigquery", identity=f"^{RO}$", status=403, times=0)
    answer = visit(app, resource["id"])
    assert answer.status_code == 502
    assert own_site.seen(identity=RW)["count"] == 0


# --- real credentials


@pytest.fixture
def keys(own_site, tmp_path, monkeypatch) -> dict[str, Path]:
    """Two service accounts with keys of their own, presented to Google as real ones are."""
    made = {}
    for name, option in (("ro", config.CREDENTIALS_RO), ("rw", config.CREDENTIALS)):
        file = tmp_path / f"{name}.json"
        write_key_file(file, f"project-{name}", f"{own_site.bigquery_url}/emulator/token")
        content = json.loads(file.read_text())
        own_site.admin("PUT", f"keys/{content['client_email']}", {"key": content["private_key"]})
        monkeypatch.setitem(tk.config, option, str(file))
        made[name] = file
    monkeypatch.setattr(clients, "is_emulated", lambda: False)
    clients.forget()
    return made


def email(file: Path) -> str:
    return json.loads(file.read_text())["client_email"]


def identities(own_site) -> set[str]:
    return set(own_site.seen()["identities"])


@pytest.mark.parametrize("form", ["file", "inline"])
def test_keys_by_path_and_by_content_are_two_identities(
    app, own_site, resource, keys, monkeypatch, form
):
    if form == "inline":
        monkeypatch.setitem(tk.config, config.CREDENTIALS, keys["rw"].read_text())
        monkeypatch.setitem(tk.config, config.CREDENTIALS_RO, keys["ro"].read_text())
    answer = visit(app, resource["id"])
    assert identities(own_site) == {email(keys["ro"]), email(keys["rw"])}
    query = parse_qs(urlsplit(answer.location).query)
    assert query["X-Goog-Credential"][0].startswith(email(keys["rw"]) + "/")
    assert fetched(answer.location) == CSV


def test_without_a_key_the_machines_own_credentials_work(
    app, own_site, resource, keys, monkeypatch
):
    for option in (config.CREDENTIALS, config.CREDENTIALS_RO):
        monkeypatch.setitem(tk.config, option, None)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(keys["rw"]))
    answer = visit(app, resource["id"])
    assert identities(own_site) == {email(keys["rw"])}
    assert fetched(answer.location) == CSV


def test_without_any_credentials_a_sentence_says_what_to_set(
    app, own_site, resource, keys, monkeypatch
):
    for option in (config.CREDENTIALS, config.CREDENTIALS_RO):
        monkeypatch.setitem(tk.config, option, None)

    def none(*args: object, **kwargs: object) -> None:
        raise google.auth.exceptions.DefaultCredentialsError("no")

    monkeypatch.setattr(google.auth, "default", none)
    answer = visit(app, resource["id"])
    assert answer.status_code == 502
    assert config.CREDENTIALS_RO in answer.text


def test_a_token_server_that_refuses_is_said(app, own_site, resource, keys):
    content = json.loads(keys["ro"].read_text())
    keys["ro"].write_text(json.dumps({**content, "token_uri": f"{own_site.storage_url}/nothing"}))
    clients.forget()
    answer = visit(app, resource["id"])
    assert answer.status_code == 503
    assert "credentials" in answer.text


# --- signatures without a private key


class Iam(BaseHTTPRequestHandler):
    """signBlob, by the key of the account that is asked for."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append((self.path, self.headers["Authorization"]))
        signed = server.credentials.sign_bytes(base64.b64decode(body["payload"]))
        answer = json.dumps({"keyId": "k", "signedBlob": base64.b64encode(signed).decode()})
        self.send_response(server.status)
        self.end_headers()
        self.wfile.write(answer.encode() if server.status == 200 else b'{"error": "denied"}')

    def log_message(self, *args: object) -> None:
        pass


class OfTheMachine(gcredentials.Credentials):
    """As on Compute Engine: a token, an account that is known after a refresh, and no key."""

    service_account_email = "default"

    def __init__(self, email: str) -> None:
        super().__init__()
        self._email = email

    def refresh(self, request: object) -> None:
        self.token = "token-of-the-machine"
        self.service_account_email = self._email


@pytest.fixture
def iam_server(own_site, keys, monkeypatch) -> Iterator[Any]:
    """The read-write identity is that of the machine, and IAM is a server of ours."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Iam)
    server.asked, server.status = [], 200
    server.credentials = service_account.Credentials.from_service_account_file(str(keys["rw"]))
    thread = Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(
        iam, "_IAM_SIGN_ENDPOINT", f"{address}/v1/projects/-/serviceAccounts/{{}}:signBlob"
    )
    monkeypatch.setattr(clients, "signer", lambda: OfTheMachine(email(keys["rw"])))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_without_a_private_key_iam_signs_with_the_machines_account_and_token(
    app, own_site, resource, keys, iam_server
):
    answer = visit(app, resource["id"])
    assert answer.status_code == 302
    assert fetched(answer.location) == CSV
    assert iam_server.asked == [
        (
            f"/v1/projects/-/serviceAccounts/{email(keys['rw'])}:signBlob",
            "Bearer token-of-the-machine",
        )
    ]


def test_a_crowd_at_one_file_asks_iam_once(app, own_site, resource, iam_server, monkeypatch):
    monkeypatch.setattr(config, "metadata_ttl_seconds", lambda: 3600)
    monkeypatch.setitem(tk.config, config.WAITING_REQUESTS, "8")
    # CKAN gathers its auth functions at first use, which is not made for many threads at once.
    app.get(f"/dataset/{resource['package_id']}")
    with ThreadPoolExecutor(8) as threads:
        links = set(threads.map(lambda _: visit(app, resource["id"]).location, range(40)))
    assert len(links) == len(iam_server.asked) == 1
    assert fetched(links.pop()) == CSV
    visit(app, resource["id"], method="HEAD")
    assert len(iam_server.asked) == 2


def test_what_iam_signs_lives_for_twelve_hours_at_most(app, resource, iam_server, monkeypatch):
    monkeypatch.setitem(tk.config, config.URL_EXPIRY_HOURS, "168")
    query = parse_qs(urlsplit(visit(app, resource["id"]).location).query)
    assert query["X-Goog-Expires"] == [str(12 * 3600)]


def test_what_a_key_signs_lives_as_long_as_the_site_wants(app, resource, keys, monkeypatch):
    monkeypatch.setitem(tk.config, config.URL_EXPIRY_HOURS, "168")
    query = parse_qs(urlsplit(visit(app, resource["id"]).location).query)
    assert query["X-Goog-Expires"] == [str(168 * 3600)]


def test_an_iam_that_refuses_is_said_with_the_role_that_is_missing(app, resource, iam_server):
    iam_server.status = 403
    answer = visit(app, resource["id"])
    assert answer.status_code == 502
    assert "Service Account Token Creator" in answer.text
    assert "denied" not in answer.text


def test_a_person_who_is_no_service_account_cannot_sign(resource, own_site, monkeypatch):
    class Person(gcredentials.Credentials):
        def refresh(self, request: object) -> None:
            self.token = "of-a-person"

    monkeypatch.setattr(clients, "signer", Person)
    found = downloads.store_rw().create("x", b"", sign_headers())
    with pytest.raises(PermissionMissing, match="no service account"):
        sign.signed_url(downloads.store_rw(), found, "GET", "attachment", "text/csv")


def sign_headers() -> Any:
    from ckanext.bigquery_datastore.dump.objects import Headers

    return Headers("text/plain")


# --- signed URLs, and what is told


def test_a_signed_url_ends(app, own_site, resource, keys, monkeypatch):
    monkeypatch.setattr(sign, "lifetime", lambda: sign.dt.timedelta(seconds=1))
    url = visit(app, resource["id"]).location
    assert fetched(url) == CSV
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            fetched(url)
        except urllib.error.HTTPError as err:
            assert err.code == 400
            assert b"ExpiredToken" in err.read()
            return
        time.sleep(0.2)
    pytest.fail("the URL works for longer than it was signed for")


def test_a_signed_url_opens_nothing_but_its_file(app, resource, keys):
    url = visit(app, resource["id"]).location
    for other in (
        url.replace("/data.csv", "/attempt"),
        url.replace("X-Goog-Expires=3600", "X-Goog-Expires=7200"),
        url[:-4] + "0000",
    ):
        with pytest.raises(urllib.error.HTTPError):
            fetched(other)


@pytest.mark.parametrize("delivery", ["redirect", "stream", "accel"])
def test_no_log_holds_a_signature_or_a_part_of_a_key(
    app, resource, keys, caplog, monkeypatch, delivery
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setitem(tk.config, config.DELIVERY, delivery)
    answer = visit(app, resource["id"])
    assert answer.status_code in (200, 302)
    assert answer.data is not None
    visit(app, resource["id"], "format=json")
    ours = "\n".join(
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("ckanext.bigquery_datastore")
    )
    assert "Exported dumps/" in ours
    for secret in ("X-Goog-Signature", "Bearer", "emulator-token-of"):
        assert secret not in ours
    private_key = json.loads(keys["rw"].read_text())["private_key"]
    assert private_key[100:130] not in caplog.text
    everything = [r for r in caplog.records if "X-Goog-Signature" in r.getMessage()]
    assert [record.name for record in everything if record.levelno >= logging.INFO] == []
