"""Links and exports, really made: an object that is signed for and read; a tiny table's file."""

from __future__ import annotations

import tempfile
import time
import uuid
from pathlib import Path

import requests
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config, downloads, jobs, saving
from ckanext.bigquery_datastore.backend.table import lookup
from ckanext.bigquery_datastore.checking.finding import Finding, ok, unknown, wrong
from ckanext.bigquery_datastore.checking.looks import Looks
from ckanext.bigquery_datastore.dump import plan as plans
from ckanext.bigquery_datastore.dump import sign, sweep
from ckanext.bigquery_datastore.dump.objects import ROOT, Headers
from ckanext.bigquery_datastore.dump.storage import Store

_SECONDS = 10
_CONTENT = b"a check of links\n"
_ROWS = b"_id,text\n1,one\n2,two\n3,three\n"


def links(looks: Looks) -> Finding:
    """A file is written, found by the read-only identity, signed for, read in part, and deleted."""
    store = downloads.store_rw()
    name = f"checks/{uuid.uuid4().hex}"
    found = store.create(name, _CONTENT, Headers("text/plain"))
    try:
        if Store(clients.storage_ro(), config.export_bucket()).find(name) is None:
            return wrong(f"the read-only identity does not find {name}, which is there")
        url = sign.signed_url(store, found, "GET", plans.disposition("check.txt"), "text/plain")
        read = requests.get(url, headers={"Range": "bytes=2-6"}, timeout=_SECONDS)
    except requests.RequestException:
        return wrong("Cloud Storage does not answer at a signed link")
    finally:
        store.delete([found])
    if (read.status_code, read.content) != (206, _CONTENT[2:7]):
        return wrong(
            f"a signed link is answered by {read.status_code}: whose key signs it must be allowed "
            "to read files, and the clock of this machine be right"
        )
    hours = sign.lifetime().total_seconds() / 3600
    if hours < config.url_expiry_hours():
        return unknown(
            f"work for {hours:g} hours, not for the {config.url_expiry_hours()} of "
            f"{config.URL_EXPIRY_HOURS}: IAM signs them, and its keys change",
        )
    return ok(f"signed and read; they work for {hours:g} hours")


def live(looks: Looks) -> Finding:
    """A table of three rows, from BigQuery to a file on this machine, and all of it away again."""
    name = f"check_{uuid.uuid4().hex}"
    client, began = clients.bigquery_rw(), time.monotonic()
    full = f"{config.project()}.{config.dataset()}.{name}"
    try:
        with clients.told(f"making the table {full}"):
            made = bigquery.Table(full, [bigquery.SchemaField("_id", "INT64")])
            made.schema = [*made.schema, bigquery.SchemaField("text", "STRING")]
            client.create_table(made, **clients.budget())
            rows = f"INSERT `{full}` VALUES (3, 'three'), (1, 'one'), (2, 'two')"
            client.query(rows, job_retry=None, **clients.budget()).result(timeout=60)
        table = lookup.get_table(client, name)
        if table is None:
            return wrong(f"the table {full} is not to be found, after it was made")
        plan = downloads.plan_of(name, table, {"format": "csv", "bom": False})
        ready = jobs.finished(plan)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "check.csv")
            saving.save(plan, ready, file, lambda size: None)
            come = file.read_bytes()
    finally:
        _take_away(name, full)
    if come != _ROWS:
        return wrong(f"three rows came as {come[:200]!r}")
    seconds = time.monotonic() - began
    return ok(f"a table was made, exported, downloaded, compared and deleted in {seconds:.1f} s")


def _take_away(name: str, full: str) -> None:
    try:
        sweep.purge(downloads.store_rw(), f"{ROOT}{name}/")
    finally:
        with clients.tidied_up(full):
            clients.bigquery_rw().delete_table(full, not_found_ok=True, **clients.budget())
