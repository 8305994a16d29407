"""JSON and XML as core's dump writes them, from exported rows while they stream.

A row comes as a line of JSON: an object with the text of each cell (see ``cells``), NULLs left
out. Byte for byte what ``ckanext.datastore.writer`` writes for the same rows; a test compares.
Decoding is left to msgspec, which is what core itself decodes PostgreSQL's JSON with.

Memory is constant: one block of lines at a time, or one line where that is longer.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ckanext.bigquery_datastore.dump import cells
from ckanext.bigquery_datastore.dump.cells import Value
from ckanext.bigquery_datastore.errors import TransformError

as_row_value = cells.row_text

Field = Mapping[str, Any]
Row = Sequence[Value]
Texts = Sequence[str | None]
ReadColumn = Callable[[Texts], Sequence[Value]]

_BOM = b"\xef\xbb\xbf"
# As core's simplejson: compact, nothing but quotes, backslashes and control characters escaped.
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(
    fields: Sequence[Field],
    lines: Iterable[bytes],
    bom: bool = False,
    keys: Sequence[str] | None = None,
) -> Iterator[bytes]:
    """A JSON file with ``fields`` and the records as lists.

    ``fields`` are core's (id, type, perhaps info), ``lines`` the exported rows, cut anywhere.
    ``keys`` are the names of the cells in the order of the fields, by default the fields' ids.
    Raises TransformError for a row that does not fit the fields.
    """
    yield (_BOM if bom else b"") + b'{\n  "fields": %b,\n  "records": [' % _dumps(fields).encode()
    encoder = msgspec.json.Encoder()
    separator = b"\n    "
    for block in _Rows(fields, keys, _json_reader).blocks(lines):
        # No string holds a raw line feed, so these are the ends of rows.
        records = encoder.encode_lines(block)[:-1].replace(b"\n", b",\n    ")
        yield separator + records
        separator = b",\n    "
    yield b"\n]}\n"


def to_xml(
    fields: Sequence[Field],
    lines: Iterable[bytes],
    bom: bool = False,
    keys: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Iterator[bytes]:
    """An XML file with a ``row`` element for each record; otherwise as ``to_json``.

    ``names`` are the elements' names in the order of the fields. The default are those of core
    2.12; core 2.11 took the fields' ids, whether XML allows them or not.
    """
    yield (_BOM if bom else b"") + b'<data xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
    ids = [field["id"] for field in fields]
    has_id = ids[:1] == ["_id"]
    tags = (names or element_names(ids))[has_id:]
    for block in _Rows(fields, keys, _xml_reader).blocks(lines):
        columns = list(zip(*block, strict=True))
        starts = (
            [f'<row _id="{value}"' for value in columns[0]] if has_id else ["<row"] * len(block)
        )
        elements = [
            _elements(tag, column) for tag, column in zip(tags, columns[has_id:], strict=True)
        ]
        rows = map("".join, zip(*elements, strict=True)) if elements else [""] * len(block)
        text = "".join(
            f"{start}>{row}</row>\n" if row else f"{start} />\n"
            for start, row in zip(starts, rows, strict=True)
        )
        yield text.encode("utf-8", "xmlcharrefreplace")
    yield b"</data>\n"


class _Rows:
    """The cells of exported lines as values, in blocks of rows."""

    def __init__(
        self,
        fields: Sequence[Field],
        keys: Sequence[str] | None,
        reader_of: Callable[[str], ReadColumn | None],
    ) -> None:
        self._names = [field["id"] for field in fields]
        keys = self._names if keys is None else keys
        row = msgspec.defstruct(
            "Row",
            [(f"c{i}", cells.decoded_as(field["type"]), None) for i, field in enumerate(fields)],
            rename={f"c{i}": key for i, key in enumerate(keys)},
            gc=False,
        )
        self._decoder = msgspec.json.Decoder(row, strict=False)
        self._readers = {
            i: read for i, field in enumerate(fields) if (read := reader_of(field["type"]))
        }
        self._count = 0

    def blocks(self, lines: Iterable[bytes]) -> Iterator[Sequence[Row]]:
        """The rows of as many whole lines as there are, once there is one."""
        for block in _whole_lines(lines):
            rows = self._decode(block)
            if rows:
                yield rows
                self._count += len(rows)

    def _decode(self, block: bytes) -> Sequence[Row]:
        try:
            rows = list(map(msgspec.structs.astuple, self._decoder.decode_lines(block)))
        except (msgspec.MsgspecError, ValueError) as err:
            raise TransformError(
                f"A row of the export after the {self._count}th cannot be read: {err}."
            ) from err
        if not self._readers or not rows:
            return rows
        # Column by column, which is several times faster than cell by cell.
        columns: list[Sequence[Value]] = list(zip(*rows, strict=True))
        for i, read in self._readers.items():
            columns[i] = self._read_column(i, read, columns[i])
        return list(zip(*columns, strict=True))

    def _read_column(
        self, place: int, read: ReadColumn, texts: Sequence[str | None]
    ) -> Sequence[Value]:
        try:
            return read(texts)
        except (msgspec.MsgspecError, ValueError) as err:
            raise TransformError(
                f"A value of the column {self._names[place]!r} in a row of the export after the "
                f"{self._count}th cannot be read: {err}."
            ) from err


def _each(read: Callable[[str], Value]) -> ReadColumn:
    """A column whose cells are read one by one."""
    return lambda texts: [None if text is None else read(text) for text in texts]


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut only behind line feeds."""
    begun: list[bytes] = []
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if not end:
            begun.append(chunk)
            continue
        begun.append(chunk[:end])
        yield b"".join(begun)
        begun = [chunk[end:]]
    yield b"".join(begun)


