"""Cloud Storage twice: our emulator, and Google's own server for tests of its clients.

googleapis/storage-testbench breaks answers by instructions that a request names by its header
``x-retry-test-id``; our emulator by rules, which know the same instructions. So the same can be
asked of both. It is in no registry of packages: whoever has it says where (`--storage URL`).
https://github.com/googleapis/storage-testbench#retry-test
"""

from __future__ import annotations

import json
import urllib.request
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from ckanext.bigquery_datastore.dump.storage import Store
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

RETRY_TEST = "x-retry-test-id"

#: The kinds of requests, by Google's names, as rules of the emulator.
METHODS: dict[str, dict[str, str]] = {
    "storage.objects.get": {"method": "GET", "path": r"/o/"},
    "storage.objects.list": {"method": "GET", "path": r"/o(\?|$)"},
    "storage.objects.insert": {"method": "POST|PUT", "path": "/upload/"},
    "storage.objects.compose": {"method": "POST", "path": "/compose"},
    "storage.objects.patch": {"method": "PATCH", "path": r"/o/"},
    "storage.objects.delete": {"method": "DELETE", "path": r"/o/"},
}


class Server(Protocol):
    """One that stores objects, and goes wrong when it is told to."""

    name: str

    def store(self) -> Store:
        """An empty bucket, of a client of its own."""
        ...

    def fault(self, store: Store, method: str, instruction: str) -> None:
        """The next request of this kind, by this client, meets that."""
        ...

    def mend(self, store: Store) -> None:
        """Nothing goes wrong any more."""
        ...


@dataclass
class Emulator:
    """Ours."""

    own: OwnEmulator
    name: str = "our emulator"

    def store(self) -> Store:
        return _store(self.own.storage_url)

    def fault(self, store: Store, method: str, instruction: str) -> None:
        self.own.fault(**METHODS[method], instruction=instruction, times=1)

    def mend(self, store: Store) -> None:
        self.own.mend()


@dataclass
class Testbench:
    """Google's."""

    url: str
    name: str = "storage-testbench"
    __test__ = False  # for pytest, which takes the name for a test's

    def store(self) -> Store:
        return _store(self.url)

    def fault(self, store: Store, method: str, instruction: str) -> None:
        wanted = {"instructions": {method: [instruction]}, "transport": "HTTP"}
        request = urllib.request.Request(
            f"{self.url}/retry_test",
            json.dumps(wanted).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            _session(store).headers[RETRY_TEST] = json.load(answer)["id"]

    def mend(self, store: Store) -> None:
        _session(store).headers.pop(RETRY_TEST, None)


def _session(store: Store) -> Any:
    return store.client._http


def _store(url: str) -> Store:
    client = storage.Client("local", AnonymousCredentials(), client_options={"api_endpoint": url})
    name = f"compared-{uuid.uuid4().hex[:12]}"
    client.create_bucket(name, location="EU")
    return Store(client, name)
