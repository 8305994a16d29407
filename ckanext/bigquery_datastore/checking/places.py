"""The dataset and the bucket: where they lie, what they delete by themselves, and who may what."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import partial

from ckan.plugins import toolkit as tk
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.checking.finding import Finding, ok, unknown, wrong
from ckanext.bigquery_datastore.checking.looks import Looks, account

# roles/storage.objectViewer and roles/storage.objectAdmin, as far as files need them:
# https://cloud.google.com/storage/docs/access-control/iam-roles
_READS = ("storage.objects.get", "storage.objects.list")
_WRITES = (*_READS, "storage.objects.create", "storage.objects.delete", "storage.objects.update")


def dataset(looks: Looks) -> Finding:
    place = str(looks.dataset.location)
    if place.upper() != config.location().upper():
        return wrong(
            f"lies in {place}, and the site looks for it in {config.location()}",
            f'ckan config-tool {tk.config["__file__"]} "{config.LOCATION} = {place}"',
        )
    return ok(f"{config.project()}.{config.dataset()} lies in {place}")


def expiration(looks: Looks) -> Finding:
    found = looks.dataset.default_table_expiration_ms
    if found:
        days = dt.timedelta(milliseconds=found) / dt.timedelta(days=1)
        return wrong(
            f"tables expire after {days:g} days: the site excepts those that it makes, others go",
            f"bq update --default_table_expiration 0 {config.project()}:{config.dataset()}",
        )
    return ok("tables do not expire by themselves")


def jobs_of(identity: str) -> Callable[[Looks], Finding]:
    """Whether an identity can run a query: a dry run of one, which is free."""

    def look(looks: Looks) -> Finding:
        client = clients.bigquery_ro() if identity == "ro" else clients.bigquery_rw()
        who = clients.account(identity) or "Application Default Credentials"
        settings = bigquery.QueryJobConfig(dry_run=True)
        with clients.told(f"a query of {who}"):
            client.query("SELECT 1", job_config=settings, job_retry=None, **clients.budget())
        if identity == "ro" and clients.account("ro") == clients.account("rw") is not None:
            return unknown(
                f"{who} is the read-write identity as well: what reads could write",
                "gcloud iam service-accounts create ckan-reader, and its key in "
                f"{config.CREDENTIALS_RO}",
            )
        return ok(f"{who} runs queries")

    return look


def job_role(identity: str) -> str:
    return (
        f"gcloud projects add-iam-policy-binding {config.project()} "
        f"--member={account(identity)} --role=roles/bigquery.jobUser"
    )


def dataset_role(identity: str = "ro") -> str:
    role = {"ro": "dataViewer", "rw": "dataEditor"}[identity]
    return (
        f"bq add-iam-policy-binding --member={account(identity)} --role=roles/bigquery.{role} "
        f"{config.project()}:{config.dataset()}"
    )


def bucket_role(identity: str) -> str:
    role = {"ro": "objectViewer", "rw": "objectAdmin"}[identity]
    return _add_role(identity, f"roles/storage.{role}")


def look_role() -> str:
    return _add_role("rw", "roles/storage.legacyBucketReader")


def _add_role(identity: str, role: str) -> str:
    return (
        f"gcloud storage buckets add-iam-policy-binding gs://{config.export_bucket()} "
        f"--member={account(identity)} --role={role}"
    )


def files_of(identity: str) -> Callable[[Looks], Finding]:
    """What an identity may do with files, which Cloud Storage tells to itself."""

    def look(looks: Looks) -> Finding:
        client = clients.storage_ro() if identity == "ro" else clients.storage_rw()
        needed = _READS if identity == "ro" else _WRITES
        bucket = client.bucket(config.export_bucket())
        with clients.told(f"a question about the bucket {bucket.name}"):
            granted = set(bucket.test_iam_permissions(list(_WRITES), **clients.budget()))
        missing = [name for name in needed if name not in granted]
        if missing:
            return wrong(f"may not: {', '.join(missing)}", bucket_role(identity))
        surplus = sorted(granted - set(needed))
        if surplus and not clients.is_emulated():
            return unknown(f"reads files, but may also: {', '.join(surplus)}")
        return ok("reads files" if identity == "ro" else "reads, writes, joins and deletes files")

    return look


def _update(flags: str) -> str:
    return f"gcloud storage buckets update gs://{config.export_bucket()} {flags}"


def bucket(looks: Looks) -> Finding:
    place, of_dataset = looks.bucket.location.upper(), str(looks.dataset.location).upper()
    # "The BigQuery dataset and the Cloud Storage bucket must be in the same location":
    # https://cloud.google.com/bigquery/docs/exporting-data
    if place == of_dataset:
        return ok(f"gs://{looks.bucket.name} lies in {place}")
    return wrong(
        f"lies in {place}, and the dataset in {of_dataset}: BigQuery does not export from there",
        f"gcloud storage buckets create gs://NAME --location={of_dataset} "
        "--uniform-bucket-level-access --soft-delete-duration=0",
    )


def storage_class(looks: Looks) -> Finding:
    found = looks.bucket.storage_class or "STANDARD"
    if found in ("STANDARD", "MULTI_REGIONAL", "REGIONAL"):
        return ok(f"{found}: nothing is billed for early deletion")
    return wrong(
        f"{found}: every file and shard that is deleted early is billed for weeks",
        _update("--default-storage-class=STANDARD"),
    )


def soft_delete(looks: Looks) -> Finding:
    seconds = looks.bucket.soft_delete_policy.retention_duration_seconds or 0
    if int(seconds):
        return wrong(
            f"deleted files are kept, and billed, for {int(seconds) / 86400:g} days, and each "
            "export deletes its shards",
            _update("--clear-soft-delete"),
        )
    return ok("off")


def retention(looks: Looks) -> Finding:
    found = looks.bucket
    if found.retention_period:
        return wrong(
            f"files cannot be deleted for {found.retention_period:,} seconds: exports fail, and "
            "nothing is withdrawn",
            _update("--clear-retention-period"),
        )
    if found.default_event_based_hold:
        return wrong("new files are on hold", _update("--no-default-event-based-hold"))
    return ok("off")


def lifecycle(looks: Looks) -> Finding:
    rules = [rule for rule in looks.bucket.lifecycle_rules if rule["action"]["type"] == "Delete"]
    lives = config.url_expiry_hours() / 24
    for rule in rules:
        condition = rule.get("condition", {})
        age = condition.get("age", condition.get("daysSinceCustomTime"))
        if age is not None and int(age) <= lives:
            return wrong(
                f"a rule deletes files after {age} days, when links to them live for {lives:g}",
                _update("--lifecycle-file=lifecycle.json, with an age of 7 or more"),
            )
    if rules:
        return ok(f"{len(rules)} rule(s) delete old files; who asks for one has it exported anew")
    return unknown(
        "no rule deletes old files: of each table the newest stays",
        'echo \'{"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30}}]}\' '
        "> lifecycle.json && " + _update("--lifecycle-file=lifecycle.json"),
    )


def cors(looks: Looks) -> Finding:
    if config.delivery() != "redirect":
        return ok(f"not needed: no visitor meets the bucket (delivery = {config.delivery()})")
    for rule in looks.bucket.cors:
        if "*" in rule.get("origin", ()) and {"GET", "*"} & set(rule.get("method", ())):
            return ok("scripts of web pages can read files")
    opened = tk.asbool(tk.config.get("ckan.cors.origin_allow_all")) or tk.config.get(
        "ckan.cors.origin_whitelist"
    )
    say = partial(wrong) if opened else partial(unknown)
    return say(
        "scripts of web pages (fetch, DuckDB in the browser) cannot follow a redirect to the bucket"
        + (", though CKAN's ckan.cors.… let them in" if opened else ""),
        'echo \'[{"origin": ["*"], "method": ["GET", "HEAD"], "responseHeader": ["Range", '
        '"Content-Type", "Content-Disposition", "Content-Length", "Content-Range", "ETag"], '
        '"maxAgeSeconds": 3600}]\' > cors.json && ' + _update("--cors-file=cors.json"),
    )


def limits(looks: Looks) -> Finding:
    """The site's own; Google's custom quotas are told by its console alone."""
    console = (
        "https://console.cloud.google.com/iam-admin/quotas"
        f"?project={config.project()}&service=bigquery.googleapis.com"
    )
    if config.maximum_bytes_billed() is None:
        return unknown(
            "one export may be billed for any number of bytes; Google's own quotas stand in "
            f"{console}",
            f"ckan config-tool {tk.config['__file__']} "
            f'"{config.MAXIMUM_BYTES_BILLED} = 1000000000000"',
        )
    return ok(
        f"{config.maximum_bytes_billed():,} bytes an export, "
        f"{config.search_maximum_bytes_billed() or 0:,} a search; Google's own stand in {console}"
    )