# ── json ──────────────────────────────────────────────────────────────────────


def _json_reader(ckan_type: str) -> ReadColumn | None:
    """As ``_xml_reader``, with what msgspec would write otherwise than core already written."""
    read = cells.reader(ckan_type)
    if read is None:
        return None
    return _JSON_READERS.get(read) or _each(lambda text: _written(read(text)))


def _written(value: Value) -> Value:
    kind = type(value)
    if kind is float:
        return msgspec.Raw(repr(value).encode())
    if kind is list or kind is dict:
        return msgspec.Raw(_dumps(value).encode())
    return value


# msgspec writes a float between these two as Python does, without an exponent.
_LEAST, _MOST = 1e-4, 1e15


def _floats(texts: Texts) -> list[Value]:
    """As ``_written`` and ``cells.floating`` of each; several times as fast for most numbers."""
    return [
        text
        if text is None
        else (number if number % 1 else int(number))
        if (_LEAST <= (number := float(text)) < _MOST or -_MOST < number <= -_LEAST)
        else _written(cells.floating(text))
        for text in texts
    ]


def _numbers(texts: Texts) -> list[Value]:
    """As ``_written`` and ``cells.number`` of each."""
    return [
        text
        if text is None
        else number
        if "." in text and (_LEAST <= (number := float(text)) < _MOST or -_MOST < number <= -_LEAST)
        else _written(cells.number(text))
        for text in texts
    ]


_TRUTHS: dict[str | None, bool | None] = {None: None, **cells.BOOLEANS}


def _booleans(texts: Texts) -> list[Value]:
    try:
        return [_TRUTHS[text] for text in texts]
    except KeyError as err:
        raise ValueError(f"{err.args[0]!r} is neither true nor false") from None


_JSON_READERS: dict[Callable[[str], Value], ReadColumn] = {
    cells.boolean: _booleans,
    cells.floating: _floats,
    cells.number: _numbers,
}


# ── xml ───────────────────────────────────────────────────────────────────────


def _xml_reader(ckan_type: str) -> ReadColumn | None:
    read = cells.reader(ckan_type)
    return None if read is None else _each(read)


# In order: what is cut off or replaced in a column's name to make an element's name of it.
_NAME_RULES = (
    (re.compile(r"^(\d*xml\d*|\d+)", re.IGNORECASE), ""),
    (re.compile(r"\s+"), "_"),
    (re.compile(r"[^\w.-]"), ""),
    (re.compile(r"^[\d.-]+"), ""),
)


def element_names(ids: Sequence[str]) -> list[str]:
    """The name of each column's element, as core 2.12 makes it valid and unique.

    ``_id`` in the first place is an attribute in core, and has no part in what is unique.
    """
    taken: list[str] = []
    names: dict[str, str] = {}
    for column in ids[1:] if ids[:1] == ["_id"] else ids:
        base = unicodedata.normalize("NFC", column)
        for pattern, replacement in _NAME_RULES:
            base = pattern.sub(replacement, base)
        name, suffix = base, 0
        while name in names.values():
            name, suffix = f"{base}_{suffix}", suffix + 1
        names[column] = name
        taken.append(name)
    return [names.get(column, column) for column in ids]


_PLAIN = frozenset({int, float, bool, type(None)})
_TEXT = frozenset({str, type(None)})


def _elements(tag: str, column: Sequence[Value]) -> list[str]:
    """``_element`` of each value; several times as fast where all are of one kind."""
    nil = f'<{tag} xsi:nil="true" />'
    kinds = set(map(type, column))
    if kinds <= _PLAIN:
        return [nil if value is None else f"<{tag}>{value}</{tag}>" for value in column]
    if kinds <= _TEXT:
        whole, empty = "".join(filter(None, column)), f"<{tag} />"
        if "&" in whole or "<" in whole or ">" in whole:
            column = [value and _escaped(value) for value in column]
        return [
            f"<{tag}>{value}</{tag}>" if value else nil if value is None else empty
            for value in column
        ]
    return [_element(tag, value) for value in column]


def _element(tag: str, value: Value, key: str = "") -> str:
    """``value`` as an element; ``key`` are its further attributes."""
    if value is None:
        return f'<{tag} xsi:nil="true"{key} />'
    if isinstance(value, str):
        text = _escaped(value)
    elif isinstance(value, list):
        text = "".join(_item(place, item) for place, item in enumerate(value))
    elif isinstance(value, dict):
        text = "".join(_item(name, item) for name, item in value.items())
    else:
        text = str(value)
    return f"<{tag}{key}>{text}</{tag}>" if text else f"<{tag}{key} />"


def _item(key: str | int, value: Value) -> str:
    return _element("value", value, f' key="{_escaped_attribute(str(key))}"')


def _escaped(text: str) -> str:
    if "&" in text:
        text = text.replace("&", "&amp;")
    if "<" in text:
        text = text.replace("<", "&lt;")
    if ">" in text:
        text = text.replace(">", "&gt;")
    return text


_ATTRIBUTE = {'"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#09;"}


def _escaped_attribute(text: str) -> str:
    return re.sub(r'["\r\n\t]', lambda match: _ATTRIBUTE[match[0]], _escaped(text))
