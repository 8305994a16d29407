"""An emulator of the tests' own: what goes wrong in it harms nobody else.

own = OwnEmulator(folder)
own.fault(service="bigquery", method="POST", path="/jobs", status=503, times=3)
assert own.seen(path="/compose")["count"] == 2
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Requests of the tests' own look-outs carry this identity: no fault meets them.
WATCHER = "watcher"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def emulator_python() -> str:
    """The Python that runs the emulators: they need 3.11, where CKAN itself may run on 3.10."""
    return os.environ.get("EMULATOR_PYTHON", sys.executable)


class OwnEmulator:
    """The emulator as a process of its own."""

    def __init__(self, folder: Path) -> None:
        # A port that was free may be taken by the time that it is listened on.
        for _ in range(3):
            said = self._started(folder, free_port(), free_port())
            if not said:
                return
        raise AssertionError(said)

    def _started(self, folder: Path, *ports: int) -> str:
        """Start it; what it said, where it has ended instead."""
        self.bigquery_url, self.storage_url = (f"http://127.0.0.1:{port}" for port in ports)
        self.key_file = folder / "key.json"
        # A file: a pipe that nobody reads holds whoever writes to it, once it is full.
        said = folder / "emulator.log"
        with said.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(emulator_python(), "-m", "ckanext.bigquery_datastore.emulator"),
                    *("--bigquery-port", str(ports[0]), "--storage-port", str(ports[1])),
                    *("--credentials-file", str(self.key_file)),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        while self._process.poll() is None:
            if "\nData:" in said.read_text():
                return ""
            time.sleep(0.1)
        return said.read_text()

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    @property
    def environment(self) -> dict[str, str]:
        """Where Google's clients find it."""
        return {
            "BIGQUERY_EMULATOR_HOST": self.bigquery_url,
            "STORAGE_EMULATOR_HOST": self.storage_url,
        }

    def admin(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request to the emulator's own API."""
        request = urllib.request.Request(
            f"{self.bigquery_url}/emulator/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def fault(self, **rule: Any) -> int:
        """Put a rule into force; its number."""
        return self.admin("POST", "faults", {"identity": f"^(?!{WATCHER})", **rule})["id"]

    def met(self, number: int) -> int:
        """How often a rule has met a request."""
        rules = self.admin("GET", "faults")["faults"]
        return next(rule["met"] for rule in rules if rule["id"] == number)

    def mend(self) -> None:
        """Take every rule away."""
        self.admin("DELETE", "faults")

    def seen(self, **patterns: str) -> dict[str, Any]:
        """The requests whose parts match, without the look-outs'."""
        query = urllib.parse.urlencode(
            {"identity": f"^(?!{WATCHER})", "limit": 100_000, **patterns}
        )
        return self.admin("GET", f"requests?{query}")

    def forget_requests(self) -> None:
        self.admin("DELETE", "requests")

    def files(self, bucket: str) -> list[tuple[str, int, str]]:
        """Name, size and generation of every published file (``data.…``) of a bucket."""
        request = urllib.request.Request(
            f"{self.storage_url}/storage/v1/b/{bucket}/o?prefix=dumps/",
            headers={"Authorization": f"Bearer {WATCHER}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer).get("items", [])
        return [
            (item["name"], int(item["size"]), item["generation"])
            for item in found
            if item["name"].rpartition("/")[2].startswith("data.")
        ]

    @contextmanager
    def watched(self, bucket: str) -> Iterator[set[tuple[str, int, str]]]:
        """Every published file that was there at any time meanwhile."""
        files: set[tuple[str, int, str]] = set()
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.01):
                files.update(self.files(bucket))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield files
        finally:
            over.set()
            thread.join()
            files.update(self.files(bucket))
