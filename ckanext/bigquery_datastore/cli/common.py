"""What all commands do: find the resource, show progress, say a failure as a sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from ckan import model

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError


def live_resource(id: str) -> model.Resource:
    found = door.resource(id)
    if found is None or not door.is_live(id):
        raise click.ClickException(f"There is no resource {id}.")
    return found


@contextmanager
def progress_bar(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, to be advanced by a number; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


@contextmanager
def said_to_person() -> Iterator[None]:
    if not config.is_active():
        raise click.ClickException(
            "The DataStore of this site is not on BigQuery: ckan.datastore.write_url is not "
            "bigquery://<project>/<dataset>."
        )
    try:
        yield
    except BigQueryDatastoreError as err:
        click.secho(str(err), fg="red", err=True)
        sys.exit(1)
