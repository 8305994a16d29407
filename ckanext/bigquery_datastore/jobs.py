"""Files that are there before anybody asks for them: after a change of a table, and by hand.

Nothing depends on it. Where no worker runs, the first visitor's request starts the export, and an
export that was started twice is one. A worker is started by

    ckan jobs worker bigquery_exports

There is no state beside the queue. A change puts a job into it unless one for the same table waits
there. A job first lets the table rest; if another one waits by then, the table has changed again,
and that job takes care of both changes. So a burst of upserts ends in one export, of its last rows.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from ckan.lib import jobs
from ckan.plugins import toolkit as tk
from redis.exceptions import RedisError

from ckanext.bigquery_datastore import clients, config, downloads, purging
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.backend.table import lookup
from ckanext.bigquery_datastore.dump.formats import FORMATS
from ckanext.bigquery_datastore.errors import BadRequest, BigQueryDatastoreError, ConfigError

log = logging.getLogger(__name__)

QUEUE = "bigquery_exports"

# For how long a table must not have changed: longer than a loader takes between two of its batches.
QUIET_SECONDS = 30

# How often who waits for an export is told of its progress.
_LOOK_SECONDS = 5

# What a file may take beside its export job.
_ASSEMBLY_SECONDS = 600


def wanted_formats() -> list[str]:
    """The formats that the site wants to be ready, those of the option ``prewarm_formats``.

    :raises ConfigError: one of them is no format
    """
    names = config.prewarm_formats()
    for name in names:
        if name not in FORMATS:
            raise ConfigError(
                f"{config.PREWARM_FORMATS}: {name!r} is no format. Name one or more of "
                f"{', '.join(FORMATS)}, separated by spaces."
            )
    return names


def prepare_soon(resource_id: str) -> None:
    """Have a worker export the table, which has just changed, once it rests."""
    formats = wanted_formats()
    if not formats:
        return
    seconds = QUIET_SECONDS + len(formats) * (config.job_timeout_seconds() + _ASSEMBLY_SECONDS)
    try:
        if not _is_waiting(resource_id):
            tk.enqueue_job(
                prepare,
                [resource_id],
                title=f"Exports of {resource_id}",
                queue=QUEUE,
                rq_kwargs={"job_id": f"{_mark(resource_id)}{uuid.uuid4().hex}", "timeout": seconds},
            )
    except RedisError as err:
        log.warning("%s is exported when somebody asks, not before: %s", resource_id, err)


def prepare(resource_id: str) -> None:
    """Export the table in the formats that the site wants to be ready: a worker's job."""
    try:
        time.sleep(_unrest(resource_id))
        if _is_waiting(resource_id):
            return
        lookup.TABLES.forget(resource_id)
        for format_name in wanted_formats():
            # Such as geojson, of a table whose rows lie nowhere.
            with suppress(BadRequest):
                for plan in files(resource_id, format_name):
                    if not _finished_for_someone(plan):
                        return
    except BigQueryDatastoreError as err:
        log.warning("%s is exported when somebody asks, not before: %s", resource_id, err)


def _finished_for_someone(plan: downloads.DumpPlan) -> bool:
    """Make a file ahead of visitors; False where they are gone, and so is then the file.

    What was purged when its dataset was deleted must not come back.
    """
    if not door.is_shown(plan.resource_id):
        return False
    finished(plan)
    door.forget_what_was_read()
    if door.is_shown(plan.resource_id):
        return True
    purging.purge([plan.resource_id])
    return False


def files(resource_id: str, format_name: str) -> list[downloads.DumpPlan]:
    """The plans of the whole table in one format; none where there is no table.

    Two where spreadsheets want a byte order mark: scripts and the page's button differ in that.
    """
    marks = (False, True) if FORMATS[format_name].bom else (False,)
    plans = [downloads.prepare(resource_id, {"format": format_name, "bom": bom}) for bom in marks]
    return [plan for plan in plans if plan is not None]


def finished(
    plan: downloads.DumpPlan, told: Callable[[downloads.Running], object] = lambda state: None
) -> downloads.Ready:
    """The file of a plan, however long it takes; ``told`` hears of the progress.

    :raises BigQueryDatastoreError: the export failed
    """
    while True:
        state = downloads.engine(plan).advance(
            plan, time.monotonic() + _LOOK_SECONDS, at_least=_ASSEMBLY_SECONDS
        )
        if isinstance(state, downloads.Ready):
            return state
        told(state)


def _unrest(resource_id: str) -> float:
    """For how many seconds the table has still to be left alone."""
    table = door.find_table(clients.bigquery_ro(), resource_id)
    if table is None or table.modified is None:
        return 0
    age = (dt.datetime.now(dt.timezone.utc) - table.modified).total_seconds()
    # Google's clock and ours may differ.
    return min(max(0.0, QUIET_SECONDS - age), QUIET_SECONDS)


def _is_waiting(resource_id: str) -> bool:
    """Whether a job for the table is in the queue; one that a worker has taken is not."""
    return any(id.startswith(_mark(resource_id)) for id in jobs.get_queue(QUEUE).job_ids)


def _mark(resource_id: str) -> str:
    """How the ids of a table's jobs begin. RQ takes letters, digits, dashes and underscores."""
    return f"export_{hashlib.sha256(resource_id.encode()).hexdigest()[:32]}_"
