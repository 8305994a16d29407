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
Read = Callable[[str], Value]
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
    start = '<row _id="%s"' if has_id else "<row"
    forms = _Forms(start, tags)
    for block in _Rows(fields, keys, _xml_reader).blocks(lines):
        columns = list(zip(*block, strict=True))
        texts = [*columns[:has_id], *map(_texts, columns[has_id:])]
        if tags and None not in texts:
            cells = zip(*filter(None, texts), strict=True)
            text = "".join([forms.full % row if _is_full(row) else forms.of(row) for row in cells])
        else:
            text = "".join([_row(start, tags, row[:has_id], row[has_id:]) for row in block])
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


def _each(read: Read) -> ReadColumn:
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
    return _at_once(read, lambda text: _written(read(text)))


def _written(value: Value) -> Value:
    kind = type(value)
    if kind is float:
        return msgspec.Raw(repr(value).encode())
    if kind is list or kind is dict:
        return msgspec.Raw(_dumps(value).encode())
    return value


# msgspec writes a float between these two as Python does, without an exponent.
_LEAST, _MOST = 1e-4, 1e15


def _floats(texts: Texts, rest: Read) -> list[Value]:
    """As ``cells.floating`` of each; several times as fast for most numbers."""
    return [
        text
        if text is None
        else (number if number % 1 else int(number))
        if (_LEAST <= (number := float(text)) < _MOST or -_MOST < number <= -_LEAST)
        else rest(text)
        for text in texts
    ]


def _numbers(texts: Texts, rest: Read) -> list[Value]:
    """As ``cells.number`` of each."""
    return [
        text
        if text is None
        else number
        if "." in text and (_LEAST <= (number := float(text)) < _MOST or -_MOST < number <= -_LEAST)
        else rest(text)
        for text in texts
    ]


_TRUTHS: dict[str | None, bool | None] = {None: None, **cells.BOOLEANS}


def _booleans(texts: Texts, rest: Read) -> list[Value]:
    try:
        return [_TRUTHS[text] for text in texts]
    except KeyError as err:
        raise ValueError(f"{err.args[0]!r} is neither true nor false") from None


_AT_ONCE: dict[Read, Callable[[Texts, Read], list[Value]]] = {
    cells.boolean: _booleans,
    cells.floating: _floats,
    cells.number: _numbers,
}


def _at_once(read: Read, rest: Read) -> ReadColumn:
    """A column's cells read by ``rest``, and most of them faster, where there is a way for that."""
    all_ = _AT_ONCE.get(read)
    return (lambda texts: all_(texts, rest)) if all_ else _each(rest)


# ── xml ───────────────────────────────────────────────────────────────────────


def _xml_reader(ckan_type: str) -> ReadColumn | None:
    read = cells.reader(ckan_type)
    return None if read is None else _at_once(read, read)


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


_SIMPLE = frozenset({str, int, float, bool, type(None)})
_PATTERNS = 1_000


def _texts(column: Sequence[Value]) -> Sequence[Value] | None:
    """The values of a column as what stands in their elements; None where some are elements."""
    kinds = set(map(type, column))
    if not kinds <= _SIMPLE:
        return None
    if str not in kinds:
        return column
    whole = "".join([value for value in column if type(value) is str])
    if "&" in whole or "<" in whole or ">" in whole:
        return [_escaped(value) if type(value) is str else value for value in column]
    return column


def _is_full(row: Row) -> bool:
    return None not in row and "" not in row


class _Forms:
    """What rows are filled into, by where they have NULLs and empty texts: in one step a row, which
    is several times as fast as cell by cell."""

    def __init__(self, start: str, tags: Sequence[str]) -> None:
        self._start = start
        self._tags = [tag.replace("%", "%%") for tag in tags]
        self._first = start.count("%s")
        self._known: dict[tuple[int, ...], str] = {}
        self.full = self._made([0] * (self._first + len(tags)))

    def of(self, row: Row) -> str:
        kinds = tuple([1 if value is None else 2 if value == "" else 0 for value in row])
        form = self._known.get(kinds)
        if form is None:
            if len(self._known) >= _PATTERNS:
                self._known.clear()
            form = self._known[kinds] = self._made(kinds)
        return form % tuple([value for value in row if value is not None and value != ""])

    def _made(self, kinds: Sequence[int]) -> str:
        ways = ("<{0}>%s</{0}>", '<{0} xsi:nil="true" />', "<{0} />")
        pairs = zip(self._tags, kinds[self._first :], strict=True)
        return f"{self._start}>{''.join(ways[kind].format(tag) for tag, kind in pairs)}</row>\n"


def _row(start: str, tags: Sequence[str], id: Row, values: Sequence[Value]) -> str:
    elements = "".join(map(_element, tags, values))
    return start % tuple(id) + (f">{elements}</row>\n" if elements else " />\n")


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
