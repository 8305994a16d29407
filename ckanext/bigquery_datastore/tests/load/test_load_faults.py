"""What the storage testbench's faults do to a load: the rows, or an error and the old table."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ckanext.bigquery_datastore import clients, config, load
from ckanext.bigquery_datastore.dump.storage import Store
from ckanext.bigquery_datastore.errors import OutsideError
from ckanext.bigquery_datastore.tests.dump.conftest import (  # noqa: F401
    _own_emulator,
    own_emulator,
    own_site,
)
from ckanext.bigquery_datastore.tests.dump.emulated import OwnEmulator
from ckanext.bigquery_datastore.tests.dump.exporting import Place
from ckanext.bigquery_datastore.tests.dump.test_storage_faults import FAULTS, FINAL

pytestmark = pytest.mark.usefixtures("non_clean_db", "with_plugins")

OLD = [{"name": "old"}]
NEW = [f"name {number}" for number in range(300)]


@dataclass(frozen=True)
class Loaded:
    """A table with one row, and a file that is to take its place."""

    place: Place
    id: str
    file: Path

    def load(self) -> int:
        store = Store(clients.storage_rw(), config.export_bucket())
        form = load.FILE_FORMATS["csv"]
        return load.load(clients.bigquery_rw(), store, self.id, self.file, form)

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
    own_site: OwnEmulator,  # noqa: F811
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
    own_site: OwnEmulator,  # noqa: F811
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
