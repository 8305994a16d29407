"""Records on their way into a table: checked, folded, and brought as one relation.

Everything is checked before anything is sent, so that a bad record is named and nothing is
written. What is sent is one JSON array of texts for each record, either as a query parameter
or, beyond the size of a request, through a load job into a table of its own; the statement
that reads them is the same.
"""

from __future__ import annotations

import datetime
import io
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend import job
from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.query import WRITE_SECONDS
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.lookup import ID, Column, Table, quote_name, reference
from ckanext.bigquery_datastore.errors import Invalid

# A request may have 10 MB (https://cloud.google.com/bigquery/quotas#query_jobs); its JSON
# escapes every quote of ours, and every letter beyond ASCII: three times as much, at most.
PARAMETER_BYTES = 3_000_000
STAGING_PREFIX = "_ckan_rows_"
STAGING_HOURS = 2

Texts = dict[str, "str | None"]


class BadCell(Invalid):
    """A value that its column cannot hold; ``number`` is the record's, from 0."""

    def __init__(self, column: Column, sentence: str, number: int) -> None:
        super().__init__({"records": [sentence], "records_row": number})
        self.column = column
        self.sentence = sentence
        self.number = number


@dataclass(frozen=True)
class Batch:
    """Checked records, keyed alike. ``rows`` hold a text for each column that was given.

    ``key``: the columns that tell which row of the table is meant, () for new rows.
    """

    columns: tuple[Column, ...]
    rows: tuple[Texts, ...]
    key: tuple[Column, ...] = ()

    @property
    def is_even(self) -> bool:
        """Whether every row gives every column."""
        return all(len(row) == len(self.columns) for row in self.rows)


def new_rows(table: Table, records: Any) -> Batch:
    """Records to be inserted.

    :raises Invalid: naming the record, in core's words
    """
    columns = {column.name: column for column in table.user_columns}
    rows = []
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise Invalid({"records": [f'row "{number}" is not a json object']})
        extra = set(record) - set(columns)
        if extra:
            names = ", ".join(sorted(map(str, extra)))
            raise Invalid({"records": [f'row "{number + 1}" has extra keys "{names}"']})
        given = {name: record[name] for name in columns if record.get(name) is not None}
        rows.append(_texts(columns, given, number))
    used = {name for row in rows for name in row}
    return Batch(tuple(columns[name] for name in columns if name in used), tuple(rows))


@dataclass(frozen=True)
class Keyed:
    """A checked record of an upsert or an update. ``key``: the names of its key's columns."""

    key: tuple[str, ...]
    row: Texts

    @property
    def values(self) -> tuple[str | None, ...]:
        """What tells the row that is meant."""
        return tuple(self.row[name] for name in self.key)


def keyed_rows(table: Table, records: Any) -> list[Keyed]:
    """Records to be upserted or updated, in order.

    :raises Invalid: naming the record, in core's words
    """
    columns = _writable(table)
    found = []
    for number, record in enumerate(records):
        key = _key_of(table, record)
        missing = [name for name in record if name not in columns]
        if missing:
            raise Invalid({"fields": [f'fields "{", ".join(map(str, missing))}" do not exist']})
        row = _texts(columns, record, number)
        if ID in row and int(row[ID] or 0) < 1:
            raise Invalid({"records": ["_id must be a positive number"], "records_row": number})
        found.append(Keyed(key, row))
    return found


def folded(table: Table, given: Sequence[Keyed]) -> list[Batch]:
    """Such records as batches to be written one after the other, each with one kind of key and
    each key once (later records win over earlier ones).
    """
    columns = _writable(table)
    batches: list[Batch] = []
    rows: dict[Any, Texts] = {}
    current: tuple[str, ...] = ()
    for item in given:
        if item.key != current and rows:
            batches.append(_batch(columns, rows, current))
            rows = {}
        current = item.key
        # NULL is equal to nothing: each is a row of its own.
        found = rows.setdefault(item.values if None not in item.values else object(), {})
        found.update(item.row)
    if rows:
        batches.append(_batch(columns, rows, current))
    return batches


def _writable(table: Table) -> dict[str, Column]:
    return {column.name: column for column in table.columns if not _is_internal(column)}


def _is_internal(column: Column) -> bool:
    return column.name.startswith("_") and column.name != ID


def _batch(columns: Mapping[str, Column], rows: dict[Any, Texts], key: Sequence[str]) -> Batch:
    used = {name for row in rows.values() for name in row}
    return Batch(
        tuple(column for name, column in columns.items() if name in used),
        tuple(rows.values()),
        tuple(columns[name] for name in key),
    )


