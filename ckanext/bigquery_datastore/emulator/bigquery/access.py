"""Who may read a dataset: by its access list, where one is given; and what a view may read for all.

A dataset whose list names accounts is open to these alone; others are open to everybody, as there
are no projects' roles here. Who sends no token runs the emulator, and may do all.
https://cloud.google.com/bigquery/docs/control-access-to-resources-iam
https://cloud.google.com/bigquery/docs/authorized-views
"""

from __future__ import annotations

from bqemulator.catalog.models import AccessEntry, DatasetMeta

from ..errors import ApiError
from ..identities import ANONYMOUS
from .catalog import Catalog
from .engine import TableName
from .references import tables_of

_OWNS = frozenset({"OWNER", "roles/bigquery.dataOwner", "roles/bigquery.admin"})
_READS = _OWNS | {"READER", "WRITER", "roles/bigquery.dataViewer", "roles/bigquery.dataEditor"}


class Access:
    """Refuses what an account may not do."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def check_dataset(self, who: str, project: str, dataset: str, *, owns: bool = False) -> None:
        """Raise ApiError ``accessDenied`` for who may not read a dataset, or not change it."""
        if not self._may(who, project, dataset, _OWNS if owns else _READS):
            right = "bigquery.datasets.update" if owns else "bigquery.datasets.get"
            name = f"{project}:{dataset}"
            raise ApiError(
                "accessDenied",
                f"Access Denied: Dataset {name}: Permission {right} denied on dataset {name} (or "
                "it may not exist).",
            )

    def check_table(self, who: str, name: TableName, right: str = "bigquery.tables.get") -> None:
        """The same for who may not see a table."""
        if not self._may(who, name.project, name.dataset, _READS):
            raise ApiError(
                "accessDenied",
                f"Access Denied: Table {name}: Permission {right} denied on table {name} (or it "
                "may not exist).",
            )

    def check_query(
        self, who: str, project: str, sql: str, through: TableName | None = None
    ) -> None:
        """That an account may read all that a query reads, by itself or through a view."""
        for name in tables_of(project, sql):
            if not (through and self._is_let_in(through, name)):
                self._check_data(who, name)
            meta = self._catalog.get_table(name.project, name.dataset, name.table)
            if meta is not None and meta.view_query:
                self.check_query(who, name.project, meta.view_query, name)

    def _check_data(self, who: str, name: TableName) -> None:
        if not self._may(who, name.project, name.dataset, _READS):
            raise ApiError(
                "accessDenied",
                f"Access Denied: Table {name}: User does not have permission to query table "
                f"{name}, or perhaps it does not exist.",
            )

    def check_view(self, who: str, view: TableName, sql: str) -> None:
        """That an account may make a view of this query: it reads all, and all is in one place."""
        self.check_query(who, view.project, sql)
        own = self._dataset(view)
        for name in tables_of(view.project, sql):
            other = self._dataset(name)
            if own and other and own.location.lower() != other.location.lower():
                raise ApiError(
                    "notFound",
                    f"Not found: Dataset {name.project}:{name.dataset} was not found in location "
                    f"{own.location}",
                )

    def check_entries(self, before: DatasetMeta, after: tuple[AccessEntry, ...]) -> None:
        """That each view that is let in is there."""
        for entry in set(after) - set(before.access_entries):
            if entry.view and self._catalog.get_table(*entry.view) is None:
                raise ApiError("notFound", f"Not found: Table {TableName(*entry.view)}")

    def forget_view(self, view: TableName) -> None:
        """A view that is changed or dropped is let in nowhere any more.

        "If that view is updated by any user, access to the view needs to be granted again":
        https://cloud.google.com/bigquery/docs/reference/rest/v2/datasets#Dataset
        """
        for dataset in self._datasets():
            kept = tuple(e for e in dataset.access_entries if not _is_of(e, view))
            if kept != dataset.access_entries:
                changed = dataset.model_copy(update={"access_entries": kept})
                self._catalog.update_dataset(changed)

    def _is_let_in(self, view: TableName, table: TableName) -> bool:
        dataset = self._dataset(table)
        return dataset is not None and any(_is_of(e, view) for e in dataset.access_entries)

    def _may(self, who: str, project: str, dataset: str, roles: frozenset[str]) -> bool:
        meta = self._catalog.get_dataset(project, dataset)
        named = [e for e in meta.access_entries if e.role] if meta is not None else []
        if not named or who == ANONYMOUS:
            return True
        return any(e.user_by_email == who and e.role in roles for e in named)

    def _dataset(self, name: TableName) -> DatasetMeta | None:
        return self._catalog.get_dataset(name.project, name.dataset)

    def _datasets(self) -> list[DatasetMeta]:
        return list(self._catalog._cache._datasets.values())


def _is_of(entry: AccessEntry, view: TableName) -> bool:
    return entry.view == (view.project, view.dataset, view.table)
