"""No secret in a log: a site's usual work and its failures, searched for every key and row."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from ckan import model
from ckan.lib.redis import connect_to_redis
from ckan.plugins import toolkit as tk
from ckan.tests import factories
from ckan.tests.helpers import call_action
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.cli.migrating import URL_VARIABLE
from ckanext.bigquery_datastore.loading.steps import QUEUE
from ckanext.bigquery_datastore.tests.conftest import Site, stack_ini
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.visiting import visit

pytestmark = pytest.mark.usefixtures("non_clean_db", "with_plugins", "nothing_remembered")

ROW = "a-word-that-stands-in-a-row-alone"
SEARCH = "/api/3/action/datastore_search"
PASSWORD = "a-password-of-postgresql"
FILE = f"name,size\n{ROW},1\nother,2\n".encode()
BAD_FILE = FILE + b"".join(b"more,%d\n" % n for n in range(2000)) + f"{ROW},{ROW}\n".encode()

# What no secret of this run has to be known for.
SHAPES = {
    "a signature": re.compile(r"X-Goog-Signature=[0-9a-f]{8}"),
    "a token of Google's": re.compile(r"ya29\.|emulator-token-of-"),
    "an Authorization": re.compile(r"Authorization['\"]?\s*[:=]\s*['\"]?[^\s'\"…*]", re.IGNORECASE),
    "a bearer": re.compile(r"Bearer\s+[\w.-]{8}"),
    "a private key": re.compile(r"PRIVATE KEY"),
    "a JSON web token": re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}"),
    "a password in an address": re.compile(r"[a-z]+://[^\s/:@]+:(?!\*{3})[^\s/@]+@"),
}


def signatures(answer: Any) -> list[str]:
    """Those of the links that an answer has: a redirect's, or nginx's."""
    return re.findall(r"X-Goog-Signature(?:=|%3D)([0-9a-f]+)", str(answer.headers))


def keys(emulator: OwnEmulator) -> dict[str, str]:
    """What opens the site, and what is Google's."""
    key = json.loads(emulator.key_file.read_text())
    body = "".join(key["private_key"].splitlines()[1:-1])
    return {
        "the private key": body[40:80],
        "the private key's number": key["private_key_id"],
        "the site's secret": tk.config["SECRET_KEY"],
        "a row": ROW,
    }


class Run:
    """A site with a talkative log, what is done with it, and all that it has said."""

    def __init__(self, server: str, site: Site, emulator: OwnEmulator, folder: Path) -> None:
        self.server, self.site, self.emulator, self.folder = server, site, emulator, folder
        self.sysadmin = factories.SysadminWithToken()
        self.dataset = factories.Dataset(owner_org=factories.Organization()["id"])["id"]
        self.steps, self.signatures = 0, set[str]()
        self.said: dict[str, str] = {}

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """A request of the sysadmin's; redirects to Cloud Storage are noted, not followed."""
        self.steps += 1
        headers = {"Authorization": self.sysadmin["token"], **more.pop("headers", {})}
        url = path if path.startswith("http") else f"{self.site.url}{path}"
        answer = requests.request(
            method, url, headers=headers, allow_redirects=False, timeout=60, **more
        )
        self.signatures.update(signatures(answer))
        return answer

    def file(self, id: str, query: str = "", **headers: str) -> requests.Response:
        answer = self.ask("GET", f"/datastore/dump/{id}?{query}", headers=headers)
        while "_hop=" in answer.headers.get("Location", ""):
            answer = self.ask("GET", answer.headers["Location"], headers=headers)
        return answer

    def act(self, action: str, **params: Any) -> requests.Response:
        return self.ask("POST", f"/api/3/action/{action}", json=params)

    def upload(self, content: bytes) -> str:
        self.steps += 1
        answer = requests.post(
            f"{self.site.url}/api/3/action/resource_create",
            data={"package_id": self.dataset, "name": "file"},
            files={"upload": ("trees.csv", content)},
            headers={"Authorization": self.sysadmin["token"]},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]["id"]

    def command(self, *words: str, **env: str) -> int:
        self.steps += 1
        program = str(Path(sys.executable).with_name("ckan"))
        done = subprocess.run(
            [program, "-c", str(self.site.ini), *words],
            capture_output=True,
            text=True,
            timeout=180,
            cwd=self.folder,
            env={**os.environ, "CKAN_INI": str(self.site.ini), **self.emulator.environment, **env},
        )
        self.said[f"ckan {' '.join(words[:2])} ({self.steps})"] = done.stdout + done.stderr
        return done.returncode

    def secrets(self) -> dict[str, str]:
        return {
            **keys(self.emulator),
            "the API token": self.sysadmin["token"],
            "a password": PASSWORD,
            **{f"signature {n}": text[:40] for n, text in enumerate(sorted(self.signatures))},
        }


