"""The command line: ``python -m ckanext.bigquery_datastore.emulator``.

``emulator`` is a click command; ``ckan bigquery emulator`` is the same object.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

_READY = """\
BigQuery and Cloud Storage are ready (project "{project}").

Point a shell at them:

  export BIGQUERY_EMULATOR_HOST={bigquery}
  export STORAGE_EMULATOR_HOST={storage}

Point a CKAN site at them, in ckan.ini:

  ckan.datastore.write_url = bigquery://{project}/datastore
  ckan.datastore.read_url = bigquery://{project}/datastore
  ckanext.bigquery_datastore.export_bucket = {bucket}{credentials}

Data: {data}. Stop with Ctrl-C.
"""


@click.command("emulator")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything in this folder, over restarts. Without it, nothing is kept.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--bigquery-port", default=9050, show_default=True, help="Port of BigQuery.")
@click.option("--storage-port", default=4443, show_default=True, help="Port of Cloud Storage.")
@click.option("--project", default="local", show_default=True, help="The Google Cloud project.")
@click.option("--location", default="EU", show_default=True, help="Location of new buckets.")
@click.option(
    "--bucket", "buckets", multiple=True, help="Create this bucket at start (repeatable)."
)
@click.option(
    "--credentials-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A throw-away service account key for signing URLs, made if the file is missing.",
)
@click.option("--reset", is_flag=True, help="Empty the data folder first.")
@click.option(
    "--table-updates/--no-table-updates",
    default=True,
    show_default=True,
    help="Let a table take five changes of its metadata in ten seconds, and no more.",
)
def emulator(
    data: Path | None,
    host: str,
    bigquery_port: int,
    storage_port: int,
    project: str,
    location: str,
    buckets: tuple[str, ...],
    credentials_file: Path | None,
    reset: bool,
    table_updates: bool,
) -> None:
    """Start a local BigQuery and Cloud Storage to try the extension without Google."""
    try:
        _silence()
        from .process import CannotStart, Settings, run
    except ImportError as error:
        click.echo(
            f"The emulator needs more packages ({error.name}): "
            'pip install "ckanext-bigquery-datastore[emulator]".',
            err=True,
        )
        sys.exit(1)
    settings = Settings(
        data=data,
        host=host,
        bigquery_port=bigquery_port,
        storage_port=storage_port,
        project=project,
        location=location,
        buckets=buckets,
        credentials_file=credentials_file,
        reset=reset,
        table_updates=table_updates,
    )
    try:
        run(settings, _announce)
    except CannotStart as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    # All is closed and written. A job's thread may still be inside DuckDB, which aborts the process
    # when the interpreter takes its usual way out.
    sys.stdout.flush()
    os._exit(0)


def _silence() -> None:
    """bqemulator logs as soon as it is imported; errors are enough."""
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    # It warns, with the whole statement, of each that it leaves to others to read.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)


def _announce(settings: object) -> None:
    from .process import Settings

    assert isinstance(settings, Settings)
    key = settings.credentials_file
    click.echo(
        _READY.format(
            project=settings.project,
            bigquery=settings.bigquery_url,
            storage=settings.storage_url,
            bucket=settings.buckets[0] if settings.buckets else "exports",
            credentials=f"\n  ckanext.bigquery_datastore.credentials = {key}" if key else "",
            data=settings.data or "a temporary folder that goes away",
        )
    )
