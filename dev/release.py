"""What would go to a package index: built, checked, installed into empty venvs, tried.

    make release-check

Sdist and wheel are built from what git has, and each is installed with the CKAN of the stack, from
the package index, into a venv that holds nothing else. There the plugin is loaded, the commands
are listed, and all that is not Python is found.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from layout import REPOSITORY, VERSIONS

SMOKE = """
from importlib.metadata import entry_points, metadata
from importlib.resources import files

(plugin,) = entry_points(group="ckan.plugins", name="bigquery_datastore")
assert plugin.load().__name__ == "BigQueryDatastorePlugin"
root = files("ckanext.bigquery_datastore")
for name in ("config_declaration.yaml", "templates/package/resource_read.html",
             "assets/webassets.yml", "i18n/de/LC_MESSAGES/ckanext-bigquery_datastore.mo"):
    assert root.joinpath(name).is_file(), name
from ckanext.bigquery_datastore.cli import bigquery
told = metadata("ckanext-bigquery-datastore")
print(told["Name"], told["Version"], "with", len(bigquery.commands), "commands")
"""


def main() -> None:
    ckan = VERSIONS[os.environ.get("STACK_CKAN", "2.12")]
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        folder = Path(name)
        source, built = folder / "source", folder / "built"
        run("git", "clone", "--quiet", REPOSITORY, source)
        run(sys.executable, "-m", "build", "--outdir", built, source)
        run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())
        for artifact in sorted(built.iterdir()):
            venv = folder / f"venv-{artifact.suffix[1:]}"
            run(sys.executable, "-m", "venv", venv)
            python = venv / "bin/python"
            run(python, "-m", "pip", "install", "-q", f"ckan[requirements]=={ckan}", artifact)
            # From a folder where nothing of the repository is in the way.
            said = run(python, "-c", SMOKE, cwd=folder)
            print(f"{artifact.name}: {said.strip()}, CKAN {ckan}")


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:4]))} …\n{done.stdout}{done.stderr}")
    return done.stdout


main()
