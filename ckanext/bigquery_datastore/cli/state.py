"""``status``: how tables, files, jobs and the bucket stand."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict
from typing import Any

import click

from ckanext.bigquery_datastore import config, standing
from ckanext.bigquery_datastore.cli.common import live_resource, said_to_person, sized

# Labels beyond these are in the JSON.
_MOST_LABELS = 20


@click.command("status")
@click.argument("resource", required=False)
@click.option("--billed", is_flag=True, help="Also the bytes billed this month, by label: slow.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
def status(resource: str | None, billed: bool, as_json: bool) -> None:
    """Tell how the tables stand, or that of RESOURCE (its id, or dataset/resource name).

    Of each table its rows, bytes and last change, and the files that are ready; then the jobs that
    run, and what the bucket holds. With --billed, the bytes that the site's two identities were
    billed for since the first of the month: their jobs are listed, which costs nothing. Searches
    that were answered at once are no jobs: all of them are in INFORMATION_SCHEMA.JOBS, for who has
    BigQuery Resource Viewer on the project.
    """
    with said_to_person():
        ids = [live_resource(resource).id] if resource else None
        found: dict[str, Any] = {
            "tables": [asdict(each) for each in standing.tables(ids)],
            "running": [asdict(each) for each in standing.running()],
        }
        if ids and not found["tables"]:
            raise click.ClickException(f"The resource {resource} has no table.")
        if ids is None:
            found["bucket"] = {"name": config.export_bucket(), "holds": standing.held()}
        if billed:
            found["billed"] = asdict(standing.billed())
        click.echo(json.dumps(found, default=_moment) if as_json else _text(found))


def _moment(value: object) -> str:
    assert isinstance(value, dt.datetime)
    return value.isoformat()


def _text(found: dict[str, Any]) -> str:
    lines = [line for table in found["tables"] for line in _table(table)]
    if not lines:
        lines = ["no tables"]
    for job in found["running"]:
        progress = "" if job["progress"] is None else f", {job['progress']:.0%}"
        what = f" of {job['resource']}" if job["resource"] else ""
        lines.append(f"running: {job['kind']}{what} since {job['since']:%H:%M:%S}{progress}")
    if not found["running"]:
        lines.append("running: nothing")
    for folder, held in found.get("bucket", {}).get("holds", {}).items():
        size = sized(held["bytes"])
        lines.append(f"gs://{found['bucket']['name']}/{folder}: {held['objects']} objects, {size}")
    return "\n".join([*lines, *_bill(found.get("billed"))])


def _table(table: dict[str, Any]) -> list[str]:
    changed = f"{table['modified']:%Y-%m-%d %H:%M:%S}" if table["modified"] else "unknown"
    files = ", ".join(f"{name} {sized(size)}" for name, size in table["files"].items())
    return [
        f"{table['resource'] or '(no resource)'} ({table['id']})",
        f"    {table['rows']:,} rows, {sized(table['bytes'])}, changed {changed} UTC",
        f"    ready: {files or 'no file'}",
    ]


def _bill(bill: dict[str, Any] | None) -> list[str]:
    if bill is None:
        return []
    at_least = "" if bill["is_whole"] else "at least "
    total = f"billed since {bill['since']:%Y-%m-%d}: {at_least}{sized(bill['bytes'])}"
    labels = list(bill["by_label"].items())[:_MOST_LABELS]
    return [
        f"{total} in {bill['jobs']:,} jobs",
        *(f"    {label}: {sized(size)}" for label, size in labels),
    ]
