"""``check``: whether the site is set up as it should be."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from ckanext.bigquery_datastore import checking
from ckanext.bigquery_datastore.cli.common import said_to_person

_MARKS = {
    checking.OK: ("✓", "green"),
    checking.WRONG: ("✗", "red"),
    checking.UNKNOWN: ("?", "yellow"),
}


@click.command("check")
@click.option("--live", is_flag=True, help="Also run a tiny export, which costs less than a cent.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
def check(live: bool, as_json: bool) -> None:
    """Look at every setting and permission, and say how to mend what is wrong.

    One line each: ✓ well, ✗ wrong, ? not known or a matter of choice, with a command to paste. A
    file of a few bytes is written to the bucket, and deleted. The server is asked how many
    downloads can wait, and be streamed: for that the site has to be up. Exit code 1 where
    anything is wrong.
    """
    with said_to_person():
        found = {}
        for name, finding in checking.run(live=live):
            found[name] = finding
            if not as_json:
                mark, color = _MARKS[finding.state]
                click.echo(f"{click.style(mark, fg=color)} {name}: {finding.said}")
                if finding.fix:
                    click.echo(f"    {finding.fix}")
        wrong = sum(finding.state == checking.WRONG for finding in found.values())
        if as_json:
            rows = [{"check": name, **asdict(finding)} for name, finding in found.items()]
            click.echo(json.dumps({"wrong": wrong, "checks": rows}, ensure_ascii=False))
        elif wrong:
            click.echo(f"{wrong} of {len(found)} are wrong.", err=True)
        sys.exit(1 if wrong else 0)
