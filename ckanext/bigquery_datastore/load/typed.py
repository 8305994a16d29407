"""What the columns of a file are: told by the file, or asked of all its rows in one statement."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.table.lookup import get_table, quote_name
from ckanext.bigquery_datastore.backend.table.naming import of_name
from ckanext.bigquery_datastore.backend.table.types import TYPES
from ckanext.bigquery_datastore.dump.objects import Headers
from ckanext.bigquery_datastore.load import columns, texts
from ckanext.bigquery_datastore.load.attempt import BAD_ROWS, JOB_SECONDS, Load
from ckanext.bigquery_datastore.load.columns import Staged
from ckanext.bigquery_datastore.load.faults import BadRow, RowRefused
from ckanext.bigquery_datastore.load.files import FILE_FORMATS, LINE, ROW, check_names
from ckanext.bigquery_datastore.load.reading import Read
from ckanext.bigquery_datastore.load.records import written

ADVICE = (
    "The option --type COLUMN=TYPE gives a column another type, and so does the data dictionary "
    "(type_override)."
)


@dataclasses.dataclass(frozen=True)
class Typed:
    """The columns as they go into the table, and the rows that do not.

    ``rejects``: SQL that holds for a row of the table beside that stays away; "" where none does.
    ``bad`` is how many rows were set aside, ``first_bad`` the first of them, ``file`` their object.
    """

    columns: list[Staged]
    rejects: str = ""
    bad: int = 0
    first_bad: dict[str, Any] | None = None
    file: str | None = None

    def to_json(self) -> dict[str, Any]:
        kept = [{**vars(column), "type": columns.name_of(column.type)} for column in self.columns]
        return {**dataclasses.asdict(self), "columns": kept}

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Typed:
        kept = [
            Staged(**{**column, "type": of_name(column["type"]) or TYPES["text"]})
            for column in values["columns"]
        ]
        return cls(**{**values, "columns": kept})


def staged(load: Load, read: Read) -> list[Staged]:
    """The columns as they are in the table beside."""
    if read.format == "parquet":
        table = get_table(load.client, load.id)
        with clients.told("the columns of the file"):
            fields = load.client.get_table(load.staging, **clients.budget()).schema
        check_names([field.name for field in fields])
        known = columns.known_types([field.name for field in fields], read.types, None)
        return columns.converted(fields, known, table)
    known = read.types
    if read.format == "csv":
        return columns.of_texts(read.names)
    return columns.of_objects(read.met, known)


def load_config(load: Load, read: Read) -> bigquery.LoadJobConfig:
    """How BigQuery is told to read the rows that were sent."""
    config = bigquery.LoadJobConfig(
        source_format=FILE_FORMATS[read.format].source_format,
        write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
        labels=dict(load.labels),
    )
    if read.format != "parquet":
        config.schema = columns.schema(staged(load, read), has_lines=read.format == "csv")
    if read.format == "csv":
        config.skip_leading_rows = 1
        config.allow_quoted_newlines = True
        config.null_marker = load.wish.null or ""
        config.field_delimiter = read.delimiter
    return config


def questions(load: Load, read: Read) -> dict[Staged, str]:
    """What is asked of all rows, by the column that it is asked about. Of a text that is to stay
    one nothing is asked: each column that is read is billed."""
    if read.format != "csv":
        return {}
    known = read.types
    return {
        column: texts.first_bad(column.stored, known[column.name], load.wish.day_first)
        if column.name in known
        else texts.kinds(column.stored, load.wish.day_first)
        for column in staged(load, read)
        if column.name not in known or not texts.is_as_it_stands(known[column.name])
    }


def statements(load: Load, read: Read) -> list[str]:
    """The statements that answer them, one row each."""
    return list(texts.statements(list(questions(load, read).values()), load.staging_sql))


def typed(load: Load, read: Read, values: Sequence[Any]) -> Typed:
    """The columns with their types, as the answers tell.

    :raises RowRefused: a text is none of the type that its column has, and may not be set aside
    """
    found = staged(load, read)
    if read.format != "csv":
        return Typed(found)
    known = read.types
    answers = dict(zip(questions(load, read), values, strict=True))
    done = [
        dataclasses.replace(
            column,
            type=known.get(column.name) or texts.recognised(answers[column]),
            day_first=load.wish.day_first,
        )
        for column in found
    ]
    bad = [
        after
        for before, after in zip(found, done, strict=True)
        if before.name in known and answers.get(before) is not None
    ]
    set_aside = [BadRow(**row) for row in read.bad]
    rejects = " OR ".join(_is_bad(column) for column in bad)
    if bad:
        set_aside += _bad_rows(load, read, bad, load.wish.skip_bad_rows - len(set_aside))
    if not set_aside:
        return Typed(done)
    set_aside.sort(key=lambda row: row.line or 0)
    first = set_aside[0].to_json()
    return Typed(done, rejects, len(set_aside), first, _kept(load, read, set_aside))


def _is_bad(column: Staged) -> str:
    # NULL is not bad.
    return f"IFNULL({texts.is_bad(column.stored, column.type, column.day_first)}, FALSE)"


def _bad_rows(load: Load, read: Read, bad: Sequence[Staged], most: int) -> list[BadRow]:
    """The rows whose texts are none of their columns' types.

    :raises RowRefused: there are more than ``most``
    """
    all_columns = ", ".join(quote_name(column.stored) for column in staged(load, read))
    flags = ", ".join(f"{_is_bad(column)} AS b{n}" for n, column in enumerate(bad))
    condition = " OR ".join(map(_is_bad, bad))
    rows = query.read(
        load.client,
        f"SELECT {LINE}, {flags}, {all_columns} FROM {load.staging_sql} WHERE {condition} "
        f"ORDER BY {ROW} LIMIT {max(0, most) + 1}",
        seconds=JOB_SECONDS,
    )
    found = []
    for row in rows:
        column = next(c for n, c in enumerate(bad) if row[f"b{n}"])
        cells = ["" if value is None else value for value in row.values()[1 + len(bad) :]]
        wanted = "JSON" if column.type.holds_json else column.type.native
        found.append(
            BadRow(
                row[LINE],
                column.name,
                str(row[column.stored]),
                f"is no {wanted}",
                written(cells, read.delimiter).decode(),
            )
        )
    if len(found) > max(0, most):
        raise RowRefused(found[0], ADVICE)
    return found


def _kept(load: Load, read: Read, rows: Sequence[BadRow]) -> str:
    """The object that rows which were set aside are kept in, as a CSV with the file's headings."""
    out = io.BytesIO()
    separator = read.delimiter.encode()
    names = written(["line", "column", "reason", *read.names], read.delimiter)
    out.write(b"\xef\xbb\xbf" + names + b"\r\n")
    for row in rows:
        told = written([str(row.line), row.column or "", row.reason], read.delimiter)
        out.write(told + separator + row.text.encode() + b"\r\n")
    name = f"{BAD_ROWS}{load.id}/{load.attempt}.csv"
    found = load.store.find(name)
    load.store.create(
        name,
        out.getvalue(),
        Headers("text/csv; charset=utf-8", 'attachment; filename="bad-rows.csv"'),
        replacing=found.generation if found else 0,
    )
    return name
