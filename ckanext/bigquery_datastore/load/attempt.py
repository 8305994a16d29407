"""One load: what it is of, and the names of all that it makes, which follow from its attempt.

So any process can take the next step: it looks for what the one before it has made.

    loads/<attempt>/<try>/00000001 …   the rows on their way, by whoever reads the file
    loads/<attempt>/read               how they are to be read: it is written once, and last
    loads/<attempt>/typed              the columns with their types, after a look at all rows
    _load_<attempt>                    the table beside the resource's own
    ckan_load_<attempt>_<step>_<n>     the jobs; n rises where one ends for a reason that passes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.cloud import bigquery

from ckanext.bigquery_datastore.backend.table.lookup import quote_name, reference
from ckanext.bigquery_datastore.dump.objects import Headers
from ckanext.bigquery_datastore.dump.storage import Store, Taken
from ckanext.bigquery_datastore.load.wish import Wish

ROOT = "loads/"
BAD_ROWS = "bad_rows/"
STAGING_PREFIX = "_load_"

# https://cloud.google.com/bigquery/quotas#load_jobs, #query_jobs
JOB_SECONDS = 6 * 3600


@dataclass(frozen=True)
class Load:
    """An attempt to load a file into the table of a resource (``id``)."""

    client: bigquery.Client
    store: Store
    id: str
    attempt: str
    wish: Wish
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"{ROOT}{self.attempt}/"

    @property
    def staging(self) -> bigquery.TableReference:
        return reference(f"{STAGING_PREFIX}{self.attempt}")

    @property
    def staging_sql(self) -> str:
        """The quoted name of the table beside."""
        table = self.staging
        return quote_name(f"{table.project}.{table.dataset_id}.{table.table_id}")

    def job(self, step: str) -> str:
        """How the ids of the jobs of a step begin."""
        return f"ckan_load_{self.attempt}_{step}"

    def noted(self, name: str) -> dict[str, Any] | None:
        """What a step has written down, or None while it has not."""
        found = self.store.find(f"{self.folder}{name}")
        if found is None:
            return None
        return json.loads(self.store.read_range(found, 0, found.size - 1))

    def note(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Write down what a step has found, unless another worker has; what stands there then."""
        data = json.dumps(values, ensure_ascii=False).encode()
        try:
            self.store.create(f"{self.folder}{name}", data, Headers("application/json"))
        except Taken:
            return self.noted(name) or dict(values)
        return dict(values)
