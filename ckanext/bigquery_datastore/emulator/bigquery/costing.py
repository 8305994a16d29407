"""What a statement reads, asked of GoogleSQL where it is there, and so what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from bqemulator.api.dependencies import AppContext
from bqemulator.catalog.models import TableFieldSchema

from .billing import Cost, Meter, by_table, whole_tables
from .conditions import Read
from .job import Job

if TYPE_CHECKING:
    from .googlesql.judge import Judge


class Costing:
    """Looks at statements before they run."""

    def __init__(self, context: AppContext, meter: Meter, judge: Judge | None) -> None:
        self._context = context
        self._meter = meter
        self._judge = judge
        self.judges = True  # whether GoogleSQL is asked, where it is there: a switch

    def cost(self, job: Job, sql: str) -> Cost:
        """What the statement costs. Raise ApiError where GoogleSQL refuses it."""
        parameters = job.settings.get("queryParameters") or ()
        reads: list[Read] | None = None
        if self._judge is not None and self.judges:
            if job.statement_type == "SCRIPT":
                self._judge.check_script(sql)
            else:
                reads = self._judge.check(sql, parameters, partial(self._fields, job.project))
        if reads is None:
            reads = whole_tables(job.project, sql)
        if job.statement_type == "CREATE_VIEW":
            reads = []  # its query does not run
        return self._meter.cost(job.project, self._without_views(job.project, reads), parameters)

    def _fields(self, project: str, names: Sequence[str]) -> Sequence[TableFieldSchema] | None:
        """The columns of a table by its names; None where there is no such table."""
        if not 2 <= len(names) <= 3:
            return None
        meta = self._context.catalog.get_table(*([project, *names][-3:]))
        return meta.schema_.fields if meta is not None and meta.schema_.fields else None

    def _without_views(self, project: str, reads: Sequence[Read]) -> list[Read]:
        """The reads, those of a view replaced by all that its query names."""
        found: list[Read] = []
        for name, of_table in by_table(project, reads).items():
            meta = self._context.catalog.get_table(name.project, name.dataset, name.table)
            if meta is not None and meta.view_query:
                found += self._without_views(project, whole_tables(project, meta.view_query))
            else:
                found += of_table
        return found
