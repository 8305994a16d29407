"""``ckan bigquery``: load and export tables, keep the bucket clean, try it all without Google."""

from __future__ import annotations

import click

from ckanext.bigquery_datastore.cli import (
    attaching,
    checks,
    dumping,
    emulators,
    exports,
    loading,
    migrating,
    state,
    tables,
)

# What CKAN's blanket adds to `ckan`.
__all__ = ["bigquery"]


@click.group(short_help="Manage the DataStore on BigQuery.")
def bigquery() -> None:
    """Manage the DataStore on BigQuery."""


for command in (
    loading.load_file,
    tables.lay_out,
    migrating.migrate,
    attaching.attach,
    attaching.detach,
    exports.export,
    dumping.dump,
    state.status,
    exports.purge,
    exports.sweep,
    checks.check,
    emulators.emulator,
):
    bigquery.add_command(command)
