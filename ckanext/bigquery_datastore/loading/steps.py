"""The job of the queue ``bigquery_loads``: one step of a load, and the next one into the queue.

A worker is started by

    ckan jobs worker bigquery_loads

No job waits for another one, nor for a job of BigQuery's for longer than a few seconds; the one
statement that replaces a table is waited for, as its writers' lock is held. A step that was lost
with its worker is put into the queue anew by whoever looks at the load's status (``revived``).
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ckan.lib import jobs
from ckan.plugins import toolkit as tk
from redis.exceptions import RedisError

from ckanext.bigquery_datastore import clients, config, downloads, gist, load
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.errors import BadRequest, BigQueryDatastoreError, NotReachable
from ckanext.bigquery_datastore.load import engine
from ckanext.bigquery_datastore.load.attempt import JOB_SECONDS
from ckanext.bigquery_datastore.load.engine import Ended
from ckanext.bigquery_datastore.load.faults import RowRefused, Unchanged
from ckanext.bigquery_datastore.load.reading import Told
from ckanext.bigquery_datastore.load.source import Limits, Source
from ckanext.bigquery_datastore.load.wish import Wish
from ckanext.bigquery_datastore.loading import after, sources, status
from ckanext.bigquery_datastore.loading.status import Status

log = logging.getLogger(__name__)

QUEUE = "bigquery_loads"

# For how long a job of BigQuery's is watched before the next step goes behind the others.
_LOOK_SECONDS = 4.0
# How often the status tells of progress.
_TOLD_SECONDS = 2.0
# How often a step is tried: Google may not answer, or the worker may be killed by what it reads.
_TRIES = 8


def enqueue(resource_id: str, attempt: str) -> None:
    """Put the next step of a load into the queue, unless it waits there."""
    try:
        if not is_waiting(resource_id):
            seconds = max(JOB_SECONDS, config.load_timeout_seconds()) + 600
            tk.enqueue_job(
                step,
                [resource_id, attempt],
                title=f"Load of {resource_id}",
                queue=QUEUE,
                rq_kwargs={
                    "job_id": f"{_mark(resource_id)}{uuid.uuid4().hex}",
                    "timeout": seconds,
                    "result_ttl": 0,
                },
            )
    except RedisError as err:
        log.warning("The load of %s waits until Redis answers: %s", resource_id, err)


def is_waiting(resource_id: str) -> bool:
    """Whether a step of the resource's load is in the queue; one that is at work is not."""
    return any(id.startswith(_mark(resource_id)) for id in jobs.get_queue(QUEUE).job_ids)


def _mark(resource_id: str) -> str:
    """How the ids of a resource's jobs begin. RQ takes letters, digits, dashes and underscores."""
    return f"load_{hashlib.sha256(resource_id.encode()).hexdigest()[:32]}_"


def revived(resource_id: str, found: Status) -> Status:
    """The load, put into the queue anew where its step was lost with its worker."""
    try:
        is_lost = found.is_active and not is_waiting(resource_id)
    except RedisError:
        return found
    if not is_lost or status.is_at_work(resource_id):
        return found
    if found.by_hand:
        return status.change(
            resource_id,
            lambda now: (
                _failed(now, "The command that loaded the file was ended.")
                if now.attempt == found.attempt and now.is_active
                else now
            ),
        )
    enqueue(resource_id, found.attempt)
    return found


def revive_all() -> None:
    """The same for every load of the site."""
    for resource_id, found in status.active():
        revived(resource_id, found)


def step(resource_id: str, attempt: str) -> None:
    """Take a load one step further: a worker's job."""
    with status.at_work(resource_id) as is_ours:
        found = status.find(resource_id)
        if not is_ours or found.attempt != attempt or not found.is_active or found.by_hand:
            return
        now = advance(resource_id, found)
        if now.is_active:
            enqueue(resource_id, now.attempt)


