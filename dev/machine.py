"""What the machine must have: Debian's packages, and a Python that CKAN runs on."""

from __future__ import annotations

import glob
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# Debian package -> what shows that it is there: a program on PATH, or a file (a pattern).
FOR_SERVICES = {
    "postgresql": "/usr/lib/postgresql/*/bin/initdb",
    "redis-server": "redis-server",
    "openjdk-17-jdk-headless": "javac",
    "maven": "mvn",
    "chromium": "chromium",
    "fonts-liberation": "/usr/share/fonts/*/*",
    "nginx-light": "/usr/sbin/nginx",
    "curl": "curl",
}
FOR_CKAN = {
    # psycopg2 has no wheel for Linux: it is compiled here.
    "gcc": "gcc",
    "libc6-dev": "/usr/include/stdio.h",
    "libpq-dev": "/usr/include/postgresql/libpq-fe.h",
    "libmagic1": "/usr/lib/*/libmagic.so.1",
}

PYTHON_PACKAGES = ["python3", "python3-venv", "python3-dev"]

# Debian starts what it installs, and gives PostgreSQL a cluster: this stack brings its own.
INSTALL = """
set -e
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d
trap 'rm -f $clusters/none-for-the-stack.conf $placed' EXIT
if [ ! -e $policy ]; then
    placed=$policy
    printf '#!/bin/sh\\nexit 101\\n' > $policy
    chmod +x $policy
fi
mkdir -p $clusters
echo 'create_main_cluster = false' > $clusters/none-for-the-stack.conf
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
"""

# A Python for CKAN: a version it runs on, able to make a venv, with headers to compile psycopg2.
PYTHON_FITS = """
import ensurepip, pathlib, sys, sysconfig, venv
header = pathlib.Path(sysconfig.get_path("include"), "Python.h")
sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 12) and header.exists() else 1)
"""


class StackError(Exception):
    """Something that a person has to put right: a sentence that says what, and how."""


def install_for_ckan(log: Path) -> str:
    """A Python that CKAN runs on, and what its packages are compiled with."""
    return install(FOR_CKAN, log, [] if find_python() else PYTHON_PACKAGES)


def install_for_services(log: Path) -> str:
    return install(FOR_SERVICES, log)


def install(packages: Mapping[str, str], log: Path, also: Sequence[str] = ()) -> str:
    """Install what is missing with apt-get; where nothing is missing it is not even called."""
    missing = [*(name for name, proof in packages.items() if not _is_there(proof)), *also]
    if not missing:
        return "nothing missing"
    if not shutil.which("apt-get"):
        raise StackError(
            "This machine has no apt-get (the stack is made for Debian 12). "
            f"Install what is missing by hand: {' '.join(missing)}"
        )
    command = ["sh", "-c", INSTALL, "install", *missing]
    if os.geteuid() != 0:
        if not shutil.which("sudo"):
            raise StackError(f"Run as root, or once: apt-get install {' '.join(missing)}")
        command = ["sudo", "-E", *command]
    run(command, log, hint="apt-get must work on this machine: try `apt-get update` by hand.")
    return f"installed {' '.join(missing)}"


def find_python() -> str | None:
    """The interpreter for CKAN's venvs: $STACK_PYTHON, or the first that fits, Debian's before."""
    chosen = os.environ.get("STACK_PYTHON")
    names = ("/usr/bin/python3", "python3.12", "python3.11", "python3.10", "python3")
    for name in (chosen,) if chosen else names:
        # A pyenv shim is on PATH even for a version that is not there: only running it tells.
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", PYTHON_FITS], capture_output=True).returncode == 0:
            return path
    if chosen:
        raise StackError(
            f"STACK_PYTHON={chosen}: CKAN needs Python 3.10 to 3.12 with venv and headers."
        )
    return None


def user_of_postgresql() -> str | None:
    """The account PostgreSQL runs as: it refuses root, for anybody else it is that person."""
    return "postgres" if os.geteuid() == 0 else None


def can_enter(folder: Path) -> bool:
    """Whether any account may reach into the folder, as PostgreSQL's must."""
    return all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))


def run(
    command: Sequence[str],
    log: Path,
    *,
    hint: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    stdin: str = "",
) -> str:
    """Run a command, all it says into `log`; give back what it said.

    StackError with the log's last lines and `hint` when it fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = log.stat().st_size if log.exists() else 0
    with log.open("ab") as out:
        out.write(f"$ {shlex.join(command)}\n".encode())
        out.flush()
        started = out.tell()
        done = subprocess.run(
            command,
            input=stdin.encode(),
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
    with log.open("rb") as said:
        said.seek(started if done.returncode == 0 else start)
        text = said.read().decode(errors="replace")
    if done.returncode != 0:
        tail = "\n".join(f"    {line}" for line in text.splitlines()[-15:])
        raise StackError(f"`{command[0]}` failed ({log}):\n{tail}\n{hint}".rstrip())
    return text


def _is_there(proof: str) -> bool:
    return bool(glob.glob(proof)) if proof.startswith("/") else shutil.which(proof) is not None
