"""What the storage testbench's faults do to each operation: the right thing, or a clear error."""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.dump import engine as engine_module
from ckanext.bigquery_datastore.dump.objects import Headers
from ckanext.bigquery_datastore.dump.state import Ready
from ckanext.bigquery_datastore.dump.storage import Gone, Store, Taken
from ckanext.bigquery_datastore.dump.stream import ByteRange, Patience, Source, open_stream
from ckanext.bigquery_datastore.errors import (
    BigQueryDatastoreError,
    NotReachable,
    OutsideError,
    PermissionMissing,
)
from ckanext.bigquery_datastore.tests.dump.exporting import Place, a_place
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

HEADERS = Headers("application/octet-stream")
DATA = bytes(range(256)) * 4096
ROWS = [{"name": f"name {number}"} for number in range(200)]
CSV = b"_id,name\n" + b"".join(b"%d,name %d\n" % (n + 1, n) for n in range(200))
HURRIED = Patience(connect=1, read=0.5, tries=3, pause=0.01)


@pytest.fixture
def place(own_emulator: OwnEmulator, monkeypatch: pytest.MonkeyPatch):
    """A bucket whose name has the word in it that Google's messages have, too."""
    monkeypatch.setattr(clients, "CALL_SECONDS", 2.0)
    name = uuid.uuid4().hex[:12]
    with a_place(f"bucket_{name}", f"my-bucket-exports-{name}") as place:
        yield replace(place, labels={"emulator_shards": "5"})
        own_emulator.mend()


def url_of(own: OwnEmulator, place: Place, name: str) -> str:
    own.admin("PUT", "switches", {"public_objects": True})
    return f"{own.storage_url}/{place.bucket}/{name}"


# --- what a 404 means


def test_an_object_that_is_missing_is_told_from_a_bucket_that_is_missing(place):
    part = place.store.create("part", b"x", HEADERS)
    place.store.delete([part])
    with pytest.raises(Gone):
        place.store.compose("whole", [part], HEADERS)
    with pytest.raises(Gone):
        place.store.read_range(part, 0, 0)
    nowhere = Store(place.storage, "no-such-" + place.bucket)
    with pytest.raises(PermissionMissing, match="bucket does not exist"):
        nowhere.list("")
    with pytest.raises(PermissionMissing, match="bucket does not exist"):
        nowhere.create("x", b"", HEADERS)


def test_a_shard_that_vanishes_before_the_compose_is_never_left_out(own_emulator, place):
    place.fill("t", ROWS, name="STRING")
    own_emulator.fault(
        path=r"/data\.csv/compose", status=404, message=f"No such object: {place.bucket}/part-1"
    )
    ready = place.advance(place.plan("t", "csv"))
    assert isinstance(ready, Ready) and len(ready.objects) == 1
    assert place.file("t", "csv") == CSV


# --- files in parts


def lost(store: Store, ready: Ready) -> None:
    store.delete([ready.objects[2]])


def all_lost(store: Store, ready: Ready) -> None:
    store.delete(ready.objects)


def changed(store: Store, ready: Ready) -> None:
    part = ready.objects[2]
    store.create(part.name, b"x" * part.size, HEADERS, part.generation)


@pytest.mark.parametrize("harm", [lost, all_lost, changed])
def test_a_file_in_parts_that_are_not_all_there_any_more_is_exported_anew(
    place, monkeypatch, harm: Callable[[Store, Ready], None]
):
    monkeypatch.setattr(engine_module, "OBJECT_LIMIT", 100)
    place.fill("t", ROWS, name="STRING")
    ready = place.advance(place.plan("t", "csv"))
    assert isinstance(ready, Ready) and len(ready.objects) > 3
    harm(place.store, ready)
    assert place.file("t", "csv") == CSV
    again = place.advance(place.plan("t", "csv"))
    assert isinstance(again, Ready) and again.cached and again.size == len(CSV)
    assert len(place.export_jobs()) == 2


# --- a lost or cut answer of a write

ANSWERS = {
    "lost": {"drop": True, "times": 1},
    "refused afterwards": {"status": 503, "times": 1},
    "cut": {"truncate": 20, "times": 1},
    "lost for good": {"drop": True, "times": 0},
}


