"""Spreadsheets as records: Excel (xlsx, xls) and OpenDocument (ods), read by python-calamine.

It is kept up, MIT, one wheel without dependencies, reads all three, and cells as they are, without
formulas. It holds a sheet in memory: so what a file may unpack to is bounded here.
"""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook, PasswordError, WorksheetNotFound

from ckanext.bigquery_datastore.errors import BadRequest
from ckanext.bigquery_datastore.load.records import Record, written

#: Beyond it a sheet is to be saved as CSV: a worker needs several times as much memory.
SHEET_BYTES = 250 * 10**6
UNPACKED_BYTES = 10**9


def sheet(path: Path, name: str | None) -> tuple[str, Iterator[Record]]:
    """The name of a sheet, the first one or the one that is asked for, and its rows as records of
    CSV. Rows without any value are left out.

    :raises BadRequest: it cannot be read, or is too large
    """
    _check_size(path)
    try:
        with CalamineWorkbook.from_path(path) as book:
            names = book.sheet_names
            if not names:
                raise BadRequest("The file has no sheet.")
            if name is not None and name not in names:
                raise BadRequest(
                    f'The file has no sheet "{name}", but {", ".join(map(repr, names[:20]))}.'
                )
            found = book.get_sheet_by_name(name or names[0])
            return name or names[0], _records(found)
    except PasswordError as err:
        raise BadRequest("The spreadsheet is protected by a password.") from err
    except (CalamineError, WorksheetNotFound, OSError) as err:
        raise BadRequest(f"The spreadsheet cannot be read: {err}.") from err


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    unpacked = size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            unpacked = sum(part.file_size for part in parts.infolist())
    if size > SHEET_BYTES or unpacked > UNPACKED_BYTES:
        raise BadRequest(
            f"The spreadsheet has {size:,} bytes, {unpacked:,} unpacked; {SHEET_BYTES:,} and "
            f"{UNPACKED_BYTES:,} are the most that are read. Save it as CSV."
        )


def _records(found: Any) -> Iterator[Record]:
    width = 0
    # Where the cells begin: leading empty rows are not told otherwise.
    first = (found.start or (0, 0))[0] + 1
    for line, row in enumerate(found.iter_rows(), first):
        cells = [_text(value) for value in row]
        while cells and not cells[-1] and len(cells) > width:
            cells.pop()
        if not any(cells):
            continue
        width = width or len(cells)
        yield Record(line, written(cells, ","), len(cells))


def _text(value: Any) -> str:
    """A cell's value as it is written in a CSV file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 10**15 else repr(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(" ")
    if isinstance(value, dt.timedelta):
        return _duration(value)
    return "" if value is None else str(value)


def _duration(value: dt.timedelta) -> str:
    seconds = value.total_seconds()
    sign, whole = ("-" if seconds < 0 else ""), abs(int(seconds))
    return f"{sign}{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
