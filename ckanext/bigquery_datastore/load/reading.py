"""The first step: a file from wherever it is to the bucket, in pieces that BigQuery reads.

Rows of texts are numbered on their way up (``_id`` is the place in the file), in objects of a few
megabytes each: no disk is needed, a broken upload repeats one object, and BigQuery reads them side
by side (https://cloud.google.com/bigquery/docs/batch-loading-data). What is read by a worker that
is killed is read anew under other names: only the note at the end says whose objects count.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from ckanext.bigquery_datastore.backend.table import attached
from ckanext.bigquery_datastore.backend.table.lookup import Table, get_table
from ckanext.bigquery_datastore.backend.table.naming import of_name
from ckanext.bigquery_datastore.backend.table.types import Type
from ckanext.bigquery_datastore.dump.objects import Headers
from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load import columns, dialect, sheets
from ckanext.bigquery_datastore.load.attempt import Load
from ckanext.bigquery_datastore.load.faults import Unchanged
from ckanext.bigquery_datastore.load.files import (
    Met,
    Recoded,
    chunks,
    known_encoding,
    lines,
    numbered_ndjson,
)
from ckanext.bigquery_datastore.load.kinds import KINDS
from ckanext.bigquery_datastore.load.records import Even, Record, Undecodable, records
from ckanext.bigquery_datastore.load.source import (
    Content,
    Counted,
    Limits,
    Source,
    on_disk,
    rejoined,
    unpacked,
)

# Tells a step's name and how much of it is done, from 0 to 1.
Told = Callable[[str, "float | None"], object]

_OCTETS = Headers("application/octet-stream")


@dataclass(frozen=True)
class Read:
    """What a file was read to: where its rows are, and how they are to be loaded.

    ``known`` are the types that need not be inferred, ``bad`` the rows set aside so far, ``told``
    what tells a later change of the file.
    """

    uri: str
    format: str
    names: list[str]
    kinds: dict[str, list[str]]
    rows: int | None
    known: dict[str, str]
    file: dict[str, Any]
    delimiter: str = ","
    bad: list[dict[str, Any]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def met(self) -> Met:
        return Met(self.names, {name: set(kinds) for name, kinds in self.kinds.items()})

    @property
    def types(self) -> dict[str, Type]:
        return {name: known for name, text in self.known.items() if (known := of_name(text))}


def found(load: Load) -> Read | None:
    """What the step has made, or None while it has not ended."""
    values = load.noted("read")
    return Read(**values) if values is not None else None


def read(
    load: Load,
    source: Source,
    limits: Limits,
    loaded: Mapping[str, Any] | None = None,
    told: Told = lambda step, progress: None,
) -> Read:
    """Bring the file to the bucket.

    :param loaded: what the last load has read; nothing is brought where the file is the same
    :raises Unchanged: it is
    :raises BadRequest: it cannot be read so; nothing is left but what a sweep takes away
    """
    table = get_table(load.client, load.id)
    _check_mode(load, table)
    told("reading", None)
    encoding = known_encoding(load.wish.encoding) if load.wish.encoding else None
    try:
        done = _once(load, source, limits, loaded, told, encoding)
    except Undecodable as err:
        # Beyond the head, and so not seen there.
        done = _once(load, source, limits, loaded, told, dialect.other_encoding(err.text))
    known = _known(load, done, table)
    return Read(**load.note("read", asdict(done) | {"known": known}))


def _check_mode(load: Load, table: Table | None) -> None:
    """That the resource's table, where there is one, can take rows in this mode.

    :raises BadRequest: it cannot
    """
    if table is not None:
        attached.check_writable(table)
    if table is not None and (table.kind != "TABLE" or table.alias_of):
        raise BadRequest(f"{load.id} is no table of the DataStore's own, and is not written to.")
    if load.wish.mode != "upsert":
        return
    if table is None or not table.primary_key:
        raise BadRequest(
            "Rows can be upserted where the table has a primary key. Make it (datastore_create "
            'with "primary_key"), or load the file in the mode replace or append.'
        )


def _known(load: Load, done: Read, table: Table | None) -> dict[str, str]:
    """The types that need not be inferred, by their names."""
    given: dict[str, Type] = {}
    for name, text in load.wish.types.items():
        type_ = of_name(text)
        if type_ is None:
            raise BadRequest(f"{text!r} is no type of the DataStore.")
        given[name] = type_
    if not done.names:
        return {name: columns.name_of(type_) for name, type_ in given.items()}
    for column in table.user_columns if table else ():
        override = of_name(str(column.info.get("type_override") or ""))
        if override is not None and column.name in done.names:
            given.setdefault(column.name, override)
    if table is not None and load.wish.mode != "replace":
        given = {name: t for name, t in given.items() if table.column(name) is None}
    if table is not None and load.wish.mode == "upsert":
        missing = [name for name in table.primary_key if name not in done.names]
        if missing:
            raise BadRequest(
                f"The file has no column {', '.join(missing)}, which is in the table's primary key."
            )
    known = columns.known_types(done.names, given, table)
    return {name: columns.name_of(type_) for name, type_ in known.items()}


def _once(
    load: Load,
    source: Source,
    limits: Limits,
    loaded: Mapping[str, Any] | None,
    told: Told,
    encoding: str | None,
) -> Read:
    folder = f"{load.folder}{uuid.uuid4().hex}/"
    known = (loaded or {}).get("told") or None
    with source.open(known) as opened:
        size = opened.size

        def count(_: int) -> None:
            share = min(1.0, counted.size / size) if size else None
            told("uploading" if sent.number else "reading", share)

        sent = _Sent(load, folder)
        counted = Counted(opened.stream, limits, count)
        if opened.path is not None and loaded:
            _check_changed(opened.path, limits, loaded)
        kind = KINDS[load.wish.format] if load.wish.format else source.kind
        with unpacked(counted, source.name, kind, limits, opened.path) as content:
            done = _sent(load, source, content, sent, encoding)
        counted.drain()
        if loaded and counted.hash == (loaded.get("file") or {}).get("hash"):
            raise Unchanged()
        file = {
            "name": source.name,
            "format": content.kind.name,
            "bytes": counted.size,
            "hash": counted.hash,
            "sheet": done.file.get("sheet"),
        }
        return Read(
            **{
                **asdict(done),
                "uri": f"gs://{load.store.bucket}/{folder}*",
                "file": file,
                "told": dict(opened.told or {}),
            }
        )


def _check_changed(path: Any, limits: Limits, loaded: Mapping[str, Any]) -> None:
    """A file of this machine is read through before anything is sent: that costs no traffic."""
    with path.open("rb") as stream:
        counted = Counted(stream, limits, lambda count: None)
        counted.drain()
    if counted.hash == (loaded.get("file") or {}).get("hash"):
        raise Unchanged()


@dataclass
class _Sent:
    """Objects below a folder, in the order of the file."""

    load: Load
    folder: str
    number: int = 0

    def __call__(self, data: bytes | IO[bytes]) -> None:
        self.load.store.create(f"{self.folder}{self.number + 1:08d}", data, _OCTETS)
        self.number += 1


def _sent(load: Load, source: Source, content: Content, sent: _Sent, encoding: str | None) -> Read:
    """Send the rows; what is known of them then."""
    met = Met()
    reader = content.kind.reader
    done = Read("", reader, met.names, {}, None, {}, {}, notes=met.notes)
    if reader == "parquet":
        if load.wish.encoding:
            raise BadRequest(f"--encoding is for texts; {source.name} is none.")
        with on_disk(content.stream, content.path) as path, path.open("rb") as file:
            sent(file)
        return done
    if reader == "ndjson":
        texts = Recoded(content.stream, encoding) if encoding else lines(content.stream)
        for chunk in chunks(numbered_ndjson(texts, met), repeats_head=False):
            sent(chunk)
        kinds = {name: sorted(kinds) for name, kinds in met.kinds.items()}
        return Read(**{**asdict(done), "names": met.names, "kinds": kinds, "rows": met.rows})
    with _csv(load, source, content, encoding, met) as (found, delimiter, sheet):
        even = Even(delimiter, load.wish.skip_bad_rows)
        for chunk in chunks(even.numbered(found, met), repeats_head=True):
            sent(chunk)
    return Read(
        **{
            **asdict(done),
            "format": "csv",
            "names": met.names,
            "rows": met.rows,
            "delimiter": delimiter,
            "bad": [asdict(row) for row in even.bad],
            "notes": [*met.notes, *even.notes],
            "file": {"sheet": sheet},
        }
    )


@contextmanager
def _csv(
    load: Load, source: Source, content: Content, encoding: str | None, met: Met
) -> Iterator[tuple[Iterator[Record], str, str | None]]:
    """The records of a CSV or a sheet, the delimiter, and the sheet's name."""
    if content.kind.reader == "sheet":
        with on_disk(content.stream, content.path) as path:
            name, rows = sheets.sheet(path, load.wish.sheet or source.sheet)
            met.notes.append(f'The sheet "{name}" is read.')
            yield rows, ",", name
        return
    head = content.stream.read(dialect.HEAD_BYTES)
    is_whole = len(head) < dialect.HEAD_BYTES
    used = encoding or dialect.encoding(head)
    text = head.decode(used, errors="replace")
    delimiter = (
        load.wish.delimiter or content.kind.delimiter or dialect.delimiter(text, is_whole=is_whole)
    )
    shown = {"\t": "a tab"}.get(delimiter, f'"{delimiter}"')
    met.notes.append(f"The file is read as {used}, with {shown} between its columns.")
    old_mac = "\n" not in text and "\r" in text
    stream = rejoined(head, content.stream)
    if used in ("utf-8", "utf-8-sig") and not encoding and not old_mac:
        yield records(_unmarked(lines(stream)), delimiter), delimiter, None
    else:
        recoded = iter(Recoded(stream, used, old_mac=old_mac))
        yield records(_unmarked(recoded), delimiter), delimiter, None


def _unmarked(found: Iterator[bytes]) -> Iterator[bytes]:
    """The lines without a byte order mark in front."""
    first = next(found, b"").removeprefix(b"\xef\xbb\xbf")
    return itertools.chain([first] if first else [], found)