@pytest.mark.parametrize("how", list(ANSWERS))
@pytest.mark.parametrize("kind", ["bytes", "an open file"])
def test_an_upload_whose_answer_does_not_arrive_is_known_to_be_there(
    own_emulator, place, how, kind
):
    when = {} if "truncate" in ANSWERS[how] else {"when": "after"}
    path = {"bytes": "uploadType=multipart", "an open file": "upload_id="}[kind]
    own_emulator.fault(path=path, **ANSWERS[how], **when)
    data = DATA if kind == "bytes" else io.BytesIO(DATA)
    found = place.store.create("whole", data, replace(HEADERS, metadata={"a": "b"}))
    assert found.size == len(DATA)
    assert place.storage.bucket(place.bucket).blob("whole").download_as_bytes() == DATA


def test_what_somebody_else_wrote_is_not_taken_for_ours(place):
    place.store.create("whole", b"one", HEADERS)
    with pytest.raises(Taken):
        place.store.create("whole", b"two", HEADERS)
    assert issubclass(Taken, OutsideError) and issubclass(Gone, OutsideError)


@pytest.mark.parametrize("operation", ["find", "list", "read_range"])
def test_a_failed_precondition_of_a_read_is_an_error_of_ours(own_emulator, place, operation):
    found = place.store.create("a", b"abc", HEADERS)
    own_emulator.fault(method="GET", status=412, reason="conditionNotMet", times=0)
    arguments = {"find": ("a",), "list": ("a",), "read_range": (found, 0, 1)}
    with pytest.raises(OutsideError):
        getattr(place.store, operation)(*arguments[operation])


# --- the time that is left


@pytest.mark.parametrize("operation", ["create", "compose", "find", "list", "delete"])
def test_no_operation_outlasts_what_is_left_of_the_wait(own_emulator, place, operation):
    part = place.store.create("part", b"x", HEADERS)
    own_emulator.fault(delay=20, times=0)
    begun = time.monotonic()
    store = place.store.within(begun + 1)
    arguments = {
        "create": ("a", b"x", HEADERS),
        "compose": ("whole", [part], HEADERS),
        "find": ("part",),
        "list": ("",),
        "delete": ([part],),
    }
    with pytest.raises(NotReachable):
        getattr(store, operation)(*arguments[operation])
    # A call that knew no end of the wait would have taken eight seconds or more.
    assert time.monotonic() - begun < 7.5
    own_emulator.mend()


@pytest.mark.parametrize("call", [r"data\.csv/compose", "/upload/"])
def test_a_stalled_write_of_an_export_is_told_when_the_wait_is_over(
    own_emulator, place, monkeypatch, call
):
    place.fill("t", ROWS, name="STRING")
    plan = place.plan("t", "csv")
    own_emulator.fault(path=call, delay=20, times=0)
    begun = time.monotonic()
    with pytest.raises(NotReachable):
        place.engine().advance(plan, begun + 3, at_least=3)
    assert time.monotonic() - begun < 15
    own_emulator.mend()
    assert place.file("t", "csv") == CSV


# --- bytes that change on their way


def read(source: Source, span: ByteRange | None = None) -> bytes:
    with open_stream([source], span, HURRIED) as stream:
        return b"".join(stream)


def test_a_damaged_object_never_ends_like_a_whole_one(own_emulator, place):
    found = place.store.create("a", DATA, HEADERS)
    source = Source(
        url_of(own_emulator, place, "a"), found.size, found.generation, crc32c=found.crc32c
    )
    assert read(source) == DATA
    own_emulator.fault(path="/a", instruction="return-corrupted-data", times=1)
    got = b""
    with (
        pytest.raises(OutsideError, match="damaged"),
        open_stream([source], None, HURRIED) as stream,
    ):
        for chunk in stream:
            got += chunk
    assert 0 < len(got) < len(DATA)


def stream_of(own: OwnEmulator, place: Place, ready: Ready):
    sources = [
        Source(url_of(own, place, found.name), found.size, found.generation, crc32c=found.crc32c)
        for found in ready.objects
    ]
    return open_stream(sources, None, HURRIED)


