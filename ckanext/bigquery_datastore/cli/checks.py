"""``check``: whether the site is set up as it should be."""

from __future__ import annotations

import click

from ckanext.bigquery_datastore import checking, config
from ckanext.bigquery_datastore.cli.common import said_to_person


@click.command("check")
def check() -> None:
    """Say how many downloads can wait, and be streamed, with the site's server as it is.

    The site has to be up; one of its processes is asked.
    """
    with said_to_person():
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
