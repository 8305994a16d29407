"""What the site makes does not vanish with the default table expiration of its dataset."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from ckan.cli.cli import ckan
from ckan.tests import factories
from ckan.tests.helpers import call_action
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.tests.emulated import OwnEmulator


@pytest.fixture
def mortal(non_clean_db: None, own_site: OwnEmulator) -> Iterator[OwnEmulator]:
    """A site whose dataset lets tables expire."""
    dataset = bigquery.Dataset(f"{config.project()}.{config.dataset()}")
    for lives in (3_600_000, None):
        dataset.default_table_expiration_ms = lives
        clients.bigquery_rw().update_dataset(dataset, ["default_table_expiration_ms"])
        if lives:
            yield own_site


def made(**more: object) -> str:
    resource = factories.Resource(url_type="datastore")["id"]
    call_action("datastore_create", resource_id=resource, records=[{"a": 1}], **more)
    return resource


def expires(name: str) -> object:
    return clients.bigquery_ro().get_table(f"{config.project()}.{config.dataset()}.{name}").expires


def test_a_table_and_its_alias_stay(mortal: OwnEmulator) -> None:
    alias = f"alias_{uuid.uuid4().hex[:8]}"
    assert (expires(made(aliases=alias)), expires(alias)) == (None, None)


def test_a_table_that_is_replaced_stays(mortal: OwnEmulator, cli, tmp_path) -> None:
    resource = made()
    file = tmp_path / "rows.csv"
    file.write_text("a\n2\n")
    assert cli.invoke(ckan, ["bigquery", "load", resource, str(file)]).exit_code == 0
    assert call_action("datastore_search", resource_id=resource)["records"] == [{"_id": 1, "a": 2}]
    assert expires(resource) is None


def test_where_google_does_not_let_it_the_log_says_when_it_goes(
    mortal: OwnEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    mortal.fault(
        **{"service": "bigquery", "method": "PATCH", "path": "/tables/", "body": "expirationTime"},
        **{"status": 403, "reason": "billingNotEnabled", "message": "No billing.", "times": 0},
    )
    resource = made()
    assert expires(resource) is not None
    (record,) = [r for r in caplog.records if "default table expiration" in r.getMessage()]
    assert record.levelname == "ERROR"
    assert resource in record.getMessage() and "No billing." in record.getMessage()
