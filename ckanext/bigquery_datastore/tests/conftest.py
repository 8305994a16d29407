"""What the tests stand on: the running stack (`make services`), real sites and a real browser.

Fixtures
    datastore        an empty BigQuery dataset and export bucket, once a session
    nothing_remembered   this process forgets what it has heard of tables and files
    start_site       starts CKAN as a process of its own, with options of the test's choice
    live_site        one such site with the tests' own options, for browsers and curl
    core_site        the same CKAN with core's DataStore on PostgreSQL, to compare with
    own_emulator     an emulator beside the stack's, for faults and switches; own_site: CKAN on it
    browser, page    Debian's Chromium; a page has no cookies and keeps its downloads apart

CKAN's own fixtures (clean_db, with_plugins, app, factories …) are there as in any extension.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from ckanext.bigquery_datastore.tests import pace
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

STACK = Path(__file__).resolve().parents[3] / ".stack"

# The emulators need Python 3.11: their own tests run where they can be imported.
collect_ignore = ["emulator"] if sys.version_info < (3, 11) else []

# What knows little of CKAN, and takes its time: `.ci/run` runs it for one of CKAN's versions. The
# lists and the versions end at about the same time: 2.11, which has the second, begins later.
ONCE = (
    "backend/search/test_generated.py",
    "backend/search/test_floats.py",
    "backend/sql/test_generated.py",
    "backend/sql/test_as_in_postgresql.py",
    "backend/sql/test_check.py",
    "backend/sql/test_read_by_google.py",
    "backend/table/test_evaluated.py",
    "backend/table/test_floats.py",
    "backend/test_differential.py",
    "backend/test_job.py",
    "backend/write/test_statements.py",
    "dump/test_geo.py",
    "dump/test_identities.py",
    "dump/test_slices.py",
    "dump/test_stream",
    "dump/test_wide.py",
    "load/test_awkward.py",
    "load/test_load_faults.py",
    "load/test_reload.py",
    "test_every_type.py",
    "torture/",
)
ONCE_ELSEWHERE = (
    "dump/test_engine.py",
    "dump/test_faults.py",
    "dump/test_parquet",
    "dump/test_ranges.py",
    "dump/test_storage_faults.py",
    "dump/test_thrift.py",
    "dump/test_transform.py",
    "emulator/",
    "load/test_load.py",
    "test_docs.py",
    "test_google.py",
    "test_hostile.py",
)

# Google's clients look here. `. .stack/env` says otherwise where the stack's ports were moved.
os.environ.setdefault("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9050")
os.environ.setdefault("STORAGE_EMULATOR_HOST", "http://127.0.0.1:4443")
# A `ckan` that a test starts without an ini must not find the demo site.
os.environ.pop("CKAN_INI", None)

CHROMIUM = [
    "--headless",
    "--no-sandbox",  # which root and containers cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# What runs a site: CKAN's own server for development, and, as portals do it, WSGI and ASGI.
SERVERS = {
    "ckan run": [
        *("ckan", "-c", "{ini}", "run", "--host", "127.0.0.1", "--port", "{port}"),
        *("--disable-reloader", "--threaded"),
    ],
    "gunicorn": [
        *("gunicorn", "--chdir", "{dev}", "--bind", "127.0.0.1:{port}", "--threads", "8"),
        *("--no-control-socket", "wsgi:application"),
    ],
    "uvicorn": [
        *("uvicorn", "ckanext.bigquery_datastore.asgi:application"),
        *("--host", "127.0.0.1", "--port", "{port}", "--loop", "asyncio"),
        *("--timeout-graceful-shutdown", "2"),
    ],
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("torture", "the worst day (tests/torture)")
    group.addoption(
        "--minutes",
        type=float,
        default=0,
        help="try as much as so many minutes allow on two cores; a short form without",
    )
    group.addoption("--storage", metavar="URL", help="Google's storage-testbench, to compare")
    group.addoption("--ledger", metavar="FILE", help="write what was tried into this page")


def pytest_configure(config: pytest.Config) -> None:
    """Take the ini that the stack wrote for the CKAN version under test, where there is one."""
    if getattr(config.option, "ckan_ini", None) == "test.ini":
        written = stack_ini("")
        if written.exists():
            config.option.ckan_ini = str(written)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Stop with one sentence where the stack is down: CKAN would say it with a stack trace."""
    ini = getattr(session.config.option, "ckan_ini", None)
    if ini is None:
        return
    pace.keep()
    options = configparser.RawConfigParser()
    # Later files win: the stack's ini stands on test.ini.
    options.read([session.config.rootpath / "test.ini", ini])
    addresses = {
        "PostgreSQL": os.environ.get("CKAN_SQLALCHEMY_URL")
        or options.get("app:main", "sqlalchemy.url"),
        "Solr": os.environ.get("CKAN_SOLR_URL") or options.get("app:main", "solr_url"),
        "Redis": os.environ.get("CKAN_REDIS_URL") or options.get("app:main", "ckan.redis.url"),
        "the BigQuery emulator": os.environ["BIGQUERY_EMULATOR_HOST"],
        "the Cloud Storage emulator": os.environ["STORAGE_EMULATOR_HOST"],
    }
    for name, address in addresses.items():
        if not _answers(address):
            pytest.exit(f"{name} does not answer at {address}: run `make services` first.", 3)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    with pace.until(nextitem):
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        path = item.path.relative_to(here).as_posix()
        if path.startswith(ONCE):
            item.add_marker(pytest.mark.once)
        if path.startswith(ONCE_ELSEWHERE):
            item.add_marker(pytest.mark.once_elsewhere)


