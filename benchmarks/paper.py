"""On paper: what a large catalogue costs a month, and which of Google's quotas it meets first.

    python -m benchmarks.paper --table-tib 10 --downloads 100000 --tables 10000 [--page FILE]

Prints the tables of docs/operators/scale.md, or writes them into that page. Nothing is measured
here: what is assumed is an option, what Google charges or allows is a line below, with its source.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

BEGIN, END = "<!-- computed -->", "<!-- to here -->"
DAYS, HOURS = 365 / 12, 730

STORAGE = "https://cloud.google.com/storage/pricing"
BIGQUERY = "https://cloud.google.com/bigquery/pricing"
SQL = "https://cloud.google.com/sql/pricing"
QUOTAS = "https://docs.cloud.google.com/bigquery/quotas"
STORAGE_QUOTAS = "https://docs.cloud.google.com/storage/quotas"


def given(default: float, about: str) -> float:
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True)
class Inputs:
    """What somebody knows of a catalogue, or assumes."""

    table_tib: float = given(10, "TiB of all tables together, as BigQuery counts them")
    downloads: float = given(100_000, "downloads a day")
    tables: float = given(10_000, "tables")
    file_mib: float = given(100, "MiB of the file that is downloaded on average")
    peak: float = given(10, "times as many downloads in the busiest second as on average")
    changed: float = given(0.1, "share of the tables that change in a day")
    formats: float = given(2, "formats that are downloaded of a table after each change")
    files: float = given(1.3, "bytes of all files of a table, a byte of the table")
    shards: float = given(100, "files that BigQuery writes for an export")
    redirect_ms: float = given(30, "milliseconds of a CKAN processor for a redirect")
    core_mb: float = given(10, "MB a second that a processor of CKAN's core dumps")
    postgres: float = given(2, "bytes on PostgreSQL's disk, a byte of the table, with text search")
    postgres_vcpus: float = given(32, "vCPUs of the PostgreSQL instance")
    postgres_gib: float = given(208, "GiB of memory of the PostgreSQL instance")
    instances: float = given(2, "PostgreSQL instances: 2 is one that stands by")
    ckan_vcpu: float = given(25, "dollars a month for a CKAN processor and its memory")

    @property
    def exports(self) -> float:
        """In a day."""
        return self.tables * self.changed * self.formats

    @property
    def writes(self) -> float:
        """Class A operations of an export: its shards, their joins, the claim, lists."""
        return self.shards + self.shards / 31 + 6

    @property
    def second(self) -> float:
        """Downloads in the busiest second."""
        return self.downloads / 86_400 * self.peak

    @property
    def scanned_tib(self) -> float:
        """In a day, by exports."""
        return self.table_tib * self.changed * self.formats

    @property
    def sent_gib(self) -> float:
        """In a month."""
        return self.downloads * self.file_mib / 1024 * DAYS

    @property
    def core_processors(self) -> float:
        return math.ceil(self.second * self.file_mib * 1.048576 / self.core_mb)

    @property
    def our_processors(self) -> float:
        return math.ceil(self.second * self.redirect_ms / 1000)


@dataclass(frozen=True)
class Cost:
    """A line of the bill: so many units at so many dollars each, a month."""

    what: str
    units: Callable[[Inputs], float]
    unit: str
    dollars: float
    source: str


EGRESS = Cost("bytes to visitors", lambda of: of.sent_gib, "GiB sent", 0.12, STORAGE)

ON_BIGQUERY = (
    Cost("tables", lambda of: of.table_tib * 1024, "GiB, active, logical", 0.02, BIGQUERY),
    Cost("exports", lambda of: of.scanned_tib * DAYS, "TiB read, on demand", 6.25, BIGQUERY),
    Cost("files", lambda of: of.table_tib * 1024 * of.files, "GiB, Standard", 0.02, STORAGE),
    Cost(
        "writing them",
        lambda of: of.exports * DAYS * of.writes / 1000,
        *("thousand class A operations", 0.005, STORAGE),
    ),
    Cost(
        "reading them",
        lambda of: of.downloads * DAYS * 2 / 1000,  # CKAN looks for it, the visitor gets it
        *("thousand class B operations", 0.0004, STORAGE),
    ),
    EGRESS,
)

ON_POSTGRESQL = (
    Cost(
        "disk", lambda of: of.table_tib * 1024 * of.postgres * of.instances, "GiB, SSD", 0.17, SQL
    ),
    Cost("vCPUs", lambda of: of.postgres_vcpus * of.instances * HOURS, "hours", 0.0413, SQL),
    Cost("memory", lambda of: of.postgres_gib * of.instances * HOURS, "GiB hours", 0.007, SQL),
    EGRESS,
)


@dataclass(frozen=True)
class Quota:
    """What Google allows, and what of it the catalogue uses; ``grows`` with what."""

    what: str
    limit: float
    used: Callable[[Inputs], float]
    grows: str
    source: str

    def row(self, of: Inputs) -> str:
        used = self.used(of)
        times = self.limit / used
        now = of.downloads if self.grows == "downloads" else of.tables * of.changed
        return (
            f"{self.limit:,.0f} ([source]({self.source})) "
            f"| {used:,.{0 if used >= 100 else 1}f} "
            f"| {times:,.0f} × as many {self.grows}, {times * now:,.0f} a day"
        )


OBJECTS = "Cloud Storage: objects {} a second, before the bucket has grown used to it"
QUOTAS_MET = (
    Quota(
        "BigQuery: calls a second of one identity to one method (`tables.get`, none remembered)",
        *(100, lambda of: of.second, "downloads", QUOTAS),
    ),
    Quota(
        "BigQuery: TiB that queries on demand read in a day",
        *(200, lambda of: of.scanned_tib, "changed tables", QUOTAS),
    ),
    Quota(
        "BigQuery: queries that wait, where an export takes a minute",
        *(1_000, lambda of: of.exports / 1_440 * of.peak, "changed tables", QUOTAS),
    ),
    Quota(
        "BigQuery: load jobs a day",
        *(100_000, lambda of: of.tables * of.changed, "changed tables", QUOTAS),
    ),
    Quota(
        OBJECTS.format("read"),
        *(5_000, lambda of: 2 * of.second, "downloads", STORAGE_QUOTAS),
    ),
    Quota(
        OBJECTS.format("written"),
        *(
            1_000,
            lambda of: of.exports / 86_400 * of.peak * of.writes,
            "changed tables",
            STORAGE_QUOTAS,
        ),
    ),
)


def bill(costs: Sequence[Cost], of: Inputs, processors: float) -> list[str]:
    rows = [
        f"| {cost.what} | {cost.units(of):,.0f} {cost.unit} | {cost.dollars:g} "
        f"([source]({cost.source})) | {cost.units(of) * cost.dollars:,.0f} |"
        for cost in costs
    ]
    rows.append(
        f"| CKAN's processors for downloads | {processors:,.0f} at the busiest second "
        f"| {of.ckan_vcpu:g} (assumed) | {processors * of.ckan_vcpu:,.0f} |"
    )
    total = sum(cost.units(of) * cost.dollars for cost in costs) + processors * of.ckan_vcpu
    rows.append(f"| **together** | | | **{total:,.0f}** |")
    sent = EGRESS.units(of) * EGRESS.dollars
    rows.append(f"| without the bytes to visitors | | | {total - sent:,.0f} |")
    return rows


def tables(of: Inputs) -> str:
    head = ["| a month | how much | dollars each | dollars |", "|---|---|--:|--:|"]
    assumed = [
        f"| {one.metadata['about']} | {getattr(of, one.name):,g} "
        f"| `--{one.name.replace('_', '-')}` |"
        for one in fields(of)
    ]
    met = sorted(QUOTAS_MET, key=lambda quota: quota.limit / quota.used(of))
    quotas = [f"| {quota.what} | {quota.row(of)} |" for quota in met]
    return "\n".join(
        [
            *("| assumed | | option |", "|---|--:|---|", *assumed, ""),
            *("## On BigQuery", "", *head, *bill(ON_BIGQUERY, of, of.our_processors), ""),
            *("## On PostgreSQL", "", *head, *bill(ON_POSTGRESQL, of, of.core_processors), ""),
            *("## Which quota is met first", ""),
            "| quota | allowed | used | met at |",
            *("|---|--:|--:|---|", *quotas, ""),
        ]
    )


def main() -> None:
    options = argparse.ArgumentParser(description="What a large catalogue costs, on paper.")
    for one in fields(Inputs):
        assert one.default is not MISSING
        options.add_argument(
            f"--{one.name.replace('_', '-')}",
            type=float,
            default=one.default,
            help=f"{one.metadata['about']} ({one.default:g})",
        )
    options.add_argument("--page", type=Path, help="write the tables into this page")
    asked = vars(options.parse_args())
    page: Path | None = asked.pop("page")
    text = tables(Inputs(**asked))
    if page is None:
        sys.stdout.write(text)
        return
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
