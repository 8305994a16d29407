"""The job of the queue ``bigquery_loads``: one step of a load, and the next one into the queue.

A worker is started by

    ckan jobs worker bigquery_loads

No job waits for another, nor for a job of BigQuery's for longer than a few seconds. A job that was
lost with its worker is put into the queue anew by whoever looks at the load's status.
"""

from __future__ import annotations

import hashlib
import logging
import uuid

from ckan.lib import jobs
from ckan.plugins import toolkit as tk
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

QUEUE = "bigquery_loads"


def enqueue(resource_id: str, attempt: str) -> None:
    """Put the next step of a load into the queue, unless it waits there."""
    try:
        if not is_waiting(resource_id):
            tk.enqueue_job(
                step,
                [resource_id, attempt],
                title=f"Load of {resource_id}",
                queue=QUEUE,
                rq_kwargs={"job_id": f"{_mark(resource_id)}{uuid.uuid4().hex}"},
            )
    except RedisError as err:
        log.warning("The load of %s waits until Redis answers: %s", resource_id, err)


def is_waiting(resource_id: str) -> bool:
    """Whether a step of the resource's load is in the queue; one that is at work is not."""
    return any(id.startswith(_mark(resource_id)) for id in jobs.get_queue(QUEUE).job_ids)


def _mark(resource_id: str) -> str:
    """How the ids of a resource's jobs begin. RQ takes letters, digits, dashes and underscores."""
    return f"load_{hashlib.sha256(resource_id.encode()).hexdigest()[:32]}_"


def step(resource_id: str, attempt: str) -> None:
    """Take a load one step further: a worker's job."""