def advance(
    resource_id: str, found: Status, source: Source | None = None, told: Told | None = None
) -> Status:
    """The load after its next step; the caller has the right to take it (``status.at_work``).

    :param source: the file, where it is not the resource's own
    :param told: who is told of progress beside the status
    :raises BigQueryDatastoreError: why a load by hand has ended; of one of a worker's it is written
        down, and is not raised
    """
    door.forget_what_was_read()
    if not door.is_live(resource_id):
        gone = status.change(resource_id, lambda now: _failed(now, "The resource is gone."))
        load.tidy(_work(resource_id, found))
        return gone
    begun = status.change(resource_id, _begun)
    work = _work(resource_id, begun)
    try:
        if begun.tries > _TRIES:
            raise BadRequest(
                f"The step was tried {_TRIES} times, and its worker was ended each time, or Google "
                "did not answer. The worker's log may tell why; it may have too little memory."
            )
        now = engine.advance(
            work,
            source or sources.source_of(after.resource_of(resource_id)),
            Limits(config.load_maximum_bytes(), time.monotonic() + config.load_timeout_seconds()),
            None if begun.force else _comparable(resource_id, begun),
            _teller(resource_id, told),
            _LOOK_SECONDS,
        )
    except Unchanged:
        return _over(work, _unchanged)
    except NotReachable as err:
        sentence = gist.sentence(err)
        if begun.by_hand:
            _over(work, lambda now: _failed(now, sentence))
            raise
        log.warning("The load of %s is tried again: %s", resource_id, err)
        time.sleep(min(2.0**begun.tries, 30))
        return status.change(resource_id, lambda now: now.told(sentence, "WARNING"))
    except BigQueryDatastoreError as err:
        row = err.row.to_json() if isinstance(err, RowRefused) else None
        sentence = gist.sentence(err)
        ended = _over(work, lambda now: _failed(now, sentence, row))
        if begun.by_hand:
            raise
        return ended
    except Exception:
        status.change(
            resource_id,
            lambda now: _failed(now, "The load broke off: the worker's log tells why."),
        )
        raise
    if isinstance(now, Ended):
        after.ended(resource_id)
        over = _over(work, lambda before: _complete(before, now))
        after.forget_bad_rows(resource_id, begun.bad_rows, now.typed.file)
        with clients.tidied_up("What loads that were killed have left"):
            load.sweep(work.client, work.store)
        return over
    return status.change(resource_id, lambda before: _stepped(before, now))


def _over(work: load.Load, how: Callable[[Status], Status]) -> Status:
    """A load that has ended. It says so before its traces go: who came between would begin anew."""
    over = status.change(work.id, how)
    load.tidy(work)
    return over


def _work(resource_id: str, found: Status) -> load.Load:
    return load.Load(
        clients.bigquery_rw(),
        downloads.store_rw(),
        resource_id,
        found.attempt,
        Wish.of_json(found.wish),
        config.job_labels(),
    )


def _comparable(resource_id: str, found: Status) -> dict[str, object] | None:
    """What was loaded last, where the same file would bring the same table again."""
    loaded = found.loaded
    if not loaded or dict(loaded.get("wish") or {}) != dict(found.wish):
        return None
    table = door.own_table(clients.bigquery_rw(), resource_id)
    return dict(loaded) if table is not None else None


def _teller(resource_id: str, more: Told | None) -> Told:
    """Tells the status of progress, now and then."""
    last = 0.0
    step_told: str | None = None

    def told(step: str, progress: float | None) -> None:
        nonlocal last, step_told
        if more is not None:
            more(step, progress)
        if step == step_told and time.monotonic() - last < _TOLD_SECONDS:
            return
        last, step_told = time.monotonic(), step
        share = None if progress is None else round(progress, 3)
        status.change(resource_id, lambda now: replace(now, step=step, progress=share))

    return told


# --- what each turn makes of a status


def _begun(before: Status) -> Status:
    if before.state == "loading":
        return replace(before, tries=before.tries + 1)
    return replace(
        before, state="loading", step="reading", started=status.now(), tries=1, progress=None
    ).told("The load begins.")


def _stepped(before: Status, now: engine.At) -> Status:
    file = now.read.file if now.read else before.file
    stepped = replace(before, step=now.step, progress=None, file=file, tries=0)
    for note in now.read.notes if now.read else ():
        stepped = stepped.told(note)
    if now.read and now.step == "loading":
        stepped = stepped.told(f"{now.read.file['bytes']:,} bytes were read.")
    return stepped


def _complete(before: Status, ended: Ended) -> Status:
    done = _at_end(
        before,
        rows=ended.rows,
        file=ended.read.file,
        bad_row=ended.typed.first_bad,
        bad_rows=ended.typed.file,
        loaded={
            "file": dict(ended.read.file),
            "told": dict(ended.read.told),
            "wish": dict(before.wish),
            "rows": ended.rows,
        },
    )
    for note, level in after.notes_of(ended):
        done = done.told(note, level)
    return _followed(done)


def _unchanged(before: Status) -> Status:
    loaded = before.loaded or {}
    done = _at_end(before, rows=loaded.get("rows"), file=loaded.get("file") or {})
    return _followed(done.told("The file is the one that was loaded last: nothing is loaded."))


def _failed(before: Status, sentence: str, row: dict[str, object] | None = None) -> Status:
    return _followed(
        _at_end(before, state="error", error=sentence, bad_row=row).told(sentence, "ERROR")
    )


def _at_end(before: Status, **changes: Any) -> Status:
    """The load at its end: complete, unless the changes say otherwise."""
    ended = replace(
        before, state="complete", error=None, step=None, progress=None, finished=status.now()
    )
    return replace(ended, **changes)


def _followed(ended: Status) -> Status:
    """The load that is over, or the one that was to follow it."""
    if not ended.again:
        return ended
    again = ended.again
    return status.fresh(ended, dict(again.get("wish") or {}), bool(again.get("force")))
