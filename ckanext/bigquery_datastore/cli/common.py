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


def live_resource(name: str) -> model.Resource:
    """The resource of this id, or of ``dataset/resource name``, where one is called so.

    :raises ClickException: there is none, or more than one
    """
    if "/" in name:
        return _named(*name.split("/", 1))
    found = door.resource(name)
    if found is None or not door.is_live(name):
        raise click.ClickException(
            f"There is no resource {name}. Give its id, or dataset/resource name."
        )
    return found


def _named(dataset_name: str, name: str) -> model.Resource:
    dataset = model.Package.get(dataset_name)
    if dataset is None or dataset.state == model.State.DELETED:
        raise click.ClickException(f"There is no dataset {dataset_name}.")
    found = [
        resource
        for resource in dataset.resources_all
        if resource.state != model.State.DELETED and name in (resource.name, resource.id)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(resource.id for resource in found)
        raise click.ClickException(
            f"The dataset {dataset_name} has {len(found)} resources {name}. Give an id: {ids}."
        )
    others = ", ".join(sorted(resource.name or resource.id for resource in dataset.resources))
    raise click.ClickException(
        f"The dataset {dataset_name} has no resource {name}, but: {others or 'none'}."
    )


@contextmanager
def progress_bar(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, to be advanced by a number; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


@contextmanager
def progress_of(label: str) -> Iterator[Callable[[float | None], None]]:
    """The same for a share of a work, from 0 to 1, which may be found to be less than it was."""
    with progress_bar(label, 100) as advance:
        reached = 0

        def told(progress: float | None) -> None:
            nonlocal reached
            # BigQuery may find more work than it knew of: the bar waits then.
            now = max(reached, int(100 * (progress or 0)))
            advance(now - reached)
            reached = now

        yield told
        told(1)


def sized(size: float) -> str:
    """Bytes for a person: 1.4 MiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


@contextmanager
def said_to_person() -> Iterator[None]:
    """Run a command: what goes wrong is one sentence on standard error, and exit code 1."""
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


def asks_on_a_terminal(question: str, yes: bool) -> None:
    """Go on where a person says so, or where none is there to be asked: cron, a pipe.

    :raises click.Abort: no
    """
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True)
