"""Lines to copy and run that bring a table into a tool: a row each. Pure.

The page shows them; the tests run each that ``is_run``, against a site.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """``text`` holds places for ``<csv>``, ``<parquet>`` (addresses), ``<file>`` (a name without
    extension) and ``<table>`` (BigQuery's); ``language`` is highlight.js' name.

    ``is_run`` is false where no test can run it; ``for_organisation`` says whom it is for.
    """

    name: str
    title: str
    language: str
    text: str
    is_run: bool = True
    for_organisation: bool = False


_CURL = "curl --fail --location --retry 20 --continue-at - --output {file} {url}"


def curl(url: str, file: str) -> str:
    """Resumes what is there of the file; waits where the site still prepares it."""
    return _CURL.format(file=shlex.quote(file), url=shlex.quote(url))


RECIPES = (
    Recipe("curl", "curl", "bash", _CURL.format(file="<file>.csv", url="<csv>")),
    Recipe(
        "wget",
        "wget",
        "bash",
        "wget --continue --tries=20 --retry-on-http-error=503 <csv>",
    ),
    Recipe(
        "pandas",
        "Python: pandas",
        "python",
        'import pandas as pd\n\ndata = pd.read_parquet("<parquet>")',
    ),
    Recipe(
        "polars",
        "Python: Polars",
        "python",
        'import polars as pl\n\ndata = pl.read_parquet("<parquet>")',
    ),
    Recipe("duckdb", "DuckDB", "sql", "SELECT * FROM '<parquet>' LIMIT 10;"),
    Recipe(
        "r",
        "R: arrow",
        "r",
        "library(arrow)\n\n"
        'download.file("<parquet>", "<file>.parquet", mode = "wb")\n'
        'data <- read_parquet("<file>.parquet")',
        is_run=False,
    ),
    Recipe(
        "excel",
        "Excel: Power Query",
        "plaintext",
        "let\n"
        "    Source = Csv.Document(\n"
        '        Web.Contents("<csv>"),\n'
        '        [Delimiter = ",", Encoding = 65001, QuoteStyle = QuoteStyle.Csv]\n'
        "    ),\n"
        "    Result = Table.PromoteHeaders(Source)\n"
        "in\n"
        "    Result",
        is_run=False,
    ),
    Recipe(
        "bigquery",
        "BigQuery",
        "sql",
        "SELECT * FROM `<table>` LIMIT 1000;",
        for_organisation=True,
    ),
)


def filled(recipe: Recipe, places: Mapping[str, str]) -> str:
    """The lines for one table. Addresses have been quoted as such (see ``menu.address``).

    A file's name gets letters, digits and a few signs alone: it is nobody's syntax.
    """
    safe = {**places, "file": re.sub(r"[^\w.-]+", "-", places["file"]).lstrip("-")}
    return re.sub(r"<(csv|parquet|file|table)>", lambda found: safe[found[1]], recipe.text)
