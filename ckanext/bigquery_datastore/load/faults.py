"""Why a load brings nothing: a row that does not fit, BigQuery's own words, or no need."""

from __future__ import annotations

from dataclasses import dataclass

from ckanext.bigquery_datastore.errors import BadRequest, BigQueryDatastoreError

_SHOWN = 80


@dataclass(frozen=True)
class BadRow:
    """A row that does not fit. ``line``: where it begins in the file, from 1; of a sheet, its row.

    ``text`` is the row as it can be set aside; "" where it cannot be shown.
    """

    line: int | None
    column: str | None
    value: str
    reason: str
    text: str = ""

    @property
    def sentence(self) -> str:
        where = f"Line {self.line} of the file" if self.line else "A row of the file"
        column = f" in the column {self.column!r}" if self.column else ""
        return f"{where}: {self.value[:_SHOWN]!r}{column} {self.reason}."

    def to_json(self) -> dict[str, object]:
        return {"line": self.line, "column": self.column, "value": self.value[:_SHOWN]}


class RowRefused(BadRequest):
    """The first row that does not fit, beyond those that may be set aside."""

    def __init__(self, row: BadRow, advice: str = "") -> None:
        nothing = "Nothing is replaced."
        super().__init__(" ".join(filter(None, (row.sentence, nothing, advice))))
        self.row = row


class Unreadable(Exception):
    """BigQuery's own words for what is wrong with a file."""


class Unchanged(BigQueryDatastoreError):
    """The file is the one that was loaded last."""
