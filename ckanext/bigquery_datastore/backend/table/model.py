"""Tables and columns as CKAN sees them, and the metadata that BigQuery keeps for CKAN. Pure.

Where the DataStore's metadata lives. BigQuery has no place for it but descriptions: a
column's (1,024 characters) and the table's (16,384). They come with the ``tables.get`` that
every request makes anyway, so reading them is free and takes no query; they move with the
table when it is copied; and they change together with the schema, in one request with a
precondition. So a column's description holds what a person wants to read there (label and
notes, as the console shows them), and under it one line for CKAN, with what the text and
BigQuery's type do not tell already::

    Wind speed

    Measured at ten metres, in knots.

    CKAN {"type":"int4","label":1}

A description that someone edits in the console changes the data dictionary. What does not
fit into 1,024 characters is shortened there, and kept whole (compressed) in the table's
description, which also holds the primary key and the names of the aliases. A side table was
the other choice: a second request for every read, a query for it, and two things that can
disagree after a crash.

An alias is a view of the same dataset, so that SQL knows it too; its label says whose.
"""

from __future__ import annotations

import base64
import datetime
import json
import re
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ckanext.bigquery_datastore.backend.table import naming, types
from ckanext.bigquery_datastore.backend.table.types import Type

ID = "_id"

NAME_LIMIT = 63  # PostgreSQL's; clients rely on it
ALIAS_LABEL = "ckan_alias_of"
COLUMN_LIMIT = 1_024
TABLE_LIMIT = 16_384
NUMBERS_LIMIT = 64  # the last _id and its mark, which come with the first row

# CKAN's line is the last one, and one line: a label may well begin like it.
_MARK = re.compile(r"(?:\A|\n\n)CKAN (\{[^\n]*\})\s*\Z")

# https://cloud.google.com/bigquery/docs/schemas#column_names (flexible column names): beside
# letters, marks and numbers of any script, underscores and dashes.
_SIGNS = " &%=+:'<>#|"
_RESERVED = (
    "_TABLE_",
    "_FILE_",
    "_PARTITION",
    "_ROW_TIMESTAMP",
    "__ROOT__",
    "_COLIDENTIFIER",
    "_CHANGE_SEQUENCE_NUMBER",
    "_CHANGE_TYPE",
    "_CHANGE_TIMESTAMP",
)


class TooMuchMetadata(ValueError):
    """More notes than the descriptions of BigQuery can hold."""


def quote_name(name: str) -> str:
    """A name (of a column, a table with its dots) in GoogleSQL. Names are quoted only here."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`").replace("\n", "\\n")
    return f"`{escaped}`"


@dataclass(frozen=True)
class Column:
    """One column. ``name`` is CKAN's, ``stored`` BigQuery's (see ``stored_names``)."""

    name: str
    type: Type
    stored: str = ""
    repeated: bool = False
    fields: tuple[Column, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    plugin_data: Mapping[str, Any] = field(default_factory=dict)
    required: bool = False

    @property
    def ckan_type(self) -> str:
        return self.type.name

    @property
    def bq_type(self) -> str:
        return self.type.bq

    @property
    def sql(self) -> str:
        """The column's quoted name in BigQuery."""
        return quote_name(self.stored or self.name)


@dataclass(frozen=True)
class Partitions:
    """Ranges of an integer column: from ``start`` up to, not including, ``end``, so many each."""

    column: str
    start: int
    end: int
    width: int

    def place(self, number: int) -> int:
        """The place of a number's partition, from 0; one for all numbers on each side."""
        if number < self.start:
            return -1
        return (min(number, self.end) - self.start) // self.width


@dataclass(frozen=True)
class Table:
    """One table or view of the dataset. ``columns`` are in BigQuery's order, ``_id`` included.

    ``num_rows`` and ``num_bytes`` leave out rows that sit in a streaming buffer, and are 0
    for a view. ``primary_key`` is CKAN's; ``has_own_key`` tells that BigQuery knows of one, as it
    must where rows come by change data capture. ``partitions`` are ranges of integers; None also
    where they are of another kind. ``last_id`` is the highest ``_id`` that may have been given
    out, ``block`` the mark of who reserved it (see ``write.numbers``); without a mark rows may
    have higher ones. ``attached`` is the full name of the table that a view shows in a resource's
    name (see ``attached``), ``rows_changed`` when that one's rows were, where it is known.
    """

    project: str
    dataset: str
    id: str
    columns: tuple[Column, ...]
    kind: str = "TABLE"
    modified: datetime.datetime | None = None
    num_rows: int = 0
    num_bytes: int = 0
    streaming_buffer: bool = False
    aliases: tuple[str, ...] = ()
    alias_of: str | None = None
    primary_key: tuple[str, ...] = ()
    has_own_key: bool = False
    indexes: tuple[tuple[str, ...], ...] = ()
    partitions: Partitions | None = None
    last_id: int = 0
    block: str = ""
    etag: str = ""
    description: str = ""
    location: str = ""
    attached: str = ""
    rows_changed: datetime.datetime | None = None

    @property
    def has_id(self) -> bool:
        return any(column.name == ID for column in self.columns)

    @property
    def sql_name(self) -> str:
        """The table's quoted name: `project.dataset.table`."""
        return quote_name(f"{self.project}.{self.dataset}.{self.id}")

    @property
    def full_id(self) -> str:
        """The table's name as the client library takes it: project.dataset.table."""
        return f"{self.project}.{self.dataset}.{self.id}"

    @property
    def user_columns(self) -> tuple[Column, ...]:
        """The columns that CKAN shows as fields: those whose name has no leading ``_``."""
        return tuple(column for column in self.columns if not column.name.startswith("_"))

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


