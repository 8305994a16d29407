"""``emulator``: BigQuery and Cloud Storage on this machine."""

from __future__ import annotations

import click


@click.command("emulator", context_settings={"ignore_unknown_options": True}, add_help_option=False)
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
