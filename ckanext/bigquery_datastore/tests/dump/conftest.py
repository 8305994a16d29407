"""An emulator whose faults are the tests' own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from google.cloud import bigquery

from ckanext.bigquery_datastore.tests.dump.emulated import OwnEmulator


@pytest.fixture(scope="session")
def _own_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEmulator]:
    emulator = OwnEmulator(tmp_path_factory.mktemp("own-emulator"))
    yield emulator
    emulator.end()


@pytest.fixture
def own_emulator(
    _own_emulator: OwnEmulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OwnEmulator]:
    """The emulator in good order; Google's clients that are built in the test talk to it."""
    for name, address in _own_emulator.environment.items():
        monkeypatch.setenv(name, address)
    yield _own_emulator
    _own_emulator.admin("POST", "reset")


@pytest.fixture
def own_site(
    own_emulator: OwnEmulator, with_plugins: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OwnEmulator]:
    """CKAN as in any other test, but its Google is the tests' own emulator."""
    from ckan.plugins import toolkit as tk
    from google.api_core.exceptions import Conflict

    from ckanext.bigquery_datastore import clients, config, downloads
    from ckanext.bigquery_datastore.tests.dump.exporting import Place

    def anew() -> None:
        clients.forget()
        downloads.TABLES.clear()
        downloads.FILES.clear()

    for option in (config.CREDENTIALS, config.CREDENTIALS_RO):
        monkeypatch.setitem(tk.config, option, str(own_emulator.key_file))
    anew()
    place = Place(config.dataset(), config.export_bucket())
    dataset = bigquery.Dataset(f"{config.project()}.{place.dataset}")
    dataset.location = config.location()
    place.bigquery.create_dataset(dataset, exists_ok=True)
    with contextlib.suppress(Conflict):
        place.storage.create_bucket(place.bucket, location=config.location())
    own_emulator.forget_requests()
    yield own_emulator
    own_emulator.mend()
    anew()
