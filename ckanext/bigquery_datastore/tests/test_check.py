"""`ckan bigquery check`: one line for each setting and permission, and a command that mends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ckan.lib import jobs as ckan_jobs
from ckan.plugins import toolkit as tk
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, storage

from ckanext.bigquery_datastore import clients, config, jobs
from ckanext.bigquery_datastore.cli import bigquery as commands
from ckanext.bigquery_datastore.loading import steps
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator, free_port

pytestmark = pytest.mark.usefixtures("non_clean_db", "with_plugins")

CORS = [{"origin": ["*"], "method": ["GET", "HEAD"], "responseHeader": ["Range"]}]


@pytest.fixture()
def in_order(own_site: OwnEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnEmulator]:
    """A site as it should be; it is not up, and its emulator is mended after the test."""
    monkeypatch.setitem(tk.config, "ckan.site_url", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(config, "maximum_bytes_billed", lambda: 10**12)
    monkeypatch.setitem(tk.config, config.LOAD_ON_UPLOAD, False)
    clients.forget()
    set_up(cors=CORS, lifecycle={"rule": [rule("Delete", age=30)]})
    yield own_site
    own_site.admin("POST", "reset")
    set_up(
        **dict.fromkeys(
            ("storageClass", "retentionPolicy", "lifecycle", "softDeletePolicy", "cors")
        ),
        location=config.location(),
    )
    bigquery_client().update_dataset(expiring(None), ["default_table_expiration_ms"])


def set_up(**settings: Any) -> None:
    """Set the bucket's settings, by the names of Cloud Storage's API."""
    anybody = storage.Client(config.project(), credentials=AnonymousCredentials())
    anybody._patch_resource(f"/b/{config.export_bucket()}", settings)


def rule(kind: str, **condition: Any) -> dict[str, Any]:
    return {"action": {"type": kind}, "condition": condition}


def bigquery_client() -> bigquery.Client:
    return bigquery.Client(config.project(), credentials=AnonymousCredentials())


def expiring(milliseconds: int | None) -> bigquery.Dataset:
    found = bigquery_client().get_dataset(f"{config.project()}.{config.dataset()}")
    found.default_table_expiration_ms = milliseconds
    return found


def checked(cli: Any, *arguments: str) -> dict[str, dict[str, str]]:
    """What each check found. The exit code says whether anything was wrong."""
    cli.mix_stderr = False  # click before 8.2
    result = cli.invoke(commands, ["check", "--json", *arguments])
    found = json.loads(result.stdout)
    rows = {row["check"]: row for row in found["checks"]}
    wrong = [name for name, row in rows.items() if row["state"] == "wrong"]
    assert (found["wrong"], result.exit_code) == (len(wrong), int(bool(wrong)))
    return rows


def states(rows: dict[str, dict[str, str]], state: str) -> set[str]:
    return {name for name, row in rows.items() if row["state"] == state}


def test_a_site_in_order_is_told_so_and_a_tiny_export_leaves_nothing_behind(cli, in_order):
    rows = checked(cli, "--live")
    assert states(rows, "wrong") == set()
    assert states(rows, "unknown") == {"server"}
    assert rows["live export"]["said"].startswith(
        "a table was made, exported, downloaded, compared"
    )
    text = cli.invoke(commands, ["check"])
    lines = [line for line in text.stdout.splitlines() if not line.startswith("    ")]
    assert len(lines) == len(rows) - 1
    assert all(line[:2] in ("✓ ", "? ") for line in lines)
    assert "✓ links: signed and read; they work for 1 hours" in lines

    store = storage.Client(config.project(), credentials=AnonymousCredentials())
    left = [blob.name for blob in store.list_blobs(config.export_bucket())]
    assert not [name for name in left if name.startswith(("checks/", "dumps/check_"))]
    tables = bigquery_client().list_tables(config.dataset())
    assert not [table.table_id for table in tables if table.table_id.startswith("check_")]


def test_each_wrong_setting_of_dataset_and_bucket_is_named_with_its_cure(
    cli, in_order, monkeypatch
):
    set_up(
        location="US",
        storageClass="NEARLINE",
        softDeletePolicy={"retentionDurationSeconds": "604800"},
        retentionPolicy={"retentionPeriod": "86400"},
        lifecycle={"rule": [rule("Delete", age=0)]},
        cors=None,
    )
    monkeypatch.setitem(tk.config, "ckan.cors.origin_allow_all", True)
    bigquery_client().update_dataset(expiring(3_600_000 * 24 * 60), ["default_table_expiration_ms"])
    rows = checked(cli)
    bucket = f"gcloud storage buckets update gs://{config.export_bucket()}"
    for name, said, fix in (
        ("dataset: expiration", "60 days", "bq update --default_table_expiration 0"),
        ("bucket", "lies in US, and the dataset in EU", "--location=EU"),
        ("bucket: class", "NEARLINE", f"{bucket} --default-storage-class=STANDARD"),
        ("bucket: soft delete", "7 days", f"{bucket} --clear-soft-delete"),
        ("bucket: retention", "86,400 seconds", f"{bucket} --clear-retention-period"),
        ("bucket: lifecycle", "after 0 days", f"{bucket} --lifecycle-file"),
        ("bucket: CORS", "ckan.cors", f"{bucket} --cors-file=cors.json"),
    ):
        assert rows[name]["state"] == "wrong", name
        assert said in rows[name]["said"]
        assert fix in rows[name]["fix"]
    monkeypatch.setattr(config, "location", lambda: "US")
    assert "lies in EU, and the site looks for it in US" in checked(cli)["dataset"]["said"]


def test_each_missing_permission_is_named_with_the_role_that_gives_it(cli, in_order):
    in_order.fault(service="bigquery", identity="-ro$", path="/queries|/jobs", status=403, times=0)
    in_order.fault(service="bigquery", identity="-ro$", path="/datasets/", status=403, times=0)
    in_order.fault(service="storage", method="GET", path="/b/[^/]+$", status=403, times=0)
    in_order.admin("PUT", "denied/emulator-rw", ["storage.objects.delete"])
    in_order.admin("PUT", "denied/emulator-ro", ["storage.objects.get"])
    rows = checked(cli)
    for name, role in (
        ("read-only identity", "--role=roles/bigquery.jobUser"),
        ("dataset", "--role=roles/bigquery.dataViewer"),
        ("bucket: read-only", "--role=roles/storage.objectViewer"),
        ("bucket: read-write", "--role=roles/storage.objectAdmin"),
    ):
        assert rows[name]["state"] == "wrong", name
        assert role in rows[name]["fix"]
        assert "add-iam-policy-binding" in rows[name]["fix"]
    # Downloads need no look at the bucket's settings: it is only not known how they are.
    assert rows["bucket: retention"]["state"] == "unknown"
    assert "storage.buckets.get" in rows["bucket: retention"]["said"]
    assert rows["read-write identity"]["state"] == "ok"


def test_links_that_do_not_work_and_a_bucket_that_is_not_there_are_wrong(
    cli, in_order, monkeypatch
):
    email = json.loads(in_order.key_file.read_text())["client_email"]
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = other.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    known = json.loads(in_order.key_file.read_text())["private_key"]
    in_order.admin("PUT", f"keys/{email}", {"key": pem.decode()})
    try:
        row = checked(cli)["links"]
    finally:
        in_order.admin("PUT", f"keys/{email}", {"key": known})
    assert (row["state"], row["said"][:32]) == ("wrong", "a signed link is answered by 403")
    with monkeypatch.context() as patched:
        patched.setitem(tk.config, config.EXPORT_BUCKET, "not-there")
        assert {"bucket", "links", "bucket: read-write"} <= states(checked(cli), "wrong")


def test_other_loaders_and_missing_workers_are_wrong(cli, in_order, monkeypatch):
    monkeypatch.setitem(tk.config, config.PREWARM_FORMATS, "csv")
    monkeypatch.setitem(tk.config, config.LOAD_ON_UPLOAD, True)
    monkeypatch.setitem(tk.config, "ckan.plugins", "datapusher bigquery_datastore datastore")
    rows = checked(cli)
    assert states(rows, "wrong") == {"workers: exports", "workers: loads", "other loaders"}
    assert '"ckan.plugins = bigquery_datastore datastore"' in rows["other loaders"]["fix"]
    assert rows["workers: exports"]["fix"].endswith("jobs worker bigquery_exports")
    assert rows["workers: loads"]["fix"].endswith("jobs worker bigquery_loads")
    worker = ckan_jobs.Worker([jobs.QUEUE, steps.QUEUE])
    worker.register_birth()
    try:
        assert states(checked(cli), "wrong") == {"other loaders"}
    finally:
        worker.register_death()
