"""What visitors do of a bad day: a file, a search, a change, a load; and whether they got it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ckanext.bigquery_datastore import clients, downloads, load
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError, OutsideError
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.torture.bad_day import Answer, Watch
from ckanext.bigquery_datastore.tests.visiting import visit


@dataclass
class Table:
    """A resource's table, which somebody asks for or changes; ``turn`` counts that."""

    id: str
    rows: dict[str, int]
    turn: int = 0

    def are_its_rows(self, found: Sequence[tuple[int, str, int]]) -> bool:
        """Whether these are all of its rows, each once, whatever their numbers are."""
        numbers = {number for number, _, _ in found}
        return len(numbers) == len(found) and {k: v for _, k, v in found} == self.rows


class Wish(Protocol):
    name: str
    statement: str

    def ask(self, table: Table) -> Answer: ...

    def settle(self, table: Table) -> None:
        """So that the next one has all of its calls to make."""


@dataclass
class Export:
    app: Any
    place: Place
    format: str
    right: Callable[[Table, bytes], bool]
    statement: str = "^(EXPORT_DATA|EXTRACT)$"

    @property
    def name(self) -> str:
        return f"export as {self.format}"

    def ask(self, table: Table) -> Answer:
        watch = Watch()
        # The last of its turns: then it is told to come again.
        answer = visit(self.app, table.id, f"format={self.format}&_hop=8")
        try:
            body, is_broken = answer.data, False
        except BigQueryDatastoreError:
            body, is_broken = b"", True
        return Answer(
            answer.status_code,
            not is_broken and self.right(table, body),
            answer.headers.get("Retry-After"),
            watch.seconds,
            "" if answer.status_code == 200 else body.decode(),
            is_broken,
        )

    def settle(self, table: Table) -> None:
        store = self.place.store
        store.delete(store.list(f"dumps/{table.id}/"))
        downloads.FILES.clear()
        downloads.TABLES.clear()


def is_csv(table: Table, body: bytes) -> bool:
    head, *lines = body.decode().split("\n")
    cells = [line.split(",") for line in lines[:-1]]
    is_whole = (head, lines[-1]) == ("_id,k,v", "")
    return is_whole and table.are_its_rows([(int(n), k, int(v)) for n, k, v in cells])


def is_json(table: Table, body: bytes) -> bool:
    try:
        found = json.loads(body)["records"]
    except ValueError:
        return False
    return table.are_its_rows(found)


@dataclass
class Action:
    """One of CKAN's actions, by its API."""

    app: Any
    name: str
    statement: str
    data: Callable[[Table], dict[str, Any]]
    right: Callable[[Table, Any], bool]
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, table: Table) -> Answer:
        watch = Watch()
        answer = self.app.test_client().open(
            f"/api/3/action/{self.name}",
            method="POST",
            json={"resource_id": table.id, **self.data(table)},
            headers=self.headers,
        )
        is_right = answer.status_code == 200 and self.right(table, answer.json["result"])
        retry_after = answer.headers.get("Retry-After")
        return Answer(answer.status_code, is_right, retry_after, watch.seconds, answer.text)

    def settle(self, table: Table) -> None:
        table.turn += 1
        downloads.TABLES.clear()


def is_search(table: Table, result: Any) -> bool:
    return table.are_its_rows([(row["_id"], row["k"], row["v"]) for row in result["records"]])


def upserted(table: Table) -> dict[str, Any]:
    rows = {"k 0": table.turn, f"turn {table.turn}": table.turn}
    records = [{"k": k, "v": v} for k, v in rows.items()]
    table.rows.update(rows)
    return {"records": records, "method": "upsert", "force": True}


@dataclass
class Loading:
    """A file in a table's place, as ``ckan bigquery load`` brings it."""

    app: Any
    folder: Path
    name: str = "load"
    statement: str = "^(LOAD|CREATE_TABLE_AS_SELECT)$"

    def ask(self, table: Table) -> Answer:
        watch = Watch()
        table.rows = {f"k {n}": table.turn for n in range(3)}
        file = self.folder / f"{table.id}.csv"
        file.write_text("k,v\n" + "".join(f"{k},{v}\n" for k, v in table.rows.items()))
        store, client = downloads.store_rw(), clients.bigquery_rw()
        try:
            with self.app.flask_app.test_request_context():
                count = load.load(client, store, table.id, file)
        except BigQueryDatastoreError as err:
            retry = str(err.retry_after) if isinstance(err, OutsideError) else None
            return Answer(err.status, False, retry, watch.seconds, str(err))
        return Answer(200, count == 3, None, watch.seconds)

    def settle(self, table: Table) -> None:
        table.turn += 1