@pytest.fixture(scope="session", autouse=True)
def _assets_of_this_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sites that tests start write the list of built assets, too: one forgets another's."""
    from ckan.common import config

    config["ckan.webassets.path"] = str(tmp_path_factory.mktemp("webassets"))


@pytest.fixture(scope="session")
def datastore() -> None:
    """The tests' BigQuery dataset and export bucket, both empty."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery, storage

    from ckanext.bigquery_datastore import config as options

    project, dataset = options.project(), options.dataset()
    with bigquery.Client(project=project, credentials=AnonymousCredentials()) as client:
        client.delete_dataset(dataset, delete_contents=True, not_found_ok=True)
        empty = bigquery.Dataset(f"{project}.{dataset}")
        empty.location = options.location()
        client.create_dataset(empty)
    google = storage.Client(project=project, credentials=AnonymousCredentials())
    bucket = google.bucket(options.export_bucket())
    if bucket.exists():
        for blob in bucket.list_blobs():
            blob.delete()
    else:
        google.create_bucket(bucket, location=options.location())


@pytest.fixture
def heard_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures told as sysadmins hear them: with what the log says."""
    from ckanext.bigquery_datastore import gist

    monkeypatch.setattr(gist, "_may_hear_all", lambda: True)


@pytest.fixture
def nothing_remembered() -> None:
    """A process that has heard nothing of Google yet."""
    from ckanext.bigquery_datastore import downloads

    for remembered in (downloads.TABLES, downloads.FILES):
        remembered.clear()


@dataclass(frozen=True)
class Site:
    """A CKAN process that answers."""

    url: str
    ini: Path
    log: Path
    process: subprocess.Popen[bytes]

    def said(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-60:])


class Sites:
    """Starts CKAN processes, and ends those it started."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self.folders = folders
        self.started: list[Site] = []

    def __call__(
        self,
        options: Mapping[str, str] | None = None,
        *,
        base: Path | None = None,
        env: Mapping[str, str] | None = None,
        server: str = "ckan run",
    ) -> Site:
        folder = self.folders.mktemp("site")
        site = _run_site(folder, options or {}, base, env or {}, SERVERS[server])
        self.started.append(site)
        _await(site)
        return site

    def end(self) -> None:
        for site in self.started:
            _end(site)


@pytest.fixture(scope="session")
def _sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    sites = Sites(tmp_path_factory)
    yield sites
    sites.end()


@pytest.fixture
def start_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Start a CKAN process: ``start_site({"ckan.option": "value"}, env={…})``.

    It ends with the test. ``base`` is the ini that it stands on, the tests' own by default;
    ``server`` one of ``SERVERS``.
    """
    sites = Sites(tmp_path_factory)
    yield sites
    sites.end()


@pytest.fixture(scope="session")
def live_site(_sites: Sites, datastore: None) -> Site:
    """A site with the tests' options, on the tests' database: what a test makes, visitors see."""
    return _sites()


