"""What CKAN is told: its ini files, the demo's users and datasets, the shell's environment."""

from __future__ import annotations

import hashlib
import json
import shlex
import urllib.error
import urllib.request
from pathlib import Path

from layout import (
    BIGQUERY_URL,
    CREDENTIALS,
    HOME,
    LOCATION,
    PROJECT,
    REPOSITORY,
    SITE_URL,
    STORAGE_URL,
    Place,
    Version,
    postgresql_url,
)
from machine import StackError, run

EMULATORS = {"BIGQUERY_EMULATOR_HOST": BIGQUERY_URL, "STORAGE_EMULATOR_HOST": STORAGE_URL}


def place_settings(place: Place) -> dict[str, str]:
    """The options that keep one use of the stack apart from the others."""
    return {
        "sqlalchemy.url": place.sqlalchemy_url,
        "solr_url": place.solr_url,
        "ckan.redis.url": place.redis_url,
        "ckan.datastore.write_url": place.bigquery_url,
        "ckan.datastore.read_url": place.bigquery_url,
        "ckanext.bigquery_datastore.export_bucket": place.bucket,
        "ckanext.bigquery_datastore.location": LOCATION,
        "ckanext.bigquery_datastore.credentials": str(CREDENTIALS),
        "ckanext.bigquery_datastore.credentials_ro": str(CREDENTIALS),
    }


def site_id(version: Version) -> str:
    """What the names of the site's queues begin with, among others."""
    return f"stack_{version.tag}"


def site_settings(version: Version) -> dict[str, str]:
    return {
        "ckan.site_url": SITE_URL,
        "ckan.site_title": "CKAN on BigQuery",
        "ckan.site_id": site_id(version),
        "ckan.plugins": "bigquery_datastore datastore datatables_view text_view",
        "ckan.storage_path": str(version.folder / "storage"),
        "ckan.auth.create_user_via_web": "false",
        **place_settings(version.site),
    }


def digest(version: Version) -> str:
    return hashlib.sha256(json.dumps(site_settings(version)).encode()).hexdigest()[:12]


def write_ini(version: Version, log: Path) -> str:
    """ckan.ini as CKAN generates it (its secrets are made once), with the demo site's options."""
    written = version.folder / "ini-settings.json"
    settings = json.dumps(site_settings(version))
    if version.ini.exists() and written.exists() and written.read_text() == settings:
        return "up to date"
    version.folder.mkdir(exist_ok=True)
    ckan = str(version.bin / "ckan")
    if not version.ini.exists():
        run([ckan, "generate", "config", str(version.ini)], log, cwd=HOME)
        version.ini.chmod(0o600)
    options = [f"{name}={value}" for name, value in site_settings(version).items()]
    run([ckan, "config-tool", str(version.ini), *options], log, cwd=HOME)
    written.write_text(settings)
    return "written"


def write_test_inis(version: Version) -> str:
    """test.ini pointed at this version's databases; and one with core's DataStore on PostgreSQL."""
    _write_ini(version.test_ini, REPOSITORY / "test.ini", place_settings(version.tests))
    core = {
        "ckan.plugins": "datastore datatables_view text_view",
        "ckan.datastore.write_url": postgresql_url("ckan", version.core_datastore),
        "ckan.datastore.read_url": postgresql_url("datastore_ro", version.core_datastore),
    }
    _write_ini(version.core_ini, version.test_ini, core)
    return f"{version.test_ini.name}, {version.core_ini.name}"


def _write_ini(path: Path, base: Path, settings: dict[str, str]) -> None:
    lines = [
        "[app:main]",
        f"use = config:{base}",
        *(f"{key} = {value}" for key, value in settings.items()),
    ]
    logging = base.read_text().partition("[loggers]")
    path.write_text("\n".join([*lines, "", *logging[1:]]))


def make_bigquery_dataset(dataset: str, location: str) -> str:
    """The BigQuery dataset of the demo site, as its operator would make it."""
    datasets = f"{BIGQUERY_URL}/bigquery/v2/projects/{PROJECT}/datasets"
    try:
        with urllib.request.urlopen(f"{datasets}/{dataset}", timeout=30):
            return f"{dataset} is there"
    except urllib.error.HTTPError as err:
        if err.code != 404:
            raise StackError(f"The BigQuery emulator refuses {err.url}: {err}") from err
    body = {"datasetReference": {"projectId": PROJECT, "datasetId": dataset}, "location": location}
    request = urllib.request.Request(
        datasets, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30):
        return f"{dataset} made in {location}"


def seed(version: Version, log: Path) -> str:
    """Tables, users, organisations, datasets and API tokens of the demo site, once."""
    tokens = _tokens_file(version)
    if tokens.exists() and json.loads(tokens.read_text()).keys() >= {"CKAN_EDITOR_PASSWORD"}:
        return "up to date"
    command = [str(version.bin / "python"), str(REPOSITORY / "dev" / "seed.py"), str(tokens)]
    run(
        [str(version.bin / "ckan"), "-c", str(version.ini), "db", "init"],
        log,
        env=EMULATORS,
        cwd=HOME,
    )
    run(command, log, env={**EMULATORS, "CKAN_INI": str(version.ini)}, cwd=HOME)
    return "users, organisations and datasets made"


def write_env(version: Version, *, site: bool) -> Path:
    """Shell files: .stack/env-<version>, and .stack/env for the version whose site is up."""
    tokens = _tokens_file(version)
    values = {
        "CKAN_INI": str(version.ini),
        "CKAN_URL": SITE_URL,
        **EMULATORS,
        **(json.loads(tokens.read_text()) if tokens.exists() else {}),
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    lines.append(f'export PATH={shlex.quote(str(version.bin))}:"$PATH"')
    paths = [HOME / f"env-{version.short}"]
    if site or not (HOME / "env").exists():
        paths.append(HOME / "env")
    for path in paths:
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n")
    return paths[-1]


def _tokens_file(version: Version) -> Path:
    return version.folder / "tokens.json"
