"""The venv of one CKAN version: CKAN, the extension (editable), the emulators and the tools to develop it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from layout import REPOSITORY, Version
from machine import StackError, find_python, run

DECIDE_WHAT_IS_INSTALLED = (
    "pyproject.toml",
    "setup.py",
    "requirements.txt",
    "emulator-requirements.txt",
    "dev-requirements.txt",
)


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
    stamp.write_text(wanted)
    return f"CKAN {version.ckan} and the extension installed with {python}"


def _digest(version: Version) -> str:
    text = hashlib.sha256(version.ckan.encode())
    for name in DECIDE_WHAT_IS_INSTALLED:
        text.update((REPOSITORY / name).read_bytes())
    return text.hexdigest()
