"""Each call of our storage, healthy and with each fault: the right answer, or an error of ours.

With `make torture STORAGE=http://…`, the address of Google's storage-testbench, the same is asked
of that server, and what came of it compared: an emulator that is kinder than Google shows.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.dump.objects import Headers, StoredObject
from ckanext.bigquery_datastore.dump.storage import Store, checksum
from ckanext.bigquery_datastore.errors import OutsideError
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.torture.budget import tried_in_time
from ckanext.bigquery_datastore.tests.torture.storages import Emulator, Server, Testbench

HEADERS = Headers("text/csv", 'attachment; filename="x.csv"', {"rows": "7"})
DATA = bytes(range(256)) * 2048  # 512 KiB, more than any fault waits for
WHOLE = checksum(DATA)

FAULTS = (
    *("return-400", "return-401", "return-403", "return-404", "return-408", "return-412"),
    *("return-429", "return-500", "return-502", "return-503", "return-504"),
    *("return-503-after-256K", "return-reset-connection"),
    *("return-broken-stream", "return-broken-stream-final-chunk-after-1024B"),
    *("stall-for-1s-after-0K", "stall-for-1s-after-256K"),
)

#: What no second try can mend; of the others, nobody hears anything.
FINAL = ("return-400", "return-401", "return-403", "return-404", "return-412")

#: What an object is told to be after an answer that was cut: the testbench adds notes of its own to
#: its metadata, so that it is another one than was sent.
NOTED = {("create", "return-broken-stream"), ("create in the place of", "return-broken-stream")}


@dataclasses.dataclass(frozen=True)
class Call:
    """One operation of ours, and which of Google's methods it is done by.

    :param healthy: what it gives where nothing goes wrong
    :param ours_alone: why the testbench is not asked
    """

    method: str
    work: Callable[[Store, StoredObject], Any]
    healthy: Any
    ours_alone: str = ""


def replaced(store: Store, found: StoredObject) -> StoredObject:
    """The object as it was before somebody wrote it anew."""
    store.create("a", b"newer", HEADERS, found.generation)
    return found


def gone(store: Store, found: StoredObject) -> StoredObject:
    store.delete([found])
    return found


def as_sent(found: StoredObject | None) -> Any:
    """What a server tells of an object, as far as it can be the same on two of them."""
    # The testbench notes how an object came to it among its metadata.
    return found and (
        found.name,
        found.size,
        found.crc32c,
        {
            key: value
            for key, value in found.metadata.items()
            if not key.startswith(("x_emulator", "x_testbench"))
        },
    )


A = ("a", len(DATA), WHOLE[0], {"rows": "7"})

CALLS: dict[str, Call] = {
    "find": Call("storage.objects.get", lambda store, a: as_sent(store.find("a")), A),
    "find what is not there": Call("storage.objects.get", lambda store, a: store.find("b"), None),
    "list": Call("storage.objects.list", lambda store, a: [*map(as_sent, store.list("a"))], [A]),
    "list nothing": Call("storage.objects.list", lambda store, a: store.list("b/"), []),
    "read a part": Call(
        "storage.objects.get", lambda store, a: store.read_range(a, 5, 300_000), DATA[5:300_001]
    ),
    "read what was replaced": Call(
        "storage.objects.get",
        lambda store, a: store.read_range(replaced(store, a), 0, 9),
        "Gone",
        "it keeps what was replaced, as a bucket with versions does",
    ),
    "create": Call(
        "storage.objects.insert",
        lambda store, a: as_sent(store.create("new", DATA, HEADERS)),
        ("new", *A[1:]),
    ),
    "create from a file": Call(
        "storage.objects.insert",
        lambda store, a: as_sent(store.create("new", io.BytesIO(DATA), HEADERS)),
        ("new", *A[1:]),
    ),
    "create where something is": Call(
        "storage.objects.insert", lambda store, a: store.create("a", b"other", HEADERS), "Taken"
    ),
    "create in the place of": Call(
        "storage.objects.insert",
        lambda store, a: store.create("a", b"newer", HEADERS, a.generation).size,
        5,
    ),
    "compose": Call(
        "storage.objects.compose",
        lambda store, a: store.compose("new", [a, a], HEADERS).size,
        2 * len(DATA),
    ),
    "compose what is gone": Call(
        "storage.objects.compose",
        lambda store, a: store.compose("new", [gone(store, a)], HEADERS),
        "Gone",
    ),
    "compose where something is": Call(
        "storage.objects.compose",
        lambda store, a: as_sent(store.compose("a", [a, a], HEADERS)),
        A,
    ),
    "renew": Call(
        "storage.objects.patch", lambda store, a: store.renew(a).generation == a.generation, True
    ),
    "renew what is gone": Call(
        "storage.objects.patch", lambda store, a: store.renew(gone(store, a)), "Gone"
    ),
    # How many were deleted is not known where the answer is lost.
    "delete": Call(
        "storage.objects.delete", lambda store, a: as_sent(store.find(gone(store, a).name)), None
    ),
    "delete what was replaced": Call(
        "storage.objects.delete", lambda store, a: store.delete([replaced(store, a)]), 0
    ),
}


@pytest.fixture
def servers(own_emulator: OwnEmulator, pytestconfig: pytest.Config) -> list[Server]:
    url = pytestconfig.getoption("--storage")
    return [Emulator(own_emulator), *([Testbench(url.rstrip("/"))] if url else [])]


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fault passes with its first request, or never: no call has to be waited for long."""
    monkeypatch.setattr(clients, "CALL_SECONDS", 8)
    yield


