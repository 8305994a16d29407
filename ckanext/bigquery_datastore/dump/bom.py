"""A byte order mark before a file that is there: no export is paid for twice for three bytes."""

from __future__ import annotations

import logging
from dataclasses import replace

from ckanext.bigquery_datastore.dump.objects import OBJECT_LIMIT
from ckanext.bigquery_datastore.dump.parts import once
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.state import Ready
from ckanext.bigquery_datastore.dump.storage import ComposeRefused, Store

log = logging.getLogger(__name__)


def put_before(rw: Store, plan: DumpPlan, mark: bytes, file: Ready) -> Ready:
    first = once(rw, f"{plan.prefix}mark", mark)
    in_parts = replace(file, objects=(first, *file.objects))
    if len(file.objects) > 1 or in_parts.size > OBJECT_LIMIT:
        return in_parts
    headers = replace(plan.headers, metadata=file.metadata)
    try:
        found = rw.compose(plan.target, in_parts.objects, headers)
    except ComposeRefused as err:
        log.warning("%s stays in parts: %s", plan.target, err)
        return in_parts
    rw.delete([first])
    return replace(file, objects=(found,))
