"""``load``: a file into a table."""

from __future__ import annotations

from pathlib import Path

import click
from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import clients, config, downloads, jobs, load
from ckanext.bigquery_datastore.backend.table.naming import of_name
from ckanext.bigquery_datastore.backend.table.types import Type
from ckanext.bigquery_datastore.cli.common import live_resource, progress_bar, said_to_person


@click.command("load")
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
    with said_to_person():
        found = live_resource(resource)
        file_format = load.FILE_FORMATS[format_name] if format_name else load.format_of(file)
        with progress_bar(file.name, file.stat().st_size) as advance:
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


def _type_of(pair: str) -> tuple[str, Type]:
    name, _, type_name = pair.partition("=")
    known = of_name(type_name)
    if known is None:
        raise click.ClickException(f"--type {pair}: {type_name!r} is no type of the DataStore.")
    return name, known
