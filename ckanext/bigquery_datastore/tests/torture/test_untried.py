"""What the attack left out: links that IAM signs, collaborators, exports made ahead of visitors."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import requests
from ckan.lib.jobs import get_queue
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action
from google.auth import credentials as gcredentials
from google.auth import iam
from google.oauth2 import service_account

from ckanext.bigquery_datastore import clients, config, jobs
from ckanext.bigquery_datastore.dump import sign
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = pytest.mark.usefixtures(
    "non_clean_db", "datastore", "with_plugins", "nothing_remembered"
)

CSV = b"_id,name\n1,one\n"


@pytest.fixture
def table() -> dict[str, Any]:
    owner = factories.Organization()
    dataset = factories.Dataset(owner_org=owner["id"])
    found = factories.Resource(package_id=dataset["id"])
    call_action("datastore_create", resource_id=found["id"], force=True, records=[{"name": "one"}])
    return {**found, "owner": owner["id"]}


def exports(table: dict[str, Any]) -> list[str]:
    place = Place(config.dataset(), config.export_bucket())
    return [found.name for found in place.store.list(f"dumps/{table['id']}/")]


def make_private(table: dict[str, Any]) -> None:
    call_action("package_patch", id=table["package_id"], private=True)


# --- links that IAM signs, which a crowd shares


class _Iam(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        signed = server.key.sign_bytes(base64.b64decode(body["payload"]))
        self.send_response(200)
        self.end_headers()
        answer = {"keyId": "k", "signedBlob": base64.b64encode(signed).decode()}
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *args: object) -> None:
        pass


class _OfTheMachine(gcredentials.Credentials):
    def __init__(self, email: str) -> None:
        super().__init__()
        self.service_account_email = email

    def refresh(self, request: object) -> None:
        self.token = "token-of-the-machine"


@pytest.fixture
def signed_by_iam(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Iam)
    server.key = service_account.Credentials.from_service_account_file(str(config.credentials()))
    thread = Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/{{}}:signBlob"
    monkeypatch.setattr(iam, "_IAM_SIGN_ENDPOINT", address)
    email = server.key.service_account_email
    monkeypatch.setattr(clients, "signer", lambda: _OfTheMachine(email))
    # Links are kept for as long as may be: that is when one could outlive its audience.
    monkeypatch.setitem(tk.config, config.METADATA_TTL_SECONDS, "3600")
    sign.LINKS.clear()
    yield
    server.shutdown()
    thread.join()
    server.server_close()
    sign.LINKS.clear()


@pytest.mark.usefixtures("signed_by_iam")
def test_a_link_that_iam_has_signed_and_a_crowd_shares_ends_with_its_audience(app, table):
    links = {visit(app, table["id"]).location for _ in range(3)}
    assert [requests.get(link, timeout=20).content for link in links] == [CSV]
    make_private(table)
    assert requests.get(links.pop(), timeout=20).status_code == 404
    answer = visit(app, table["id"])
    assert (answer.status_code, answer.location) == (404, None)


# --- collaborators


@pytest.mark.ckan_config("ckan.auth.allow_dataset_collaborators", "true")
@pytest.mark.parametrize("capacity", ["member", "editor"])
def test_a_collaborator_has_the_file_for_as_long_as_he_is_one(app, table, capacity):
    make_private(table)
    user = factories.User()
    token = factories.APIToken(user=user["name"])["token"]
    where = {"id": table["package_id"], "user_id": user["id"]}

    def answers() -> list[int]:
        ways = (("", ""), ("limit=1", ""), ("", "/status"))
        return [
            visit(app, table["id"], query, suffix=suffix, Authorization=token).status_code
            for query, suffix in ways
        ]

    assert answers() == [404, 404, 404]
    call_action("package_collaborator_create", **where, capacity=capacity)
    assert answers() == [302, 200, 200]
    etag = visit(app, table["id"], "limit=1", Authorization=token).headers["ETag"]
    call_action("package_collaborator_delete", **where)
    assert answers() == [404, 404, 404]
    known = visit(app, table["id"], "limit=1", Authorization=token, If_None_Match=etag)
    assert known.status_code == 404
    # Nor does what was said to him tell anybody else.
    assert visit(app, table["id"], "limit=1", If_None_Match=etag).status_code == 404


# --- a worker that exports ahead of visitors, after the data were withdrawn


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "QUIET_SECONDS", 0)
    monkeypatch.setitem(tk.config, config.PREWARM_FORMATS, "csv parquet")


@pytest.mark.usefixtures("at_once")
def test_a_table_that_became_private_before_its_turn_is_given_to_no_stranger(app, table):
    make_private(table)
    prepared(table)
    assert exports(table)
    for query in ("", "format=parquet", "limit=1"):
        assert visit(app, table["id"], query).status_code == 404
    token = factories.SysadminWithToken()["token"]
    link = visit(app, table["id"], Authorization=token).location
    assert requests.get(link, timeout=20).content == CSV


def prepared(table: dict[str, Any]) -> None:
    """A worker does its job; while another waits, it would leave the table to that."""
    get_queue(jobs.QUEUE).empty()
    jobs.prepare(table["id"])


GONE = {
    "deleted": lambda r: call_action("package_delete", id=r["package_id"]),
    "deleted by patch": lambda r: call_action("package_patch", id=r["package_id"], state="deleted"),
    "deleted in bulk": lambda r: call_action(
        "bulk_update_delete", datasets=[r["package_id"]], org_id=r["owner"]
    ),
    "without the resource": lambda r: call_action("resource_delete", id=r["id"]),
    "without the table": lambda r: call_action("datastore_delete", resource_id=r["id"], force=True),
    "purged": lambda r: call_action("dataset_purge", id=r["package_id"]),
}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("way", GONE)
def test_a_table_that_was_withdrawn_before_its_turn_is_not_exported(table, way):
    GONE[way](table)
    prepared(table)
    assert exports(table) == []