def stored_names(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """A name for BigQuery for each of CKAN's names, in order.

    Characters that BigQuery has no place for become ``_``, as in ``Preis in _`` for "Preis in €",
    and names that it keeps for itself get a letter. It takes ``a`` and ``A`` for the same column:
    the second gets a number.
    """
    used = {name.lower() for name in taken}
    # Where to go on looking: of thousands of the same name, none looks at all before it.
    last: dict[str, int] = {}
    stored = []
    for name in names:
        base = "".join(char if _is_storable(char) else "_" for char in name) or "_"
        if base.upper().startswith(_RESERVED):
            base = f"c{base}"
        number = last.get(base.lower(), 1)
        candidate = base if number == 1 else f"{base}_{number}"
        while candidate.lower() in used:
            number += 1
            candidate = f"{base}_{number}"
        last[base.lower()] = number
        used.add(candidate.lower())
        stored.append(candidate)
    return stored


def _is_storable(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LMN" or category in ("Pc", "Pd") or char in _SIGNS


# --- descriptions ------------------------------------------------------------------------------


def _dump(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def split_description(description: str) -> tuple[str, dict[str, Any]]:
    """A description's text for people, and CKAN's line (empty when there is none)."""
    match = _MARK.search(description)
    if match is None:
        return description, {}
    try:
        data = json.loads(match.group(1))
    except ValueError:
        return description, {}
    return description[: match.start()], data if isinstance(data, dict) else {}


def _plain(value: object, lines: bool) -> bool:
    """Whether a text comes back as it was when it is written for people."""
    if not isinstance(value, str) or not value or value != value.strip():
        return False
    return "\n\nCKAN {" not in value and (lines or "\n" not in value)


def _human(column: Column) -> tuple[str, dict[str, Any]]:
    """Label and notes as a person reads them, and what is left to be said to CKAN."""
    rest = dict(column.info)
    parts, marks = [], {}
    if _plain(rest.get("label"), lines=False):
        parts.append(rest.pop("label"))
        marks["label"] = 1
    if _plain(rest.get("notes"), lines=True) and not str(rest["notes"]).startswith("CKAN {"):
        parts.append(rest.pop("notes"))
    data: dict[str, Any] = {**marks, **({"info": rest} if rest else {})}
    if column.plugin_data:
        data["plugins"] = dict(column.plugin_data)
    return "\n\n".join(parts), data


def column_description(column: Column) -> tuple[str, bool]:
    """A column's description, and whether it holds everything.

    Where it does not, the rest belongs into the table's description (``table_description``).
    """
    text, data = _human(column)
    base: dict[str, Any] = {}
    if naming.of_column(column.bq_type, column.repeated, None).native != column.type.native:
        # The native name also tells varchar(20) from varchar.
        base["type"] = (
            column.type.name
            if types.TYPES.get(column.type.name) == column.type or column.type.element
            else column.type.native
        )
    if column.stored != column.name:
        base["name"] = column.name
    whole = _join(text, {**base, **data})
    if len(whole) <= COLUMN_LIMIT:
        return whole, True
    mark = f"CKAN {_dump({**base, 'more': 1})}"
    return f"{text[: COLUMN_LIMIT - len(mark) - 3].rstrip()}…\n\n{mark}", False


def _join(text: str, data: Mapping[str, Any]) -> str:
    if not data:
        return text
    return f"{text}\n\nCKAN {_dump(data)}" if text else f"CKAN {_dump(data)}"


def read_description(description: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A column's info, and CKAN's line, out of its description."""
    text, data = split_description(description)
    info = dict(data.get("info") or {})
    if data.get("label"):
        label, _, text = text.partition("\n\n")
        info["label"] = label
    if text:
        info["notes"] = text
    return info, data


def table_description(table: Table) -> str:
    """The description of a table, with its metadata and what its columns' had no room for."""
    text = split_description(table.description)[0].strip()
    data: dict[str, Any] = {}
    if table.primary_key:
        data["primary_key"] = table.primary_key
    if table.indexes:
        data["indexes"] = table.indexes
    if table.aliases:
        data["aliases"] = table.aliases
    if table.attached:
        data["attached"] = table.attached
    if table.last_id:
        data["last_id"] = table.last_id
    if table.block:
        data["block"] = table.block
    long = {
        column.stored: {"info": dict(column.info), "plugins": dict(column.plugin_data)}
        for column in table.columns
        if not column_description(column)[1]
    }
    if long:
        packed = zlib.compress(_dump(long).encode("utf-8"), 9)
        data["columns"] = base64.b85encode(packed).decode("ascii")
    whole = _join(text, data)
    if len(whole) > TABLE_LIMIT - (0 if table.block else NUMBERS_LIMIT):
        raise TooMuchMetadata(
            "The data dictionary does not fit into BigQuery's descriptions: shorten the notes "
            f"of {', '.join(sorted(long)[:5])}"
        )
    return whole


def alias_description(resource_id: str) -> str:
    """The description of an alias' view."""
    return f"Another name of {resource_id}.\n\nCKAN {_dump({'alias_of': resource_id})}"


def unpack(packed: str) -> dict[str, Any]:
    try:
        return json.loads(zlib.decompress(base64.b85decode(packed)))
    except (ValueError, zlib.error):
        return {}  # cut by hand in the console: the columns show what their own text says


def with_columns(table: Table, columns: Sequence[Column]) -> Table:
    """The table with these columns, without a key or an index that needs others."""
    names = {column.name for column in columns}
    return replace(
        table,
        columns=tuple(columns),
        primary_key=table.primary_key if names.issuperset(table.primary_key) else (),
        indexes=tuple(index for index in table.indexes if names.issuperset(index)),
    )