# What runs the site, and how it gives files: httpx tells addresses under the first alone.
SITES = {"gunicorn": "redirect", "uvicorn": "accel"}


@pytest.fixture(params=list(SITES))
def run(request: Any, own_site: OwnEmulator, start_site: Any, tmp_path: Path) -> Run:
    ini = tmp_path / "talkative.ini"
    text = stack_ini("").read_text()
    text = text.replace("keys = root, ckan, ckanext", "keys = root, ckan, ckanext, ours", 1)
    text = re.sub(r"(\[logger_root\]\s*level = )WARNING", r"\1INFO", text)
    assert "ours" in text
    text += "\n[logger_ours]\nqualname = ckanext.bigquery_datastore\nhandlers =\nlevel = DEBUG\n"
    ini.write_text(text)
    options = dict.fromkeys((config.CREDENTIALS, config.CREDENTIALS_RO), str(own_site.key_file))
    options[config.DELIVERY] = SITES[request.param]
    site = start_site(options, base=ini, env=own_site.environment, server=request.param)
    return Run(request.param, site, own_site, tmp_path)


def work_of_editors(run: Run) -> str:
    """A file is loaded, and one that does not fit is not; rows are written, found, deleted."""
    id, bad = run.upload(FILE), run.upload(BAD_FILE)
    assert run.command("jobs", "worker", "--burst", QUEUE) == 0
    states = [
        run.act("bigquery_load_status", resource_id=each).json()["result"]["state"]
        for each in (id, bad)
    ]
    assert states[0] == "complete"
    row = {"name": ROW, "size": 3}
    run.act("datastore_upsert", resource_id=id, force=True, method="insert", records=[row])
    run.act("datastore_search", resource_id=id, filters={"name": ROW}, q=ROW)
    run.act("datastore_search_sql", sql=f"SELECT * FROM \"{id}\" WHERE name = '{ROW}'")
    wrong = {"name": "x", "size": ROW}
    assert (
        run.act("datastore_upsert", resource_id=id, force=True, records=[wrong]).status_code > 400
    )
    run.act("datastore_delete", resource_id=id, force=True, filters={"size": 3})
    return id


def work_of_visitors(run: Run, id: str) -> None:
    """Files by redirect and through the site, whole and in part, that are there and are not."""
    assert run.file(id).status_code in (200, 302)
    assert ROW in run.file(id, "format=json").text
    assert run.file(id, "format=tsv", **{"User-Agent": "Python-urllib/3.11"}).status_code == 200
    assert run.file(id, "format=parquet").status_code in (200, 302)
    run.file(id, "limit=1")
    run.ask("GET", f"/datastore/dump/{id}/status", headers={"Prefer": "respond-async"})
    run.ask("GET", f"/datastore/about/{id}/datapackage.json")
    run.file("no-such-table")


FAULTS: list[dict[str, Any]] = [
    {"service": "bigquery", "status": 403, "reason": "accessDenied", "message": "No. "},
    {"service": "bigquery", "status": 500},
    {"service": "storage", "status": 503},
    {"service": "storage", "path": "/o/", "truncate": 5},
    {"service": "storage", "drop": True},
]


def work_in_bad_weather(run: Run, id: str) -> None:
    for number, fault in enumerate(FAULTS):
        run.emulator.fault(times=3, **fault)
        row = {"name": ROW, "size": 10 + number}
        run.act("datastore_upsert", resource_id=id, force=True, method="insert", records=[row])
        run.file(id)
        run.file(id, "format=json")
        run.act("datastore_search", resource_id=id, filters={"size": number})
        run.emulator.mend()


def work_of_operators(run: Run, id: str) -> None:
    run.command("bigquery", "check")
    run.command("bigquery", "status")
    run.command("bigquery", "sweep", "--yes")
    run.command("bigquery", "dump", id, "a.csv")
    dsn = f"postgresql://somebody:{PASSWORD}@127.0.0.1:1/nothing"
    assert run.command("bigquery", "migrate", "--yes", **{URL_VARIABLE: dsn}) == 1
    bad_dsn = dsn.replace(":1/", ":nothing/")
    assert run.command("bigquery", "migrate", "--yes", **{URL_VARIABLE: bad_dsn}) == 1


