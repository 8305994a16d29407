"""``migrate``: the DataStore moves in from PostgreSQL, or out again."""

from __future__ import annotations

import os
import sys
from functools import partial

import click
from ckan.plugins import toolkit as tk

from ckanext.bigquery_datastore import clients, config, downloads, load
from ckanext.bigquery_datastore.cli.common import progress_bar
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError, ConfigError
from ckanext.bigquery_datastore.migrate import postgres, rebuild, walk

URL_VARIABLE = "CKAN_BIGQUERY_MIGRATE_URL"


@click.command("migrate")
@click.argument("resources", nargs=-1)
@click.option("--back", is_flag=True, help="From BigQuery to PostgreSQL.")
@click.option(
    "--from",
    "source",
    metavar="URL",
    help="The DataStore to read, where it is not the site's own (ckan.datastore.write_url).",
)
@click.option(
    "--to",
    "target",
    metavar="URL",
    help="The DataStore to write, where it is not the site's own. An address that has a password "
    f"in it can stand in the environment variable {URL_VARIABLE} instead of --from or --to.",
)
@click.option("--dry-run", is_flag=True, help="Tell what there is, and what cannot be brought.")
@click.option("--yes", is_flag=True, help="Replace tables that differ without asking.")
def migrate(
    resources: tuple[str, ...],
    back: bool,
    source: str | None,
    target: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Bring the tables of the site's DataStore (or of RESOURCES) from PostgreSQL to BigQuery.

    The site goes on with the DataStore that it has. Each table is there whole, with its rows'
    numbers, its data dictionary, its key, indexes and aliases, or not at all, and is compared on
    both sides. Tables that are there already and equal are left alone: a run that was interrupted
    is finished by the next. Then change ckan.datastore.write_url and read_url.
    """
    try:
        postgresql, bigquery = _places(back, source, target)
        with config.placed(bigquery):
            config.validate()
            is_well = _walk(resources, postgresql, back, dry_run, yes)
    except BigQueryDatastoreError as err:
        click.secho(str(err), fg="red", err=True)
        sys.exit(1)
    if not is_well:
        sys.exit(1)


def _places(back: bool, source: str | None, target: str | None) -> tuple[str, str]:
    """Where PostgreSQL is, and where BigQuery.

    :raises ConfigError: one is not known, or they are the wrong way round
    """
    own = str(tk.config.get("ckan.datastore.write_url") or "")
    other = os.environ.get(URL_VARIABLE)
    if source is None and target is None and other:
        source, target = (other, own) if other.startswith(_scheme(back)) else (own, other)
    found = (source or own, target or own)
    bigquery, postgresql = found if back else found[::-1]
    if not bigquery.startswith(f"{config.SCHEME}:"):
        raise ConfigError(
            f"{'--from' if back else '--to'} bigquery://<project>/<dataset> is missing: "
            "the site's own DataStore (ckan.datastore.write_url) is not on BigQuery."
        )
    if not postgresql.startswith("postgres"):
        raise ConfigError(
            f"{'--to' if back else '--from'} postgresql://… is missing: the site's own DataStore "
            "(ckan.datastore.write_url) is not on PostgreSQL."
        )
    return postgresql, bigquery


def _scheme(back: bool) -> str:
    return config.SCHEME if back else "postgres"


def _walk(
    resources: tuple[str, ...], postgresql: str, back: bool, dry_run: bool, yes: bool
) -> bool:
    """Show what becomes of each table; whether all is well."""
    client, store = clients.bigquery_rw(), downloads.store_rw()
    sides = walk.Sides(postgres.connected(postgresql), client, store)
    try:
        if not dry_run:
            load.sweep(client, store)
            if back:
                rebuild.prepare(sides.engine)
        elif not back and not resources:
            for name in walk.strangers(sides):
                click.echo(f"{name}  stays behind: CKAN has no such resource")
        sizes = (walk.in_bigquery if back else walk.in_postgresql)(sides, resources)
        look, bring = (walk.look_out, walk.bring_out) if back else (walk.look_in, walk.bring_in)
        with progress_bar("migrate", sum(sizes.values()) or 1) as advance:
            ask = partial(_ask, yes)

            def one(id: str) -> walk.Result:
                if dry_run:
                    return look(sides, id, sizes[id])
                return bring(sides, id, sizes[id], ask, advance)

            return _shown(list(map(_told, walk.each(sizes, one))), dry_run)
    finally:
        rebuild.forget_types()
        sides.engine.dispose()


def _ask(yes: bool, id: str, rows: int) -> bool:
    if yes:
        return True
    try:
        return click.confirm(
            f"\nThe table {id} is there already with {rows:,} rows, and differs. Replace it?",
            err=True,
        )
    except click.Abort:
        return False  # nobody is there to answer


def _told(result: walk.Result) -> walk.Result:
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)  # the bar comes back below
    click.echo(
        f"{result.id}  {result.rows:,} rows  {result.bytes:,} bytes  {result.state}".rstrip()
    )
    for line in result.told:
        click.echo(f"    {line}")
    return result


def _shown(results: list[walk.Result], dry_run: bool) -> bool:
    well = [result for result in results if result.is_well]
    rows = sum(result.rows for result in well)
    click.echo(
        f"{len(well)} of {len(results)} tables, {rows:,} rows: "
        + ("can be brought" if dry_run else "the same on both sides")
    )
    if len(well) < len(results) and not dry_run:
        click.echo("Some tables are not there. Give --yes to replace those that differ.", err=True)
    return len(well) == len(results)
