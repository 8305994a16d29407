"""Whether the site is set up as it should be: a table of checks, each one question.

A check answers by a ``Finding``. Where Google refuses what it asks, that is wrong, and the row
tells the role that is missing; where nobody answers, it is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ckanext.bigquery_datastore.checking import links, places, site
from ckanext.bigquery_datastore.checking.finding import OK, UNKNOWN, WRONG, Finding, unknown, wrong
from ckanext.bigquery_datastore.checking.looks import Hidden, Looks
from ckanext.bigquery_datastore.errors import (
    BigQueryDatastoreError,
    NotReachable,
    PermissionMissing,
)

__all__ = ["OK", "UNKNOWN", "WRONG", "Finding", "run"]


@dataclass(frozen=True)
class Check:
    """One row. ``role`` is the command that gives what Google may refuse for."""

    name: str
    look: Callable[[Looks], Finding]
    role: Callable[[], str] = lambda: ""

    def found(self, looks: Looks) -> Finding:
        try:
            return self.look(looks)
        except Hidden as err:
            return unknown(str(err), places.look_role())
        except PermissionMissing as err:
            return wrong(str(err), self.role())
        except NotReachable as err:
            return unknown(str(err))
        except BigQueryDatastoreError as err:
            return wrong(str(err))


_CHECKS = (
    Check("options", site.options),
    Check("plugins", site.plugins),
    Check("other loaders", site.other_loaders),
    Check("workers: loads", site.load_workers),
    Check("workers: exports", site.export_workers),
    Check("server", site.server),
    Check("read-only identity", places.jobs_of("ro"), lambda: places.job_role("ro")),
    Check("read-write identity", places.jobs_of("rw"), lambda: places.job_role("rw")),
    Check("dataset", places.dataset, places.dataset_role),
    Check("dataset: expiration", places.expiration, places.dataset_role),
    Check("bucket", places.bucket, places.dataset_role),
    Check("bucket: class", places.storage_class),
    Check("bucket: soft delete", places.soft_delete),
    Check("bucket: retention", places.retention),
    Check("bucket: lifecycle", places.lifecycle),
    Check("bucket: CORS", places.cors),
    Check("bucket: read-only", places.files_of("ro"), lambda: places.bucket_role("ro")),
    Check("bucket: read-write", places.files_of("rw"), lambda: places.bucket_role("rw")),
    Check("links", links.links, lambda: places.bucket_role("rw")),
    Check("limits", places.limits),
)
_LIVE = Check("live export", links.live, lambda: places.dataset_role("rw"))


def run(*, live: bool = False) -> Iterator[tuple[str, Finding]]:
    """The name of each check, and what it found; one after the other, as they end."""
    looks = Looks()
    for check in (*_CHECKS, *([_LIVE] if live else [])):
        yield check.name, _on_a_line(check.found(looks))


def _on_a_line(finding: Finding) -> Finding:
    return replace(finding, said=" ".join(finding.said.split()))