@pytest.mark.parametrize("damaged", [0, 2, -1])
def test_a_damaged_part_never_lets_a_file_in_parts_end(own_emulator, place, monkeypatch, damaged):
    monkeypatch.setattr(engine_module, "OBJECT_LIMIT", 100)
    place.fill("t", ROWS, name="STRING")
    ready = place.advance(place.plan("t", "csv"))
    assert isinstance(ready, Ready) and len(ready.objects) > 3
    with stream_of(own_emulator, place, ready) as stream:
        assert b"".join(stream) == CSV
    own_emulator.fault(
        path=ready.objects[damaged].name, instruction="return-corrupted-data", times=1
    )
    got = b""
    with (
        pytest.raises(OutsideError, match="damaged"),
        stream_of(own_emulator, place, ready) as stream,
    ):
        for chunk in stream:
            got += chunk
    assert len(got) < len(CSV)


@pytest.mark.parametrize(("format_name", "end"), [("json", b"]}"), ("xml", b"</data>")])
def test_a_format_that_is_rewritten_has_no_end_where_its_object_is_damaged(
    own_emulator, place, format_name, end
):
    place.fill("t", [{"name": f"name {number}" * 50} for number in range(5000)], name="STRING")
    plan = place.plan("t", format_name)
    ready = place.advance(plan)
    assert isinstance(ready, Ready)
    with stream_of(own_emulator, place, ready).rewritten(plan.rewritten) as stream:
        assert b"".join(stream).rstrip().endswith(end)
    own_emulator.fault(path=ready.objects[0].name, instruction="return-corrupted-data", times=1)
    got = b""
    with (
        pytest.raises(BigQueryDatastoreError),
        stream_of(own_emulator, place, ready).rewritten(plan.rewritten) as stream,
    ):
        for chunk in stream:
            got += chunk
    assert not got.rstrip().endswith(end)


# --- the table: operation x fault

FAULTS = (
    "return-408",
    "return-429",
    "return-500",
    "return-503",
    "return-503-after-256K",
    "return-reset-connection",
    "return-broken-stream",
    "return-broken-stream-after-1K",
    "return-broken-stream-final-chunk-after-1024B",
    "stall-for-1s-after-0K",
    "return-400",
    "return-403",
    "return-412",
)


# What no second try can mend: of the others, nobody hears anything.
FINAL = ("return-400", "return-403", "return-412")


def whole_file(place: Place) -> None:
    assert place.file("t", "csv") == CSV


OPERATIONS: dict[str, Callable[[Store], object]] = {
    "find": lambda store: store.find("a"),
    "list": lambda store: [found.name for found in store.list("a")],
    "read_range": lambda store: store.read_range(store.find("a"), 0, 9),
    "create": lambda store: store.create("new", DATA, HEADERS).size,
    "create from a file": lambda store: store.create("new", io.BytesIO(DATA), HEADERS).size,
    "compose": lambda store: store.compose("new", [store.find("a")] * 2, HEADERS).size,
    "delete": lambda store: store.delete([store.find("a")]),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_an_operation_of_the_storage_gives_the_right_answer_or_an_error_of_ours(
    own_emulator, place, operation, fault
):
    place.store.create("a", b"0123456789", HEADERS)
    work = OPERATIONS[operation]
    own_emulator.fault(service="storage", instruction=fault, times=1)
    try:
        outcome = work(place.store)
    except OutsideError as err:
        assert fault in FINAL and str(err)
        return
    if operation.startswith("create"):
        assert outcome == len(DATA)
    if operation == "compose":
        assert outcome == 20
    if operation == "read_range":
        assert outcome == b"0123456789"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stream_gives_the_whole_object_or_breaks(own_emulator, place, fault):
    found = place.store.create("a", DATA, HEADERS)
    source = Source(
        url_of(own_emulator, place, "a"), found.size, found.generation, crc32c=found.crc32c
    )
    own_emulator.fault(path="/a", instruction=fault, times=1)
    try:
        assert read(source) == DATA
    except OutsideError:
        assert fault in FINAL


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["/upload/", "/compose", r"data\.csv", r"/o\?"])
def test_an_export_gives_the_whole_file_or_an_error_and_the_file_next(
    own_emulator, place, call, fault
):
    place.fill("t", ROWS, name="STRING")
    own_emulator.fault(service="storage", path=call, instruction=fault, times=1)
    try:
        whole_file(place)
    except OutsideError as err:
        assert fault in FINAL and str(err)
    own_emulator.mend()
    whole_file(place)
    assert len(place.export_jobs()) == 1
