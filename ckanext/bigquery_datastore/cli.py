"""``ckan bigquery``: load and export tables, keep the bucket clean, try it all without Google."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from ckan import model
from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import checking, clients, config, downloads, jobs, load, purging
from ckanext.bigquery_datastore.backend import BigQueryBackend, door
from ckanext.bigquery_datastore.backend.table.lookup import get_table
from ckanext.bigquery_datastore.backend.table.naming import of_name
from ckanext.bigquery_datastore.backend.table.types import Type
from ckanext.bigquery_datastore.backend.write import lock, replace
from ckanext.bigquery_datastore.dump import sweep as sweeping
from ckanext.bigquery_datastore.dump.formats import FORMATS
from ckanext.bigquery_datastore.dump.objects import ROOT
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError

# What CKAN's blanket adds to `ckan`.
__all__ = ["bigquery"]


@click.group(short_help="Manage the DataStore on BigQuery.")
def bigquery() -> None:
    """Manage the DataStore on BigQuery."""


@bigquery.command("load")
@click.argument("resource")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(load.FILE_FORMATS)),
    help="The file's format, where its name does not tell it (.gz is found by itself).",
)
@click.option("--null", metavar="TEXT", help="What stands for a missing value in a CSV, e.g. NA.")
@click.option("--encoding", metavar="NAME", help="Of a text that is not in UTF-8: windows-1252 …")
@click.option(
    "--type",
    "types",
    metavar="COLUMN=TYPE",
    multiple=True,
    help="A column's DataStore type, such as code=text; the others get one that fits all rows.",
)
def load_file(
    resource: str,
    file: Path,
    format_name: str | None,
    null: str | None,
    encoding: str | None,
    types: tuple[str, ...],
) -> None:
    """Replace the table of RESOURCE (its id) by the rows of FILE (CSV, NDJSON or Parquet).

    A column _id is added: the place of the row in the file. A file that has one already, as
    downloads have, is numbered anew.

    Columns that the table has already keep their types and what the data dictionary says of them;
    the table keeps its aliases and its primary key. The table is replaced in one step, or not at
    all.
    """
    with _said_to_person():
        found = _resource(resource)
        file_format = load.FILE_FORMATS[format_name] if format_name else load.format_of(file)
        with _progress(file.name, file.stat().st_size) as advance:
            rows = load.load(
                clients.bigquery_rw(),
                downloads.store_rw(),
                found.id,
                file,
                file_format,
                null=null,
                encoding=encoding,
                types=dict(map(_type_of, types)),
                labels=config.job_labels(),
                progress=advance,
            )
        tk.get_action("resource_patch")(
            {"ignore_auth": True, "user": ""}, {"id": found.id, "datastore_active": True}
        )
        jobs.prepare_soon(found.id)
        click.echo(f"{rows} rows in {found.id}")


@bigquery.command("layout")
@click.argument("resource")
def lay_out(resource: str) -> None:
    """Partition the table of RESOURCE (its id), so that a page or a change reads little of it.

    Tables that are made or loaded by this version are partitioned already. One scan of the table
    is billed, and its files are exported anew. For a moment, while the new table takes the name of
    the old one, there is none of that name.
    """
    with _said_to_person():
        found = _resource(resource)
        client = clients.bigquery_rw()
        with lock.writing(found.id):
            table = get_table(client, found.id)
            if table is None:
                raise click.ClickException(f"The resource {resource} has no table.")
            if replace.lay_out(client, table, load.JOB_SECONDS):
                click.echo(f"{table.num_rows} rows in {found.id} lie in partitions now")
            else:
                click.echo(f"{found.id} is partitioned already, as it should be")


@bigquery.command("export")
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
    with _said_to_person():
        found = _resource(resource)
        for name in format_names:
            plans = jobs.files(found.id, name)
            if not plans:
                raise click.ClickException(f"The resource {resource} has no table.")
            for plan in plans:
                ready = _exported(plan, f"{found.id}.{name}")
                click.echo(f"gs://{config.export_bucket()}/{plan.target} {ready.size} bytes")


def _exported(plan: downloads.DumpPlan, label: str) -> downloads.Ready:
    with _progress(label, 100) as advance:
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


@bigquery.command("sweep")
@click.option("--resource", metavar="ID", help="Only the exports of this resource.")
def sweep(resource: str | None) -> None:
    """Delete exports that a newer one has replaced, and what broken ones have left.

    Nothing goes that a download link may still point to, but exports of resources that are
    deleted, private or without a table by now, and what a `load` that was killed has left a day
    ago. The site does all this by itself, after each export, deletion and load; this command does
    it for all resources, now, and mends what failed then.
    """
    with _said_to_person():
        prefix = f"{ROOT}{resource}/" if resource else ROOT
        deleted = sweeping.sweep(downloads.store_rw(), prefix, downloads.url_lifetime())
        if resource is None:
            deleted += load.sweep(clients.bigquery_rw(), downloads.store_rw())
            deleted += purging.purge_orphans(BigQueryBackend().get_all_ids())
        click.echo(f"{deleted} objects deleted")


@bigquery.command("check")
def check() -> None:
    """Say how many downloads can wait, and be streamed, with the site's server as it is.

    The site has to be up; one of its processes is asked.
    """
    with _said_to_person():
        told = checking.ask()
        threads = told["threads"]
        held = f"{threads} threads a process" if threads else "downloads hold no thread"
        click.echo(f"{told['server']}: {held}")
        for doing, option in (
            ("waiting", config.WAITING_REQUESTS),
            ("streaming", config.STREAMING_REQUESTS),
        ):
            taken, most = told[doing]
            click.echo(f"{doing}: {taken} now, {most} at most in one process ({option})")
        if threads == 1 and told["waiting"][1]:
            click.echo(
                "A process of this server does one thing at a time: while a download waits, it "
                f"answers nobody. Give it threads, or set {config.WAITING_REQUESTS} to 0."
            )


@bigquery.command(
    "emulator", context_settings={"ignore_unknown_options": True}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Start a local BigQuery and a local Cloud Storage, for trying things out."""
    try:
        from ckanext.bigquery_datastore.emulator.command import emulator as command
    except ImportError as err:
        raise click.ClickException(
            "The emulators are not installed. Install them with: "
            'pip install "ckanext-bigquery-datastore[emulator]"'
        ) from err
    command.main(list(arguments), prog_name="ckan bigquery emulator")


def _type_of(pair: str) -> tuple[str, Type]:
    name, _, type_name = pair.partition("=")
    known = of_name(type_name)
    if known is None:
        raise click.ClickException(f"--type {pair}: {type_name!r} is no type of the DataStore.")
    return name, known


def _resource(id: str) -> model.Resource:
    found = door.resource(id)
    if found is None or not door.is_live(id):
        raise click.ClickException(f"There is no resource {id}.")
    return found


@contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, to be advanced by a number; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


@contextmanager
def _said_to_person() -> Iterator[None]:
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
