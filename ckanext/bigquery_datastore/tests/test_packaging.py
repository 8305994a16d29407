"""What people get from a package index: a wheel that carries all that is not Python, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGE = Path("ckanext", "bigquery_datastore")


@pytest.fixture(scope="module")
def files() -> dict[Path, bytes]:
    """The repository's files."""
    listed = run("git", "-C", REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard")
    names = [Path(name) for name in listed.splitlines() if (REPOSITORY / name).is_file()]
    return {name: (REPOSITORY / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def wheel(files: dict[Path, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a folder of its own: the tree stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name, content in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    built = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", built, source)
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def site_packages(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel landed in a venv that holds nothing else."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", wheel)
    return Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())


def test_the_wheel_carries_every_file_of_the_package(
    files: dict[Path, bytes], site_packages: Path
) -> None:
    ours = {name: content for name, content in files.items() if name.is_relative_to(PACKAGE)}
    installed = {name: site_packages / name for name in ours}
    assert {name for name, file in installed.items() if not file.is_file()} == set()
    assert {name: file.read_bytes() for name, file in installed.items()} == ours


@pytest.mark.parametrize(
    "pattern", ["*.yaml", "templates/**/*.html", "assets/**/*.js", "i18n/**/*.mo"]
)
def test_the_wheel_carries_what_is_not_python(site_packages: Path, pattern: str) -> None:
    assert list((site_packages / PACKAGE).glob(pattern))


def test_the_wheel_announces_the_plugin_to_ckan(wheel: Path, site_packages: Path) -> None:
    python = site_packages.parents[2] / "bin" / "python"
    question = (
        "from importlib.metadata import entry_points;"
        "print(*[point.value for point in entry_points(group='ckan.plugins')])"
    )
    plugin = "ckanext.bigquery_datastore.plugin:BigQueryDatastorePlugin"
    assert run(python, "-c", question).strip() == plugin


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
