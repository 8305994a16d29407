"""``export``, ``purge``, ``sweep``: files in the bucket, ahead of visitors, and out of the way."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ckanext.bigquery_datastore import clients, config, downloads, jobs, load, purging
from ckanext.bigquery_datastore.backend import BigQueryBackend
from ckanext.bigquery_datastore.cli.common import (
    asks_on_a_terminal,
    live_resource,
    progress_of,
    said_to_person,
    sized,
)
from ckanext.bigquery_datastore.dump import sweep as sweeping
from ckanext.bigquery_datastore.dump.formats import FORMATS
from ckanext.bigquery_datastore.dump.objects import ROOT, StoredObject
from ckanext.bigquery_datastore.loading import steps


@click.command("export")
@click.argument("resource")
@click.option(
    "--format",
    "format_names",
    type=click.Choice(list(FORMATS)),
    multiple=True,
    default=["csv"],
    show_default=True,
    help="May be given more than once.",
)
def export(resource: str, format_names: tuple[str, ...]) -> None:
    """Export the table of RESOURCE now, so that no visitor has to wait for it.

    RESOURCE is its id, or dataset/resource name.
    Tells the name and the size of each file: of CSV and TSV there are two, one of them with the
    byte order mark that spreadsheets want. What is there already is not exported again; a command
    that is interrupted goes on where it was when it is run again.
    """
    with said_to_person():
        found = live_resource(resource)
        for name in format_names:
            plans = jobs.files(found.id, name)
            if not plans:
                raise click.ClickException(f"The resource {resource} has no table.")
            for plan in plans:
                ready = _exported(plan, f"{found.id}.{name}")
                click.echo(f"gs://{config.export_bucket()}/{plan.target} {ready.size} bytes")


def _exported(plan: downloads.DumpPlan, label: str) -> downloads.Ready:
    with progress_of(label) as told:
        return jobs.finished(plan, lambda state: told(state.progress))


@click.command("purge")
@click.argument("resource")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; name what would be.")
def purge(resource: str, yes: bool, dry_run: bool) -> None:
    """Delete the exports of RESOURCE (its id, or dataset/resource name): links to them end now.

    The table stays, and whoever asks for a file has it exported anew. Files of queries go as well,
    as they may hold the same rows.
    """
    with said_to_person():
        id = live_resource(resource).id
        found = purging.exports([id])
        size = sized(sum(each.size for each in found))
        if dry_run:
            _name(found)
            return
        if not yes:
            click.confirm(f"Delete {len(found)} objects ({size}), and end all links?", abort=True)
        click.echo(f"{purging.delete(found)} objects deleted")


def _name(found: Sequence[StoredObject]) -> None:
    for each in found:
        click.echo(f"gs://{config.export_bucket()}/{each.name} {each.size} bytes")
    size = sized(sum(each.size for each in found))
    click.echo(f"{len(found)} objects ({size}) would be deleted", err=True)


@click.command("sweep")
@click.option("--resource", metavar="ID", help="Only the exports of this resource.")
@click.option("--yes", is_flag=True, help="Do not ask. It asks on a terminal alone.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; name the exports that would be.")
def sweep(resource: str | None, yes: bool, dry_run: bool) -> None:
    """Delete exports that a newer one has replaced, and what broken ones have left.

    Nothing goes that a download link may still point to, but exports of resources that are
    deleted, private or without a table by now, and what a `load` that was killed has left a day
    ago. The site does all this by itself, after each export, deletion and load; this command does
    it for all resources, now, and mends what failed then.
    """
    with said_to_person():
        # One that is deleted by now has no name to look up.
        id = live_resource(resource).id if resource and "/" in resource else resource
        prefix = f"{ROOT}{id}/" if id else ROOT
        store, lifetime = downloads.store_rw(), downloads.url_lifetime()
        if dry_run:
            found = sweeping.swept(store, prefix, lifetime)
            if id is None:
                names = {each.name for each in found}
                orphans = purging.orphans(BigQueryBackend().get_all_ids())
                found += [each for each in orphans if each.name not in names]
            _name(found)
            return
        asks_on_a_terminal("Delete what no link can point to any more?", yes)
        deleted = sweeping.sweep(store, prefix, lifetime)
        if id is None:
            deleted += load.sweep(clients.bigquery_rw(), store)
            # Loads whose step was lost with its worker go on.
            steps.revive_all()
            deleted += purging.purge_orphans(BigQueryBackend().get_all_ids())
        click.echo(f"{deleted} objects deleted")
