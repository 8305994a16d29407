"""What the storage testbench's faults do to a load: the rows, or an error and the old table."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ckanext.bigquery_datastore import clients, config, load
from ckanext.bigquery_datastore.backend.table.naming import of_name
from ckanext.bigquery_datastore.dump.storage import Store
from ckanext.bigquery_datastore.errors import OutsideError
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.dump.test_storage_faults import FAULTS, FINAL
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator

pytestmark = pytest.mark.usefixtures("non_clean_db", "with_plugins")

OLD = [{"name": "old"}]
NEW = [f"name {number}" for number in range(300)]


@dataclass(frozen=True)
class Loaded:
    """A table with one row, and a file that is to take its place."""

    place: Place
    id: str
    file: Path

    def load(self, **types: str) -> int:
        store = Store(clients.storage_rw(), config.export_bucket())
        given = {name: known for name, type_ in types.items() if (known := of_name(type_))}
        return load.load(clients.bigquery_rw(), store, self.id, self.file, types=given)

    @property
    def names(self) -> list[Any]:
        table = f"`{self.place.dataset}.{self.id}`"
        rows = self.place.bigquery.query(f"SELECT name FROM {table} ORDER BY _id").result()
        return [row["name"] for row in rows]

    @property
    def left(self) -> list[str]:
        return [
            blob.name for blob in self.place.storage.list_blobs(self.place.bucket, prefix=load.ROOT)
        ]


@pytest.fixture
def loaded(
    own_site: OwnEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Loaded:
    monkeypatch.setattr(clients, "CALL_SECONDS", 2.0)
    place = Place(config.dataset(), config.export_bucket())
    id = str(uuid.uuid4())
    place.fill(id, OLD, name="STRING")
    file = tmp_path / "names.csv"
    file.write_text("\n".join(["name", *NEW]))
    return Loaded(place, id, file)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", ["/upload/", r"/o\?", "/o/loads"])
def test_a_load_brings_all_rows_or_says_why_and_keeps_the_old_ones(
    own_site: OwnEmulator,
    loaded: Loaded,
    call: str,
    fault: str,
) -> None:
    own_site.fault(service="storage", path=call, instruction=fault, times=1)
    try:
        assert loaded.load() == len(NEW)
    except OutsideError as err:
        assert fault in FINAL and str(err)
        assert loaded.names == ["old"]
    else:
        assert loaded.names == NEW
    own_site.mend()
    assert loaded.load() == len(NEW)
    assert loaded.names == NEW
    assert fault in FINAL or not loaded.left


def test_what_a_load_asks_of_bigquery_is_googlesql(
    own_site: OwnEmulator, loaded: Loaded, tmp_path: Path
) -> None:
    own_site.admin("PUT", "switches", {"googlesql": True})
    cells = ["01", "1", "1.5", "true", "2024-01-01", "2024-01-01 07:08:09", "07:08:09", "x", ""]
    cells += ["2024-01-01 07:08:09Z", "12345678901234567.5", '"[1]"']
    names = [f"c{number}" for number in range(len(cells))]
    loaded.file.write_text("\n".join(map(",".join, (names, cells, [""] * len(cells), cells))))
    assert loaded.load() == 3
    known = {"c11": "json", "c7": "uuid", "c1": "numeric", "c3": "bool", "c4": "date"}
    assert loaded.load(**known) == 3
    table = loaded.place.bigquery.get_table(f"{loaded.place.dataset}.{loaded.id}")
    assert [field.field_type for field in table.schema[1:]] == [
        *("STRING", "NUMERIC", "FLOAT", "BOOLEAN", "DATE", "DATETIME", "TIME", "STRING", "STRING"),
        *("TIMESTAMP", "NUMERIC", "STRING"),
    ]
