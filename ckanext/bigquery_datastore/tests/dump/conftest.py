"""An emulator whose faults are the tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
