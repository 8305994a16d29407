"""``load``: a file, an address, or the resource's own file into a table; ``--all`` for a site."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from ckan import model
from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import loading
from ckanext.bigquery_datastore.backend.table.naming import of_name
from ckanext.bigquery_datastore.cli.common import live_resource, progress_bar, said_to_person
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError
from ckanext.bigquery_datastore.load.kinds import KINDS, kind_of, kind_of_name
from ckanext.bigquery_datastore.load.source import LocalFile, Source
from ckanext.bigquery_datastore.load.wish import MODES, MOST_BAD_ROWS, Wish
from ckanext.bigquery_datastore.loading import sources
from ckanext.bigquery_datastore.loading.status import Status


@click.command("load")
@click.argument("resource", required=False)
@click.argument("file", required=False)
@click.option("--all", "is_all", is_flag=True, help="Every resource of the site that is a table.")
@click.option(
    "--mode",
    type=click.Choice(list(MODES)),
    help="What becomes of the rows that are there: replace (by default), append, upsert.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(KINDS)),
    help="The file's format, where its name does not tell it (.gz and .zip are found).",
)
@click.option("--sheet", metavar="NAME", help="The sheet of a spreadsheet; the first by default.")
@click.option("--null", metavar="TEXT", help="What stands for a missing value in a CSV, e.g. NA.")
@click.option("--encoding", metavar="NAME", help="Of a text, where it shall not be found out.")
@click.option("--delimiter", metavar="SIGN", help="Of a CSV, where it shall not be found out.")
@click.option("--day-first", is_flag=True, help="31/12/2024 and 31.12.2024 are dates.")
@click.option(
    "--skip-bad-rows",
    type=click.IntRange(0, MOST_BAD_ROWS),
    default=0,
    metavar="N",
    help="Set aside up to N rows that do not fit, instead of loading nothing.",
)
@click.option("--force", is_flag=True, help="Load files, too, that have not changed.")
@click.option(
    "--type",
    "types",
    metavar="COLUMN=TYPE",
    multiple=True,
    help="A column's DataStore type, such as code=text; the others get one that fits all rows.",
)
def load_file(
    resource: str | None,
    file: str | None,
    is_all: bool,
    mode: str | None,
    types: tuple[str, ...],
    force: bool,
    **options: Any,
) -> None:
    """Load the rows of FILE into the table of RESOURCE (its id): a file, or an address, of CSV,
    TSV, NDJSON, Parquet, Excel or OpenDocument. Without FILE, the resource's own file is loaded.

    A column _id is added: the place of the row in the file. A file that has one already, as
    downloads have, is numbered anew.

    Columns that the table has already keep their types and what the data dictionary says of them;
    the table keeps its aliases and its primary key. The table is changed in one step, or not at
    all.
    """
    if is_all == bool(resource):
        raise click.UsageError("Name a resource, or --all.")
    if options["delimiter"] is not None and len(options["delimiter"]) != 1:
        raise click.UsageError("--delimiter is one character.")
    options["format"] = options.pop("format_name")
    options["types"] = dict(map(_type_of, types))
    with said_to_person():
        if is_all:
            _all(mode, options, force)
            return
        found = live_resource(str(resource))
        known = loading.resource_of(found.id)
        source = _source(known, file, options["format"])
        wish = _wish(known, mode, options)
        ended = _loaded(found.id, source, wish, force or file is not None, source.name)
        for line in ended.log[1:-1]:
            click.echo(line["message"], err=True)
        if ended.bad_rows:
            click.echo(f"Rows that were set aside: {ended.bad_rows} in the bucket", err=True)
        click.echo(f"{ended.rows} rows in {found.id}")


def _source(resource: dict[str, Any], file: str | None, format_name: str | None) -> Source:
    if file is None:
        return sources.source_of(resource)
    if file.startswith(("http://", "https://")):
        return sources.linked(file, KINDS[format_name] if format_name else None)
    path = Path(file)
    if not path.is_file():
        raise click.UsageError(f"There is no file {file}.")
    return LocalFile(path, path.name, kind_of_name(path.name))


def _wish(resource: dict[str, Any], mode: str | None, options: dict[str, Any]) -> Wish:
    asked = loading.wish_of(resource)
    options = {**options, "day_first": options["day_first"] or asked.day_first}
    return Wish(**{**options, "mode": mode or asked.mode, "sheet": options["sheet"] or asked.sheet})


def _loaded(resource_id: str, source: Source, wish: Wish, force: bool, label: str) -> Status:
    """The load after its end.

    :raises BigQueryDatastoreError: why nothing was loaded
    """
    with progress_bar(label, 100) as advance:
        done = 0

        def told(step: str, progress: float | None) -> None:
            nonlocal done
            percent = int(100 * (progress or 0))
            if percent > done:
                advance(percent - done)
                done = percent

        return loading.by_hand(resource_id, source, wish, force=force, told=told)


def _all(mode: str | None, options: dict[str, Any], force: bool) -> None:
    """Every resource whose file is a table; what fails is told, and the others go on."""
    wanted = model.Session.query(model.Resource.id).filter(
        model.Resource.state == model.State.ACTIVE
    )
    ids = [id for (id,) in wanted.order_by(model.Resource.package_id, model.Resource.position)]
    rows = failed = 0
    with progress_bar("resources", len(ids)) as advance:
        for id in ids:
            try:
                resource = loading.resource_of(id)
                if kind_of(resource) is not None:
                    wish, source = _wish(resource, mode, options), sources.source_of(resource)
                    ended = loading.by_hand(id, source, wish, force=force)
                    rows += ended.rows or 0
                    click.echo(f"{ended.rows} rows in {id}")
            except (BigQueryDatastoreError, tk.ObjectNotFound) as err:
                failed += 1
                click.secho(f"{id}: {err}", fg="red", err=True)
            advance(1)
    click.echo(f"{rows} rows in all, {failed} resources failed")
    if failed:
        sys.exit(1)


def _type_of(pair: str) -> tuple[str, str]:
    name, _, type_name = pair.partition("=")
    if of_name(type_name) is None:
        raise click.ClickException(f"--type {pair}: {type_name!r} is no type of the DataStore.")
    return name, type_name
