"""What is done again and again, each time on its own, and what must be so afterwards."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.dump import sweep
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.torture.calls import Outcome, Workers

SLICED = "csv in slices"


class Thing(Protocol):
    """Something that is done, again and again, each time on its own."""

    name: str

    def begin(self) -> dict[str, Any]:
        """Prepare one; the order that has it done."""
        ...

    def check(self, order: Mapping[str, Any], again: Outcome) -> None:
        """That all is well after the next one has done it, too."""
        ...


@dataclass
class Export:
    """A table's file. Each one has a bucket of its own, and is labelled by its name."""

    own: OwnEmulator
    place: Place
    format: str
    slice_bytes: int
    content: bytes = b""
    jobs: int = 1

    @property
    def name(self) -> str:
        return f"export as {self.format}"

    def begin(self) -> dict[str, Any]:
        bucket = f"killed-{uuid.uuid4().hex[:12]}"
        self.place.storage.create_bucket(bucket, location="EU")
        is_sliced = self.format == SLICED
        return {
            "wish": "export",
            "dataset": self.place.dataset,
            "table": "t",
            "bucket": bucket,
            "format": "csv" if is_sliced else self.format,
            "labels": {"emulator_shards": "3", "killed": bucket},
            "set": {"dump.cuts:SLICE_BYTES": self.slice_bytes} if is_sliced else {},
        }

    def check(self, order: Mapping[str, Any], again: Outcome) -> None:
        bucket = order["bucket"]
        assert again.result is True
        files = self.own.files(bucket)
        assert len(files) == 1
        there = self.place.storage.bucket(bucket)
        content = there.blob(files[0][0]).download_as_bytes()
        if not self.content:
            self.content, self.jobs = content, self.run(bucket)
        assert content == self.content
        assert self.run(bucket) == self.jobs
        # What a killed one leaves is what a sweep takes away.
        store = Place(self.place.dataset, bucket).store
        sweep.sweep(store, "dumps/", dt.timedelta(0))
        left = sorted(found.name.rpartition("/")[2] for found in store.list(""))
        assert left[0] == "attempt" and len(left) == 2
        there.delete(force=True)

    def run(self, bucket: str) -> int:
        """How many exports BigQuery ran, and bills."""
        return self.own.admin("GET", f"jobs?label=killed:{bucket}")["count"]


@dataclass
class Rows:
    """Something that is done to a table; how its rows are afterwards, None where it is gone.

    ``settled``: what the next one may be told, as there was nothing left to do.
    """

    workers: Workers
    resources: SimpleQueue[str]
    name: str
    wish: Mapping[str, Any]
    before: Mapping[str, int] | None
    after: Mapping[str, int] | None
    settled: str = ""
    prepared: Sequence[Any] = ()

    def begin(self) -> dict[str, Any]:
        id = self.resources.get()
        store().delete_table(f"{config.dataset()}.{id}", not_found_ok=True)
        actions = [*self.prepared]
        if self.before is not None:
            actions.append(("datastore_create", created(self.before)))
        if actions:
            self.workers.done("act", actions=about(id, actions))
        order = {"resource": id, **self.wish}
        if "actions" in order:
            order["actions"] = about(id, order["actions"])
        return order

    def check(self, order: Mapping[str, Any], again: Outcome) -> None:
        assert not again.error or (self.settled and self.settled in again.error)
        id = order["resource"]
        if self.after is None:
            assert id not in {table.table_id for table in store().list_tables(config.dataset())}
        else:
            found = list(store().query_and_wait(f"SELECT _id, k, v FROM `{config.dataset()}.{id}`"))
            assert sorted((row["k"], row["v"]) for row in found) == sorted(self.after.items())
            assert len({row["_id"] for row in found}) == len(found)
        self.resources.put(id)


def store() -> bigquery.Client:
    return clients.bigquery_rw()


def about(id: str, actions: Sequence[Any]) -> list[Any]:
    return [(name, {"resource_id": id, "force": True, **data}) for name, data in actions]


def created(rows: Mapping[str, int]) -> dict[str, Any]:
    fields = [{"id": "k", "type": "text"}, {"id": "v", "type": "int"}]
    return {"fields": fields, "primary_key": "k", "records": records(rows)}


def records(rows: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"k": k, "v": v} for k, v in rows.items()]


OLD = {"a": 1, "b": 2, "c": 3}
# What was written is refused when it comes again.
WRITTEN = "duplicate key value violates unique constraint"
GONE = "NotFound"
STAGED = {"backend.write.records:PARAMETER_BYTES": 10}
UPSERTED = {"method": "upsert", "records": records({"b": 20, "d": 4})}
INSERTED = {"method": "insert", "records": records({"d": 4, "e": 5})}

WRITES: dict[str, dict[str, Any]] = {
    "datastore_create with records": {
        "wish": {"wish": "act", "actions": [("datastore_create", created(OLD))]},
        "before": None,
        "after": OLD,
        "settled": WRITTEN,
    },
    "an upsert that changes and adds": {
        "wish": {"wish": "act", "actions": [("datastore_upsert", UPSERTED)]},
        "before": OLD,
        "after": {**OLD, "b": 20, "d": 4},
    },
    "an upsert of a size that is loaded first": {
        "wish": {"wish": "act", "set": STAGED, "actions": [("datastore_upsert", UPSERTED)]},
        "before": OLD,
        "after": {**OLD, "b": 20, "d": 4},
    },
    "an insert": {
        "wish": {"wish": "act", "actions": [("datastore_upsert", INSERTED)]},
        "before": OLD,
        "after": {**OLD, "d": 4, "e": 5},
        "settled": WRITTEN,
    },
    "a deletion of rows": {
        "wish": {
            "wish": "act",
            "actions": [("datastore_delete", {"filters": {"k": ["a", "c"]}})],
        },
        "before": OLD,
        "after": {"b": 2},
    },
    "a deletion of the table": {
        "wish": {"wish": "act", "actions": [("datastore_delete", {})]},
        "before": OLD,
        "after": None,
        "settled": GONE,
    },
}


# --- loads of files

FILE = "k,v\na,10\nd,40\n"
NEW = {"a": 10, "d": 40}
LOADS: dict[str, dict[str, Any]] = {
    "replace": {"before": OLD, "after": NEW},
    "append": {"before": {"b": 2}, "after": {"b": 2, **NEW}},
    "upsert": {"before": OLD, "after": {**OLD, **NEW}},
}
