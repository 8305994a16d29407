"""How long many shards take to become one object, where each call takes 40 ms on the network.

    python -m benchmarks.bench_compose [--small]

An emulator of the benchmark's own delays every call. The tree of composes is compared with the
chain that is found elsewhere: the file so far and the next 31 shards into the file, again and
again. A round is a call, or calls side by side, that has to wait for the one before. On Google the
chain is slower: one name can be written once a second (https://cloud.google.com/storage/quotas).
"""

from __future__ import annotations

import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from requests.adapters import HTTPAdapter

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.dump.assemble import compose_all
from ckanext.bigquery_datastore.dump.objects import COMPOSE_LIMIT, Headers, StoredObject
from ckanext.bigquery_datastore.dump.storage import Store
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

from .alone import run
from .report import Curve, Figure

DELAY = 0.04
SHARDS = (1, 32, 1_000, 10_000)
HEADERS = Headers(content_type="text/csv")


def a_store(own: OwnEmulator) -> Store:
    client = storage.Client("local", AnonymousCredentials())
    # As `clients` makes it: a connection for each of the threads.
    client._http.mount("http://", HTTPAdapter(pool_maxsize=clients.POOL_SIZE, pool_block=True))
    client.create_bucket("bench-compose")
    return Store(client, "bench-compose")


def shards_of(store: Store, count: int) -> list[StoredObject]:
    """As many as that: some objects again and again, which Cloud Storage allows."""
    made = [
        store.create(f"part-{n:012d}", b"%d,row\n" % n, HEADERS)
        for n in range(min(count, COMPOSE_LIMIT))
    ]
    return [made[n % len(made)] for n in range(count)]


def chain(store: Store, target: str, shards: Sequence[StoredObject]) -> StoredObject:
    """One name, composed again and again."""
    found = store.compose(target, shards[:COMPOSE_LIMIT], HEADERS)
    bucket = store.client.bucket(store.bucket)
    for first in range(COMPOSE_LIMIT, len(shards), COMPOSE_LIMIT - 1):
        blob = bucket.blob(target)
        parts = [bucket.blob(part.name) for part in shards[first : first + COMPOSE_LIMIT - 1]]
        blob.compose([bucket.blob(target), *parts], if_generation_match=found.generation)
        found = store.find(target) or found
    return found


def calls_of(own: OwnEmulator, folder: str) -> list[str]:
    """Whatever was composed, by name, in order."""
    seen = own.seen(service="storage", method="POST", path=f"{folder}.*compose")
    found = (re.search(r"/o/(.+)/compose", one["path"]) for one in seen["requests"])
    return [match[1] for match in found if match]


def measure(small: bool) -> Iterator[Figure | Curve]:
    lines: dict[str, list[tuple[float, float]]] = {"the tree": [], "the chain": []}
    with tempfile.TemporaryDirectory() as folder:
        own = OwnEmulator(Path(folder))
        os.environ.update(own.environment)
        try:
            store = a_store(own)
            for count in SHARDS[:3] if small else SHARDS:
                own.mend()
                shards = shards_of(store, count)
                name = uuid.uuid4().hex
                own.fault(service="storage", delay=DELAY, times=0)
                own.forget_requests()
                begun = time.monotonic()
                tree = compose_all(store, f"{name}/", f"{name}/data.csv", shards, HEADERS)
                of_tree = time.monotonic() - begun
                composes = calls_of(own, name)
                levels = {re.sub(r"\d{6}$", "", call) for call in composes}
                rounds = 1 + len(levels)  # and a list before
                own.forget_requests()
                begun = time.monotonic()
                chained = chain(store, f"{name}-chain/data.csv", shards)
                of_chain = time.monotonic() - begun
                links = len(calls_of(own, f"{name}-chain"))
                if (tree.size, tree.crc32c) != (chained.size, chained.crc32c):
                    raise AssertionError("The tree and the chain give other files.")
                lines["the tree"].append((count, of_tree))
                lines["the chain"].append((count, of_chain))
                yield Figure(
                    "shards become one file",
                    f"{count:,} shards, {1000 * DELAY:.0f} ms a call",
                    f"{rounds} rounds, {len(composes)} composes, {of_tree:.2f} s",
                    f"the chain: {links} rounds, {of_chain:.2f} s "
                    f"(on Google {max(links - 1, 0)} s at least)",
                    "≤ 4 rounds",
                    rounds <= 4,
                )
        finally:
            own.end()
    yield Curve(
        "Shards become one file",
        "shards",
        "seconds, at 40 ms a call",
        {name: points for name, points in lines.items()},
        "The chain is a straight line: a round for each 31 shards. The tree has a round more for "
        "each 32 times as many; what rises at its end are the composes of its lowest level, "
        f"{clients.POOL_SIZE} of which go side by side.",
    )


if __name__ == "__main__":
    run(measure, __doc__)
