"""The dataset and the bucket as Google shows them, each asked for once in a run of checks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from google.api_core import exceptions as gexc
from google.cloud import bigquery, storage

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.errors import PermissionMissing


class Hidden(PermissionMissing):
    """The site works without seeing this: the check cannot look at it, and that is all."""


@dataclass(frozen=True)
class Looks:
    """What has been looked at; each property raises OutsideError where Google refuses."""

    @cached_property
    def dataset(self) -> bigquery.Dataset:
        name = f"{config.project()}.{config.dataset()}"
        with clients.told(f"a look at the dataset {name}"):
            return clients.bigquery_ro().get_dataset(name, **clients.budget())

    @cached_property
    def bucket(self) -> storage.Bucket:
        """As the first identity sees it that may: downloads need no look at a bucket's settings."""
        name = config.export_bucket()
        refused: gexc.Forbidden | None = None
        for client in (clients.storage_rw(), clients.storage_ro()):
            try:
                with clients.told(f"a look at the bucket {name}", gexc.Forbidden):
                    return client.get_bucket(name, **clients.budget())
            except gexc.Forbidden as err:
                refused = err
        raise Hidden(
            f"Neither identity may look at the settings of the bucket {name} (storage.buckets.get)."
        ) from refused


def account(identity: str) -> str:
    """The address of the service account, as a command to paste has it."""
    found = clients.account(identity)
    return f"serviceAccount:{found}" if found else "serviceAccount:NAME@PROJECT"
