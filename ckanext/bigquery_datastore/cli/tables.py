"""``layout``: a table as it lies in BigQuery."""

from __future__ import annotations

import click

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend.table.lookup import get_table
from ckanext.bigquery_datastore.backend.write import lock, replace
from ckanext.bigquery_datastore.cli.common import live_resource, said_to_person
from ckanext.bigquery_datastore.load.attempt import JOB_SECONDS


@click.command("layout")
@click.argument("resource")
def lay_out(resource: str) -> None:
    """Partition the table of RESOURCE, so that a page or a change reads little of it.

    RESOURCE is its id, or dataset/resource name.
    Tables that are made or loaded by this version are partitioned already. One scan of the table
    is billed, and its files are exported anew. For a moment, while the new table takes the name of
    the old one, there is none of that name.
    """
    with said_to_person():
        found = live_resource(resource)
        client = clients.bigquery_rw()
        with lock.writing(found.id):
            table = get_table(client, found.id)
            if table is None:
                raise click.ClickException(f"The resource {resource} has no table.")
            if replace.lay_out(client, table, JOB_SECONDS):
                click.echo(f"{table.num_rows} rows in {found.id} lie in partitions now")
            else:
                click.echo(f"{found.id} is partitioned already, as it should be")
