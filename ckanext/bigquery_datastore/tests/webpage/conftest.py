"""A table with a page, and one site for all tests of this folder: its exports take some seconds."""

from __future__ import annotations

from typing import Any

import pytest
from ckan.tests import factories
from ckan.tests.helpers import call_action

from ckanext.bigquery_datastore import config

RECORDS = [
    {
        "Street": f"Lindenweg {n}" if n % 2 else f'Am "Ring", {n}',
        "size": n if n != 7 else None,
        "share": n / 8,
        "is_old": n % 3 == 0,
        "seen": f"2024-02-{n % 28 + 1:02}T10:00:00.250",
        "more": {"n": n},
    }
    for n in range(1, 61)
]
FIELDS = [
    {"id": "Street", "type": "text", "info": {"label": "Street name", "notes": "As on the sign."}},
    {"id": "size", "type": "int", "info": {"unit": "metres"}},
    {"id": "share", "type": "float8"},
    {"id": "is_old", "type": "bool"},
    {"id": "seen", "type": "timestamp"},
    {"id": "more", "type": "json"},
]


@pytest.fixture(scope="session")
def webpage_site(_sites: Any, datastore: None) -> Any:
    return _sites(
        {
            "ckan.plugins": (
                "bigquery_datastore datastore datatables_view text_view dcat croissant"
            ),
            "ckanext.dcat.rdf.profiles": "euro_dcat_ap_3 bigquery_datastore",
            "ckanext.dcat.croissant.profiles": "croissant bigquery_datastore",
            config.WAIT_SECONDS: "20",
            config.METADATA_TTL_SECONDS: "1",
            config.JOB_LABELS: "emulator_run_seconds=4",
        }
    )


@pytest.fixture
def site(with_plugins: None, non_clean_db: None, webpage_site: Any) -> Any:
    return webpage_site


@pytest.fixture
def a_table(site: Any) -> Any:
    """Makes a dataset with one table: ``a_table(private=True)``."""

    def make(**dataset: Any) -> dict[str, Any]:
        owner = factories.Organization()
        found = factories.Dataset(owner_org=owner["id"], license_id="cc-by", **dataset)
        resource = factories.Resource(
            package_id=found["id"], url_type="datastore", name="Trees of Zürich (2024)"
        )
        call_action(
            "datastore_create",
            resource_id=resource["id"],
            fields=FIELDS,
            records=RECORDS,
            primary_key="Street",
            force=True,
        )
        base = f"{site.url}/datastore/dump/{resource['id']}"
        return {
            "id": resource["id"],
            "dataset": found["name"],
            "owner": owner["id"],
            "page": f"{site.url}/dataset/{found['name']}/resource/{resource['id']}",
            "dump": base,
            "about": base.replace("/dump/", "/about/"),
        }

    return make
