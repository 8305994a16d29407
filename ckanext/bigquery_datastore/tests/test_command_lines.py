"""The lines for curl in README and docs, run as they stand there: only the names are ours."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.tests.test_docs import command_lines

pytestmark = pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")

LINES = sorted({" ".join(line.split()) for line in command_lines() if line.startswith("curl ")})


def test_each_line_brings_what_the_text_beside_it_says(start_site: Any, tmp_path: Path) -> None:
    id = factories.Resource()["id"]
    names = {"city": "text", "date": "date", "value": "int"}
    call_action(
        "datastore_create",
        resource_id=id,
        force=True,
        fields=[{"id": name, "type": type_} for name, type_ in names.items()],
        records=[{"city": "Vienna", "date": "2024-05-06", "value": 1}, {"city": "Graz"}],
    )
    token = str(factories.APIToken(user=factories.User()["name"])["token"])
    site = start_site({config.DUMP_SQL_ENABLED: "true"})
    assert len(LINES) > 6
    for number, line in enumerate(LINES):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = line.replace("https://portal.example", site.url).replace("RESOURCE", id)
        done = subprocess.run(
            ["bash", "-c", command.replace("curl ", "curl --fail -sS ", 1)],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "TOKEN": token},
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, (line, done.stderr)
        written = [file.read_bytes() for file in folder.iterdir()] or [done.stdout]
        if "/status" in line:
            assert b'"state"' in written[0], line
        elif "parquet" in line:
            assert written[0][:4] == written[0][-4:] == b"PAR1", line
        else:
            known = b"2024-05-06" if "fields=date" in line else b"Vienna"
            assert known in written[0] and b"<html" not in written[0], line
