"""``dump``: a table as a file on this machine, or into a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from ckan.lib.navl.dictization_functions import validate

from ckanext.bigquery_datastore import downloads, jobs, saving
from ckanext.bigquery_datastore.cli.common import (
    live_resource,
    progress_bar,
    progress_of,
    said_to_person,
    sized,
)
from ckanext.bigquery_datastore.dump.formats import FORMATS
from ckanext.bigquery_datastore.logic.schema import dump_schema

# How a pipe is called, as with curl and tar.
PIPE = "-"


@click.command("dump")
@click.argument("resource")
@click.argument("file", required=False)
@click.option(
    "--format", "format_", type=click.Choice(list(FORMATS)), help="By default by the file's name."
)
@click.option("--bom", is_flag=True, help="A byte order mark, for spreadsheets (csv, tsv).")
@click.option("--filters", metavar="JSON", help='Such as \'{"origin": ["JFK", "LGA"]}\'.')
@click.option("--q", metavar="TEXT", help="Rows with these words.")
@click.option("--fields", metavar="NAMES", help="The columns, separated by commas.")
@click.option("--sort", metavar="TERMS", help="Such as 'day desc, _id'.")
@click.option("--distinct", is_flag=True, help="No two rows that are alike.")
@click.option("--limit", type=click.IntRange(0))
@click.option("--offset", type=click.IntRange(0))
def dump(resource: str, file: str | None, format_: str | None, **asked: Any) -> None:
    """Write the table of RESOURCE (its id, or dataset/resource name) into FILE.

    FILE is - for a pipe, a folder, or left out: the file is then called as a visitor's is. It is
    exported as for a visitor, and compared with its CRC32C. A download that breaks off is gone on
    with when the same command is run again.
    """
    with said_to_person(), _of_files():
        found = live_resource(resource)
        plan = downloads.prepare(found.id, _params(format_ or _format_of(file), asked))
        if plan is None:
            raise click.ClickException(f"The resource {resource} has no table.")
        if file == PIPE:
            _pipe(plan)
            return
        target = Path(file or plan.filename)
        if target.is_dir():
            target /= plan.filename
        click.echo(f"{target} {_saved(plan, target)} bytes")


def _params(format_: str, asked: dict[str, Any]) -> dict[str, Any]:
    given = {name: str(value) for name, value in asked.items() if value not in (None, False)}
    params, errors = validate({"format": format_, **given}, dump_schema())
    if errors:
        lines = [f"--{name}: {' '.join(errors[name])}" for name in errors]
        raise click.ClickException("\n".join(lines))
    filters = params.get("filters")
    if isinstance(filters, str):
        raise click.ClickException(f"--filters: {json.dumps(filters)} is no object of JSON.")
    return params


def _format_of(file: str | None) -> str:
    """By the end of a file's name; csv where that tells nothing."""
    name = Path(file or "").name.lower()
    ends = [format_ for format_ in FORMATS if name.endswith(f".{format_}")]
    return max(ends, key=len, default="csv")


def _saved(plan: downloads.DumpPlan, target: Path) -> int:
    if plan.is_page:
        data = b"".join(downloads.page(plan))
        target.write_bytes(data)
        return len(data)
    ready = _ready(plan)
    with _bytes_bar(plan, ready) as advance:
        return saving.save(plan, ready, target, advance)


def _pipe(plan: downloads.DumpPlan) -> None:
    out = sys.stdout.buffer
    if plan.is_page:
        out.writelines(downloads.page(plan))
    else:
        ready = _ready(plan)
        with _bytes_bar(plan, ready) as advance:
            saving.write(plan, ready, out, advance)
    out.flush()


def _ready(plan: downloads.DumpPlan) -> downloads.Ready:
    with progress_of(f"exporting {plan.filename}") as told:
        return jobs.finished(plan, lambda state: told(state.progress))


@contextmanager
def _bytes_bar(plan: downloads.DumpPlan, ready: downloads.Ready) -> Iterator[Any]:
    if plan.format.rewrite:
        # Longer or shorter than what it is made of: nobody knows how long.
        yield lambda size: None
        return
    with progress_bar(f"downloading {sized(ready.size)}", ready.size) as advance:
        yield advance


@contextmanager
def _of_files() -> Iterator[None]:
    """What the disk refuses, as a sentence; a pipe that is closed at its other end is click's."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as err:
        raise click.ClickException(f"{err.filename or 'the file'}: {err.strerror}.") from err
