"""A table of BigQuery's that a resource shows without a copy: its name, columns and view. Pure.

What CKAN knows as the resource's table is then a view of ours. Its description says what it shows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ckanext.bigquery_datastore.backend.table.model import (
    ID,
    NAME_LIMIT,
    Table,
    quote_name,
    table_description,
)
from ckanext.bigquery_datastore.errors import Invalid

#: For people who look at the dataset in Google's console.
LABEL = "ckan_attached"

# Projects: https://cloud.google.com/resource-manager/docs/creating-managing-projects; some have a
# domain before them. Datasets: https://cloud.google.com/bigquery/docs/datasets#dataset-naming.
_NAME = re.compile(
    r"(?P<project>(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{2,61}[a-z0-9])[.:]"
    r"(?P<dataset>[A-Za-z0-9_]{1,1024})\.(?P<table>[^.:]+)"
)

_LONGEST = 3_000  # project, dataset and table are shorter together

NOT_WRITTEN = (
    "The rows of this resource are those of a BigQuery table that is attached to it: they are "
    "changed there, and never here. `ckan bigquery detach` ends that."
)


@dataclass(frozen=True)
class Source:
    """The table that is shown, by its three names."""

    project: str
    dataset: str
    table: str

    @property
    def full_id(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"

    @property
    def for_bq(self) -> str:
        """As the command ``bq`` takes it."""
        return f"{self.project}:{self.dataset}.{self.table}"


def source_of(name: str) -> Source | None:
    """The table of this name: project.dataset.table, or project:dataset.table; None: it is none.

    What a table may be called is known to ``lookup.is_name``.
    """
    found = _NAME.fullmatch(name) if len(name) < _LONGEST else None
    return found and Source(**found.groupdict())


def shown(columns: Sequence[tuple[str, bool]]) -> dict[str, str]:
    """The names that CKAN shows columns under, by their own names.

    CKAN keeps names that begin with ``_`` for itself, cuts none at 63 characters and has none with
    spaces around it. ``_id`` stays where it is a number.

    :param columns: each one's name, and whether it is a single integer
    """
    kept = [name for name, is_number in columns if _is_shown(name, is_number)]
    used = {name.lower() for name in (ID, *kept)}
    found = {}
    for name, _ in columns:
        found[name] = name if name in kept else _unused(name, used)
    return found


def _is_shown(name: str, is_number: bool) -> bool:
    if name == ID:
        return is_number
    is_ckans = name.startswith("_") or '"' in name or name != name.strip()
    return not is_ckans and len(name) <= NAME_LIMIT


def _unused(name: str, used: set[str]) -> str:
    plain = name.replace('"', "").strip().lstrip("_ ") or "column"
    candidate, number = plain[:NAME_LIMIT].strip(), 1
    while candidate.lower() in used:
        number += 1
        end = f"_{number}"
        candidate = f"{plain[: NAME_LIMIT - len(end)].strip()}{end}"
    used.add(candidate.lower())
    return candidate


def view_sql(source: Source, names: dict[str, str]) -> str:
    """The query of the view: each column by name, so that none that comes later is shown unseen."""
    columns = ", ".join(
        quote_name(own) if own == name else f"{quote_name(own)} AS {quote_name(name)}"
        for own, name in names.items()
    )
    return f"SELECT {columns} FROM {quote_name(source.full_id)}"


def description(id: str, project: str, dataset: str, source: Source) -> str:
    """The view's description, with the mark that makes it an attached table."""
    table = Table(project, dataset, id, (), attached=source.full_id)
    return table_description(replace(table, description=f"Shows {source.full_id}."))


def check_writable(table: Table) -> None:
    """That a table's rows are the DataStore's own.

    :raises Invalid: they are another table's
    """
    if table.attached:
        raise Invalid({"resource_id": [NOT_WRITTEN]})


def check_only_told(before: Table | None, after: Table) -> None:
    """Of an attached table the data dictionary and the aliases can be changed, and nothing else.

    :raises Invalid: something else is asked for
    """
    if before is None or not before.attached:
        return
    names = [column.name for column in before.columns]
    if [column.name for column in after.columns] != names or after.primary_key or after.indexes:
        check_writable(before)
