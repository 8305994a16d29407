"""Who does an export: the attempt at it, claimed by compare-and-swap of one object."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from ckanext.bigquery_datastore.dump.cuts import cuts
from ckanext.bigquery_datastore.dump.objects import Headers, StoredObject
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.storage import Store, Taken


@dataclass(frozen=True)
class Attempt:
    """The claim on an export. ``number`` counts from 1; ``ordered`` as in DumpPlan.select_sql.

    ``refused`` is the size in bytes of what was exported and then deleted, as it was too large;
    ``cuts`` are where its rows are cut into slices, for all who take it further.
    """

    generation: int
    created: dt.datetime
    number: int = 1
    ordered: bool = True
    refused: int | None = None
    cuts: tuple[int, ...] = ()


def claim(
    ro: Store, rw: Store, plan: DumpPlan, may_begin: Callable[[DumpPlan], None]
) -> Attempt | None:
    """The attempt that is under way, or a new one; None where another process was quicker.

    ``may_begin`` raises where there may be no new one.
    """
    found = ro.find(plan.attempt)
    if found is not None:
        return attempt_of(found)
    may_begin(plan)
    return claim_as(rw, plan, Attempt(0, now()))


def claim_as(rw: Store, plan: DumpPlan, wanted: Attempt) -> Attempt | None:
    """Claim by compare-and-swap: ``wanted.generation`` is what may be replaced."""
    found = cuts(plan) if wanted.ordered else ()
    headers = Headers(
        "application/octet-stream",
        metadata={
            "number": str(wanted.number),
            "ordered": str(wanted.ordered),
            **({"cuts": " ".join(map(str, found))} if found else {}),
            **({} if wanted.refused is None else {"refused": str(wanted.refused)}),
        },
    )
    try:
        return attempt_of(rw.create(plan.attempt, b"", headers, wanted.generation))
    except Taken:
        return None


def attempt_of(found: StoredObject) -> Attempt:
    return Attempt(
        generation=found.generation,
        created=found.created,
        number=int(found.metadata.get("number", 1)),
        ordered=found.metadata.get("ordered", "True") == "True",
        refused=int(found.metadata["refused"]) if "refused" in found.metadata else None,
        cuts=tuple(map(int, found.metadata.get("cuts", "").split())),
    )


def folder_of(plan: DumpPlan, attempt: Attempt) -> str:
    return f"{plan.prefix}{attempt.generation}/"


def job_id_of(plan: DumpPlan, attempt: Attempt) -> str:
    """https://cloud.google.com/bigquery/docs/reference/rest/v2/JobReference"""
    digest = hashlib.sha256(plan.prefix.encode()).hexdigest()[:32]
    return f"ckan_dump_{digest}_{attempt.generation}"


def now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