@pytest.fixture(scope="session")
def core_site(_sites: Sites) -> Site:
    """CKAN core's own DataStore, on PostgreSQL; all else as in ``live_site``."""
    return _sites(base=stack_ini("-postgresql"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, with a profile of its own.

    By module, not by session: while Playwright's synchronous interface is open, no test of the
    same thread can run an event loop.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or "/usr/bin/chromium", args=CHROMIUM
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a visitor who was never here before."""
    context = browser.new_context(accept_downloads=True)
    yield context.new_page()
    context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show what a test's sites said when it failed."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            started = isinstance(value, Sites) and name == "start_site"
            sites = [value] if isinstance(value, Site) else value.started if started else []
            for site in sites:
                report.sections.append((f"log of {name} ({site.log})", site.said()))
    return report


def stack_ini(variant: str) -> Path:
    import ckan

    version = ".".join(ckan.__version__.split(".")[:2])
    lane = os.environ.get("STACK_LANE")
    return STACK / f"test-{version}{f'-{lane}' if lane else ''}{variant}.ini"


def _run_site(
    folder: Path,
    options: Mapping[str, str],
    base: Path | None,
    env: Mapping[str, str],
    server: Sequence[str],
) -> Site:
    from ckan.common import config

    url = f"http://127.0.0.1:{_free_port()}"
    base = (base or Path(config["__file__"])).resolve()
    settings = {
        "use": f"config:{base}",
        "ckan.site_url": url,
        "ckan.storage_path": str(folder / "storage"),
        **options,
    }
    ini, log = folder / "ckan.ini", folder / "ckan.log"
    lines = [f"{key} = {value}" for key, value in settings.items()]
    # CKAN 2.11 looks for logging sections in the last file of a chain only.
    logging = base.read_text().partition("[loggers]")
    ini.write_text("\n".join(["[app:main]", *lines, "", *logging[1:]]))
    program, *arguments = (
        part.format(ini=ini, port=urlsplit(url).port, dev=STACK.with_name("dev")) for part in server
    )
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "CKAN_INI": str(ini), **env},
            cwd=folder,
        )
    return Site(url, ini, log, process)


def _await(site: Site, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while site.process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{site.url}/api/3/action/status_show", timeout=30):
                return
        except urllib.error.HTTPError:
            break
        except OSError:
            time.sleep(0.2)
    _end(site)
    pytest.fail(f"CKAN did not start ({site.log}):\n{site.said()}", pytrace=False)


def _end(site: Site) -> None:
    site.process.terminate()
    try:
        site.process.wait(20)
    except subprocess.TimeoutExpired:
        site.process.kill()
        site.process.wait()


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


def _answers(address: str) -> bool:
    url = urlsplit(address)
    ports = {"postgresql": 5432, "redis": 6379}
    try:
        port = url.port or ports.get(url.scheme, 80)
        socket.create_connection((url.hostname, port), timeout=3).close()
    except OSError:
        return False
    return True


# --- an emulator whose faults are the tests' own


@pytest.fixture(scope="session")
def _own_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEmulator]:
    emulator = OwnEmulator(tmp_path_factory.mktemp("own-emulator"))
    yield emulator
    emulator.end()


@pytest.fixture
def own_emulator(
    _own_emulator: OwnEmulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OwnEmulator]:
    """The emulator in good order; Google's clients that are built in the test talk to it."""
    for name, address in _own_emulator.environment.items():
        monkeypatch.setenv(name, address)
    yield _own_emulator
    _own_emulator.admin("POST", "reset")


@pytest.fixture
def own_site(
    own_emulator: OwnEmulator, with_plugins: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OwnEmulator]:
    """CKAN as in any other test, but its Google is the tests' own emulator."""
    from ckan.plugins import toolkit as tk
    from google.api_core.exceptions import Conflict
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery, storage

    from ckanext.bigquery_datastore import clients, config, downloads

    def anew() -> None:
        clients.forget()
        for remembered in (downloads.TABLES, downloads.FILES):
            remembered.clear()

    for option in (config.CREDENTIALS, config.CREDENTIALS_RO):
        monkeypatch.setitem(tk.config, option, str(own_emulator.key_file))
    anew()
    project, anybody = config.project(), AnonymousCredentials()
    dataset = bigquery.Dataset(f"{project}.{config.dataset()}")
    dataset.location = config.location()
    bigquery.Client(project, credentials=anybody).create_dataset(dataset, exists_ok=True)
    with contextlib.suppress(Conflict):
        storage.Client(project, credentials=anybody).create_bucket(
            config.export_bucket(), location=config.location()
        )
    own_emulator.forget_requests()
    yield own_emulator
    own_emulator.mend()
    anew()
