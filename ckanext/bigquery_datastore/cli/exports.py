"""``export`` and ``sweep``: files in the bucket, ahead of the first visitor, and out of the way."""

from __future__ import annotations

import click

from ckanext.bigquery_datastore import clients, config, downloads, jobs, load, purging
from ckanext.bigquery_datastore.backend import BigQueryBackend
from ckanext.bigquery_datastore.cli.common import live_resource, progress_bar, said_to_person
from ckanext.bigquery_datastore.dump import sweep as sweeping
from ckanext.bigquery_datastore.dump.formats import FORMATS
from ckanext.bigquery_datastore.dump.objects import ROOT
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
    """Export the table of RESOURCE (its id) now, so that no visitor has to wait for it.

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
    with progress_bar(label, 100) as advance:
        reached = 0

        def told(state: downloads.Running) -> None:
            nonlocal reached
            # BigQuery may find more work than it knew of: the bar waits then.
            now = max(reached, int(100 * (state.progress or 0)))
            advance(now - reached)
            reached = now

        ready = jobs.finished(plan, told)
        advance(100 - reached)
    return ready


@click.command("sweep")
@click.option("--resource", metavar="ID", help="Only the exports of this resource.")
def sweep(resource: str | None) -> None:
    """Delete exports that a newer one has replaced, and what broken ones have left.

    Nothing goes that a download link may still point to, but exports of resources that are
    deleted, private or without a table by now, and what a `load` that was killed has left a day
    ago. The site does all this by itself, after each export, deletion and load; this command does
    it for all resources, now, and mends what failed then.
    """
    with said_to_person():
        prefix = f"{ROOT}{resource}/" if resource else ROOT
        deleted = sweeping.sweep(downloads.store_rw(), prefix, downloads.url_lifetime())
        if resource is None:
            deleted += load.sweep(clients.bigquery_rw(), downloads.store_rw())
            # Loads whose step was lost with its worker go on.
            steps.revive_all()
            deleted += purging.purge_orphans(BigQueryBackend().get_all_ids())
        click.echo(f"{deleted} objects deleted")