def _key_of(table: Table, record: Any) -> tuple[str, ...]:
    if not isinstance(record, Mapping):
        raise Invalid({"records": ["records must be json objects"]})
    if ID in record and table.has_id:
        return (ID,)
    if not table.primary_key:
        raise Invalid({"table": ["unique key must be passed for update/upsert"]})
    missing = [name for name in table.primary_key if name not in record]
    if missing:
        raise Invalid({"key": [f'fields "{", ".join(missing)}" are missing but needed as key']})
    return table.primary_key


def _texts(columns: Mapping[str, Column], given: Mapping[str, Any], number: int) -> Texts:
    row: Texts = {}
    for name, value in given.items():
        column = columns[name]
        if value is None or (value == "" and column.type.name != "text"):
            row[name] = None
            continue
        try:
            row[name] = column.type.write(value)
        except types.BadValue as err:
            raise BadCell(column, err.for_column(name), number) from err
    return row


def is_numbered(batch: Batch) -> bool:
    """Whether the rows of a batch come with their ``_id``."""
    return any(column.name == ID for column in batch.columns)


# --- as a relation -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A batch as a relation: ``sql`` belongs behind FROM, and gives one column ``r``."""

    batch: Batch
    sql: str
    parameters: tuple[Parameter, ...] = ()

    def number(self, r: str = "r") -> str:
        """SQL for a row's place in the batch, from 1."""
        return f"CAST(JSON_VALUE({r}, '$[0]') AS INT64)"

    def value(self, column: Column, r: str = "r") -> str:
        """SQL for a column's value, of the column's type."""
        return column.type.from_text(f"JSON_VALUE({r}, '$[{self._place(column)}]')")

    def is_given(self, column: Column, r: str = "r") -> str:
        """SQL that tells whether a row gives a column."""
        return f"SUBSTR(JSON_VALUE({r}, '$[1]'), {self._place(column) - 1}, 1) = '1'"

    def on(self, key: Sequence[Column]) -> str:
        """SQL that joins the batch (``s.r``) to its table (``t``) by a key."""
        return " AND ".join(f"t.{column.sql} = {self.value(column, 's.r')}" for column in key)

    def _place(self, column: Column) -> int:
        return self.batch.columns.index(column) + 2


@contextmanager
def brought(client: bigquery.Client, batch: Batch) -> Iterator[Source]:
    """The batch where a statement can read it.

    Characters stand for themselves, never as escapes: JSON_VALUE (of a text) and load jobs decode
    each half of a pair of surrogates alone, and so destroy every emoji.
    https://github.com/google/zetasql/blob/master/zetasql/common/json_parser.cc (ParseHexDigits),
    https://github.com/googleapis/python-bigquery/issues/864
    """
    names = [column.name for column in batch.columns]
    texts = tuple(
        json.dumps(
            [
                number,
                "".join("1" if name in row else "0" for name in names),
                *(row.get(name) for name in names),
            ],
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for number, row in enumerate(batch.rows, 1)
    )
    if sum(len(text.encode()) for text in texts) <= PARAMETER_BYTES:
        yield Source(batch, "UNNEST(@rows) AS r", (Parameter("rows", "STRING", texts),))
        return
    name = f"{STAGING_PREFIX}{uuid.uuid4().hex}"
    _load(client, name, texts)
    try:
        yield Source(batch, quote_name(f"{config.project()}.{config.dataset()}.{name}"))
    finally:
        # It expires by itself (STAGING_HOURS).
        with clients.tidied_up(name):
            client.delete_table(reference(name), not_found_ok=True, **clients.budget())


@contextmanager
def bringing(client: bigquery.Client) -> Iterator[Callable[[Batch], Source]]:
    """``brought`` for several statements: each batch is brought once, where it is first read."""
    found: list[Source] = []

    def source_of(batch: Batch) -> Source:
        known = next((source for source in found if source.batch is batch), None)
        if known is None:
            known = stack.enter_context(brought(client, batch))
            found.append(known)
        return known

    with ExitStack() as stack:
        yield source_of


def _load(client: bigquery.Client, name: str, texts: Sequence[str]) -> None:
    expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=STAGING_HOURS)
    table = bigquery.Table(reference(name), schema=[bigquery.SchemaField("r", "STRING")])
    table.expires = expires
    file = io.BytesIO()
    for text in texts:
        file.write(json.dumps({"r": text}, ensure_ascii=False).encode() + b"\n")

    def submit(job_id: str) -> bigquery.LoadJob:
        return client.load_table_from_file(
            file,
            reference(name),
            rewind=True,
            # Known, few bytes are sent with the job in one request, not in a second one.
            size=file.getbuffer().nbytes,
            job_id=job_id,
            job_config=bigquery.LoadJobConfig(
                source_format="NEWLINE_DELIMITED_JSON",
                schema=table.schema,
                labels=config.job_labels(),
            ),
            timeout=WRITE_SECONDS,
        )

    with clients.told("a load of records"):
        client.create_table(table, exists_ok=True, **clients.patience())
        job.succeeded(client, submit, time.monotonic() + WRITE_SECONDS)
