"""CKAN's own DataStore tests, as they are in the installed wheel, on this extension's backend.

    make core-suite                          CKAN 2.12 on BigQuery
    make core-suite CKAN=2.11
    make core-suite ARGS=--postgresql        the same tests on core's own backend, to tell a fault
                                             of the set-up from a difference of the backends
    make core-suite ARGS="--postgresql --excluded"    only those that are left out on BigQuery
    make core-suite ARGS="-k test_search"    further arguments are pytest's

Tests that are about PostgreSQL itself are named, with the reason, in core_suite_excluded.txt.
"""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from layout import HOME, Version

HERE = Path(__file__).resolve().parent
TESTS = "ckanext.datastore.tests"


def options(version: Version, is_postgresql: bool) -> dict[str, str]:
    """What CKAN's own test-core.ini sets for these tests, which the wheel does not carry."""
    shared = {
        "ckan.datastore.sqlsearch.enabled": "true",
        "ckan.datastore.sqlsearch.allowed_functions_file": str(functions_file(version)),
        "ckan.datapusher.api_token": "for-tests-only",
        "ckan.datapusher.url": "http://datapusher.test",
        "ckan.datapusher.formats": "csv xls xlsx tsv",
    }
    if is_postgresql:
        return {**shared, "ckan.plugins": "datastore"}
    return {
        **shared,
        "ckan.plugins": "bigquery_datastore datastore",
        # These tests read a download from the answer itself.
        "ckanext.bigquery_datastore.delivery": "stream",
        # Core ends the header of its CSV otherwise than its rows.
        "ckanext.bigquery_datastore.core_line_ends": "true",
        # Core names a file by its resource.
        "ckanext.bigquery_datastore.filename_template": "{resource_id}",
        # Some expect of a SELECT without an order that of PostgreSQL's storage.
        "ckanext.bigquery_datastore.job_labels": "emulator_order=stored",
    }


def functions_file(version: Version) -> Path:
    """The functions that core's search_sql allows; ours has a list of its own.

    The tests of CKAN 2.11 want ``count`` to be there in small letters only: in quotes.
    """
    core = Path(sysconfig.get_path("purelib")) / "ckanext/datastore/allowed_functions.txt"
    if version.short != "2.11":
        return core
    names = core.read_text().splitlines()
    path = HOME / "core-suite-functions.txt"
    path.write_text("".join('"count"\n' if name == "count" else f"{name}\n" for name in names))
    return path


def write_ini(version: Version, is_postgresql: bool) -> Path:
    base = version.core_ini if is_postgresql else version.test_ini
    written = configparser.RawConfigParser()
    written["app:main"] = {"use": f"config:{base}", **options(version, is_postgresql)}
    path = HOME / f"core-suite-{base.stem}.ini"
    with path.open("w") as file:
        written.write(file)
        # Sections of logging are not inherited.
        file.write((HERE.parent / "test.ini").read_text().split("WTF_CSRF_ENABLED = false\n")[1])
    return path


def main(arguments: list[str]) -> int:
    version = Version(os.environ.get("STACK_CKAN", "2.12"))
    is_postgresql = "--postgresql" in arguments
    rest = [argument for argument in arguments if argument not in ("--postgresql", "--excluded")]
    ini = write_ini(version, is_postgresql)
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider"]
    # By their own names, which core's sample plugins import them by, too.
    command += ["--import-mode=importlib", "-o", "consider_namespace_packages=true"]
    command += ["-p", "no:bqemulator", "-p", "core_suite_plugin", f"--ckan-ini={ini}"]
    command += ["-q", "--no-header", "-W", "ignore", "--pyargs", *(rest or []), TESTS]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
        "CORE_SUITE_BACKEND": "postgresql" if is_postgresql else "bigquery",
        "CORE_SUITE_SCRATCH": str(version.core_ini),
        "CORE_SUITE_ONLY_EXCLUDED": "yes" if "--excluded" in arguments else "",
    }
    # Outside the repository: its pyproject and conftest are not core's.
    return subprocess.run(command, cwd=HOME, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