def kept(run: Run, id: str) -> dict[str, str]:
    """What is written down elsewhere: in Redis, in CKAN's tables, at Google."""
    redis = connect_to_redis()
    words = [key.decode(errors="replace") for key in redis.keys(f"*{id[:8]}*")]
    words += [key.decode(errors="replace") for key in redis.keys("*bigquery*")]
    titles = [str(job) for job in call_action("job_list")]
    rows = model.Session.query(model.TaskStatus).filter_by(entity_id=id)
    statuses = [f"{row.key} {row.value} {row.error}" for row in rows]
    assert statuses
    anybody: dict[str, Any] = {"credentials": AnonymousCredentials(), "project": config.project()}
    with storage.Client(**anybody) as client:
        blobs = list(client.list_blobs(config.export_bucket()))
    assert any(id in blob.name for blob in blobs)
    objects = [f"{blob.name} {blob.metadata} {blob.content_disposition}" for blob in blobs]
    with bigquery.Client(**anybody) as client:
        jobs = [f"{job.job_id} {job.labels}" for job in client.list_jobs(all_users=True)]
    assert jobs
    found = {"Redis": words, "job titles": titles, "task_status": statuses}
    found |= {"objects": objects, "job labels": jobs}
    return {name: "\n".join(lines) for name, lines in found.items()}


def told(said: dict[str, str], secrets: dict[str, str]) -> list[str]:
    """Each line that holds a secret, and which."""
    return [
        f"{where}: {what}: {line[:400]}"
        for where, text in said.items()
        for line in text.splitlines()
        for what in (
            *(name for name, secret in secrets.items() if secret in line),
            *(name for name, shape in SHAPES.items() if shape.search(line)),
        )
    ]


@pytest.mark.full
def test_no_secret_is_in_any_line_of_a_whole_run(run: Run, ledger: Any):
    id = work_of_editors(run)
    work_of_visitors(run, id)
    work_in_bad_weather(run, id)
    if run.server == "gunicorn":
        # Commands know nothing of the server.
        work_of_operators(run, id)
    assert run.signatures
    written = kept(run, id)
    said = {**run.said, "log": run.site.log.read_text(errors="replace")}
    lines = sum(text.count("\n") for text in (*said.values(), *written.values()))
    found = told({**said, **written}, run.secrets())
    seen = f"{lines:,} lines of log, commands, Redis, labels; {len(run.secrets())} secrets"
    ledger.add(f"secrets in a whole run, on {run.server}", run.steps, len(found), seen)
    assert found == []


def test_no_secret_is_logged_of_a_few_downloads(app, own_site, caplog, ledger, monkeypatch):
    caplog.set_level(logging.INFO)
    # urllib3 notes the address of each thing it asks for, and only at this level.
    for name in ("ckanext.bigquery_datastore", "urllib3.connectionpool"):
        # Whoever configured logging before, as a test of a command does, may have left it out.
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
        caplog.set_level(logging.DEBUG, name)
    who, id = factories.SysadminWithToken(), factories.Resource()["id"]
    sent = {"Authorization": who["token"]}
    fields = [{"id": "name", "type": "text"}]
    params = {"resource_id": id, "force": True, "fields": fields, "records": [{"name": ROW}]}
    app.post("/api/3/action/datastore_create", json=params, headers=sent)
    answers = [visit(app, id, query, **sent) for query in ("", "format=json", "limit=1")]
    assert ROW in answers[1].text
    links = signatures(answers[0])
    own_site.fault(service="bigquery", status=403, reason="accessDenied", message="No.", times=3)
    sought = {"resource_id": id, "filters": {"name": ROW}}
    answers.append(app.test_client().post(SEARCH, json=sought, headers=sent))
    assert links and re.search(r'"GET /\S+/data\.rows HTTP', caplog.text), "no download was noted"
    secrets = {**keys(own_site), "a signature": links[0], "the API token": who["token"]}
    found = told({"log": caplog.text}, secrets)
    seen = f"{caplog.text.count(chr(10))} lines of log; {len(secrets)} secrets"
    ledger.add("secrets in a few downloads", len(answers) + 1, len(found), seen)
    assert found == []


def test_a_secret_would_be_seen():
    said = {"log": "GET /x?X-Goog-Signature=0123456789ab\npostgresql://ckan:stack@h/x\na key: s3"}
    assert len(told(said, {"key": "s3"})) == 3