def outcome(server: Server, call: Call, fault: str | None) -> tuple[Any, list[Any]]:
    """What the call gave, or the error of ours that it raised; and what is in the bucket then."""
    store = server.store()
    a = store.create("a", DATA, HEADERS)
    if fault:
        server.fault(store, call.method, fault)
    try:
        answer = call.work(store, a)
    except OutsideError as err:
        assert str(err)
        answer = type(err).__name__
    server.mend(store)
    return answer, [*map(as_sent, store.list(""))]


#: Refusals that are answers: it is not there, or another one is; a deletion leaves it then.
SAID = {("find", "return-404"): None, ("delete", "return-404"): A, ("delete", "return-412"): A}


def expected(name: str, fault: str) -> list[Any]:
    """What may come of it: of what passes, nothing is heard."""
    call = CALLS[name]
    if (name, fault) in SAID:
        return [SAID[name, fault]]
    if fault in FINAL:
        told = ("Gone", "Taken", "OutsideError", "PermissionMissing", "NotReachable")
        return [call.healthy, *told, "ComposeRefused"]
    if fault == "return-broken-stream" and call.healthy == "Gone":
        return ["Gone", "NotReachable"]  # a refusal that is cut is no answer
    return [call.healthy]


def test_each_call_is_answered_alike_by_both(servers, ledger) -> None:
    """Without faults, on each server, whatever is compared."""
    states = {}
    for name, call in CALLS.items():
        for server in servers[:1] if call.ours_alone else servers:
            answer, state = outcome(server, call, None)
            assert (answer, states.setdefault(name, state)) == (call.healthy, state), (server, name)
    names = " and ".join(server.name for server in servers)
    ledger.add("calls of the storage in good health", len(CALLS), 0, names)


def test_each_fault_of_googles_testbench_is_overcome_or_told(servers, ledger, seconds) -> None:
    pairs = [(name, fault) for name in CALLS for fault in FAULTS]
    healthy = {name: outcome(servers[0], call, None)[1] for name, call in CALLS.items()}
    tried, seen, wrong, differing = 0, 0, [], []

    def one(pair: tuple[str, str]) -> None:
        nonlocal tried, seen
        name, fault = pair
        call = CALLS[name]
        asked = servers[:1] if call.ours_alone or (name, fault) in NOTED else servers
        found = [outcome(server, call, fault) for server in asked]
        tried += len(found)
        for server, (answer, state) in zip(asked, found, strict=True):
            seen += answer == call.healthy
            is_left = fault in FINAL or state == healthy[name]
            if answer not in expected(name, fault) or not is_left:
                wrong.append((server.name, name, fault, answer, state))
        if any(one != found[0] for one in found):
            differing.append((name, fault, *found))

    tried_in_time(one, pairs, seconds(3, 30))
    ours = "ours alone" if len(servers) == 1 else f"{len(differing)} differ on the testbench"
    ledger.add(
        "calls of the storage × faults of Google's testbench",
        tried,
        len(wrong),
        f"{seen:,} overcome, the others told; {ours}",
    )
    assert wrong == []
    assert differing == []
