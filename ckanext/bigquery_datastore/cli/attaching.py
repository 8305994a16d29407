"""``attach``, ``detach``: a table that is in BigQuery already, as a resource's."""

from __future__ import annotations

import click

from ckanext.bigquery_datastore import attaching, config, jobs
from ckanext.bigquery_datastore.cli.common import (
    asks_on_a_terminal,
    live_resource,
    said_to_person,
)


@click.command("attach")
@click.argument("resource")
@click.argument("table", metavar="PROJECT.DATASET.TABLE")
def attach(resource: str, table: str) -> None:
    """Show a table or view of BigQuery as the table of RESOURCE (its id), without a copy.

    What is made is a view under the resource's name, which the other dataset lets read it. The
    table itself is never written to or dropped. Columns that it gets later are not shown: detach
    it then, and attach it again.
    """
    with said_to_person():
        found = attaching.attach(live_resource(resource).id, table)
        jobs.prepare_soon(found.table.id)
    click.echo(f"{found.table.attached} is shown as the table of {found.table.id}")
    for own, name in found.renamed.items():
        click.echo(f"The column {own!r} is called {name!r} in CKAN")
    if found.behind.changed is None:
        click.echo(
            f"Files of it are kept for {config.volatile_ttl_seconds()} seconds "
            f"({config.VOLATILE_TTL_SECONDS}): {found.behind.reason}."
        )
    else:
        click.echo("Files of it are kept until its rows change.")


@click.command("detach")
@click.argument("resource")
@click.option("--yes", is_flag=True, help="Do not ask. It asks on a terminal alone.")
def detach(resource: str, yes: bool) -> None:
    """Take the view away by which RESOURCE (its id) shows a table that is attached to it.

    The table itself stays as it is. Files that were exported are deleted.
    """
    with said_to_person():
        id = live_resource(resource).id
        asks_on_a_terminal(f"Take the view {id} away? Its files go, the table stays.", yes)
        name = attaching.detach(id)
    click.echo(f"{name} is not shown by {resource} any more")
