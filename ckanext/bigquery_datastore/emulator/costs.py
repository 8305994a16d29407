"""What the jobs of this emulator would have cost, added up: nothing is counted beside the jobs.

Loads, copies and extracts cost nothing, nor do metadata and tabledata.list, which are no jobs
(https://cloud.google.com/bigquery/pricing#free).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .bigquery.job import Job

# On demand (https://cloud.google.com/bigquery/pricing#on_demand_pricing), in the US and the EU.
DOLLARS_PER_BYTE = 6.25 / 2**40


def report(jobs: Iterable[Job]) -> dict[str, Any]:
    """Jobs, bytes and dollars: of all, by kind of statement, by who asked, by each label."""
    jobs = list(jobs)
    found: dict[str, Any] = _sum(jobs)
    for name, keys in (
        ("by_statement_type", lambda job: [job.statement_type or job.kind.upper()]),
        ("by_identity", lambda job: [job.user]),
        ("by_label", _labels),
    ):
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            for key in keys(job):
                groups.setdefault(key, []).append(job)
        found[name] = {key: _sum(of_key) for key, of_key in sorted(groups.items())}
    return found


def _labels(job: Job) -> list[str]:
    return [f"{key}:{value}" for key, value in (job.configuration.get("labels") or {}).items()]


def _sum(jobs: Iterable[Job]) -> dict[str, Any]:
    statistics = [job.statistics.get("query") or {} for job in jobs]
    billed = sum(int(one.get("totalBytesBilled") or 0) for one in statistics)
    return {
        "jobs": len(statistics),
        "processed": sum(int(one.get("totalBytesProcessed") or 0) for one in statistics),
        "billed": billed,
        "dollars": billed * DOLLARS_PER_BYTE,
    }
