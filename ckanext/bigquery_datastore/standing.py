"""How things stand: tables, files that are ready, jobs that run, what the bucket holds and is paid.

Nothing here costs a query: tables and jobs are asked of BigQuery's API, files are listed.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ckan import model
from google.cloud.bigquery import Client

from ckanext.bigquery_datastore import clients, config, downloads
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.backend.table import lookup
from ckanext.bigquery_datastore.dump import plan as plans
from ckanext.bigquery_datastore.dump.objects import ROOT, WHOLE, StoredObject
from ckanext.bigquery_datastore.dump.storage import side_by_side
from ckanext.bigquery_datastore.errors import PermissionMissing

# A month of a busy site has more jobs than anybody waits for.
MOST_JOBS = 20_000


@dataclass(frozen=True)
class Standing:
    """One table: ``files`` are the bytes of what a download would find now, by format."""

    id: str
    resource: str | None
    rows: int
    bytes: int
    modified: dt.datetime | None
    files: Mapping[str, int]


def tables(ids: Sequence[str] | None = None) -> Iterator[Standing]:
    """How the tables of these resources stand, or all; a table without a resource has no name."""
    client = clients.bigquery_ro()
    if ids is None:
        ids = [found.id for found in lookup.listed(client) if found.alias_of is None]
    prefix = f"{ROOT}{ids[0]}/" if len(ids) == 1 else ROOT
    files: dict[str, list[StoredObject]] = {}
    for found in downloads.store_rw().list(prefix):
        files.setdefault(found.name.split("/")[1], []).append(found)
    # The database's session is for one thread.
    names = {id: _name(id) for id in ids}
    for table in side_by_side(lambda id: lookup.get_table(client, id), ids):
        if table is not None and table.alias_of is None:
            yield Standing(
                table.id,
                names[table.id],
                table.num_rows,
                table.num_bytes,
                table.modified,
                _ready(table, files.get(table.id, ())),
            )


def _name(id: str) -> str | None:
    found = door.resource(id)
    if found is None or found.state == model.State.DELETED or found.package is None:
        return None
    return f"{found.package.name}/{found.name or found.id}"


def _ready(table: lookup.Table, files: Iterable[StoredObject]) -> dict[str, int]:
    now = dt.datetime.now(dt.timezone.utc)
    ttl = dt.timedelta(seconds=config.volatile_ttl_seconds())
    revision, _ = plans.revision(table, now, ttl)
    found: Counter[str] = Counter()
    for file in files:
        _, _, format_, of_revision, key, rest = file.name.split("/", 5)
        is_file = rest.startswith("data.") and key.startswith(WHOLE)
        if is_file and of_revision == revision:
            found[format_] = max(found[format_], file.size)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Work:
    """A job that runs: what it does, for which resource, since when, how far it is (0 to 1)."""

    id: str
    kind: str
    resource: str | None
    since: dt.datetime | None
    progress: float | None


def running() -> list[Work]:
    """The exports, loads and changes of the read-write identity that BigQuery works on now."""
    client = clients.bigquery_rw()
    with clients.told("a list of running jobs"):
        found = list(client.list_jobs(state_filter="running", max_results=500, **clients.budget()))
    return [
        Work(
            job.job_id,
            str(getattr(job, "statement_type", None) or job.job_type).replace("_", " ").lower(),
            (job.labels or {}).get("ckan_resource"),
            job.created,
            _progress(job),
        )
        for job in found
    ]


def _progress(job: Any) -> float | None:
    timeline = getattr(job, "timeline", None) or ()
    if not timeline:
        return None
    last = timeline[-1]
    done = last.completed_units or 0
    total = done + (last.pending_units or 0) + (last.active_units or 0)
    return done / total if total else None


def held() -> dict[str, dict[str, int]]:
    """Objects and bytes in the bucket, by the first folder of their names."""
    found: dict[str, dict[str, int]] = {}
    for each in downloads.store_rw().list(""):
        kind = found.setdefault(each.name.partition("/")[0], {"objects": 0, "bytes": 0})
        kind["objects"] += 1
        kind["bytes"] += each.size
    return found


@dataclass(frozen=True)
class Bill:
    """Bytes that this month's jobs were billed for, by ``label=value``; ``jobs`` is their number.

    ``is_whole`` tells that no more than ``MOST_JOBS`` of an identity had to be counted.
    """

    since: dt.datetime
    bytes: int
    jobs: int
    by_label: Mapping[str, int]
    is_whole: bool


def billed() -> Bill:
    """What both identities' jobs of this month (UTC) were billed for.

    Each may list its own jobs (https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/list).
    A search that is answered at once is no job, and not in it; the billing export tells all.
    """
    now = dt.datetime.now(dt.timezone.utc)
    since = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found: dict[str, tuple[int, Mapping[str, str]]] = {}
    is_whole = True
    for client in (clients.bigquery_rw(), clients.bigquery_ro()):
        jobs = _jobs_since(client, since)
        is_whole = is_whole and len(jobs) < MOST_JOBS
        found.update((job.job_id, (_bytes_billed(job), job.labels or {})) for job in jobs)
    by_label: Counter[str] = Counter()
    for bytes_, labels in found.values():
        for name, value in labels.items():
            by_label[f"{name}={value}"] += bytes_
    total = sum(bytes_ for bytes_, _ in found.values())
    return Bill(since, total, len(found), dict(by_label.most_common()), is_whole)


def _jobs_since(client: Client, since: dt.datetime) -> list[Any]:
    try:
        with clients.told("a list of this month's jobs"):
            return list(
                client.list_jobs(
                    min_creation_time=since,
                    state_filter="done",
                    max_results=MOST_JOBS,
                    **clients.budget(60),
                )
            )
    except PermissionMissing as err:
        raise PermissionMissing(f"{err} It needs the role BigQuery Job User.") from err


def _bytes_billed(job: Any) -> int:
    return int(getattr(job, "total_bytes_billed", None) or 0)
