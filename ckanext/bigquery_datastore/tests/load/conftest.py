"""For tests that count what a load leaves: nothing is there before of loads that others left."""

from __future__ import annotations

import pytest

from ckanext.bigquery_datastore import config, load
from ckanext.bigquery_datastore.tests.dump.exporting import Place


@pytest.fixture
def nothing_left(datastore: None, with_plugins: None) -> None:
    place = Place(config.dataset(), config.export_bucket())
    place.store.delete(place.store.list(load.ROOT))
    for table in place.bigquery.list_tables(place.dataset):
        if table.table_id.startswith(load.STAGING_PREFIX):
            place.bigquery.delete_table(table.reference, not_found_ok=True)
