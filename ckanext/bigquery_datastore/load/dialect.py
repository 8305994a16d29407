"""What a file of texts is written in, found on its head: its encoding and its delimiter. Pure.

The encoding is found by charset-normalizer: it comes with ``requests``, which CKAN has, is kept up,
and reads the bytes as each encoding instead of counting letters of a few languages. It is asked
about what is no UTF-8 alone; among encodings that read a file as well as another one it may name
any, so windows-1252 is taken where that reads it without a hole, as browsers do.

The delimiter is found here, by a table of four: ``csv.Sniffer`` takes letters and spaces for one,
and CleverCSV, the best of the others, is right in nineteen of twenty files and cannot say when it
is not, wants three more packages, and takes seconds on wide files. The one that all whole
records of the head agree on, with the heading, is the file's; where none is, there is one column.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence

from charset_normalizer import from_bytes

from ckanext.bigquery_datastore.errors import BadRequest

HEAD_BYTES = 256 * 1024

DELIMITERS = (",", ";", "\t", "|")

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Those that tables are kept in; the first that fits best.
_ENCODINGS = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
    *("koi8_r", "cp850", "cp437", "mac_roman"),
    *("shift_jis", "cp932", "euc_jp", "gb18030", "big5", "cp949", "euc_kr"),
]
_LEAST = 0.3
_RECORDS = 200


def encoding(head: bytes) -> str:
    """The encoding of a text that begins so; "utf-8" where nothing speaks against it."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if b"\0" in head:
        zeros = [head[place::2].count(0) / max(1, len(head) // 2) for place in (0, 1)]
        if max(zeros) > 0.3:
            return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8" if is_utf8(head) else other_encoding(head)


def is_utf8(head: bytes) -> bool:
    """Whether the bytes are UTF-8; the last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def other_encoding(text: bytes) -> str:
    """The encoding of a text that is not in UTF-8.

    :raises BadRequest: nothing known reads it
    """
    # Lines without letters beyond ASCII tell nothing.
    telling = b"".join(line for line in text.splitlines(True) if not line.isascii())
    matches = from_bytes(telling or text, cp_isolation=_ENCODINGS, language_threshold=0.05)
    best = matches.best()
    if best is None:
        raise BadRequest(
            "The file is not in UTF-8, and in no other encoding that is known. Name its encoding "
            "with --encoding, such as --encoding windows-1252."
        )
    usual = next((match for match in matches if "cp1252" in match.could_be_from_charset), None)
    if usual is not None and usual.chaos <= best.chaos and usual.coherence >= best.coherence:
        return "cp1252"
    return best.encoding


def delimiter(head: str, *, is_whole: bool) -> str:
    """The delimiter of a text that begins so.

    :param is_whole: the text is the whole file; else its last record may be cut
    """
    best: tuple[float, int, int] | None = None
    found = ""
    for place, candidate in enumerate(DELIMITERS):
        score = _score(head, candidate, is_whole)
        if score and (best is None or (*score, place) > best):
            best, found = (*score, place), candidate
    if found:
        return found
    # One column: what stands in none of its values keeps them whole.
    return next((candidate for candidate in DELIMITERS if candidate not in head), ",")


def _score(head: str, candidate: str, is_whole: bool) -> tuple[float, int] | None:
    """How well the records fit the heading, and how many cells that has; None where it is one, or
    where they hardly fit."""
    rows = _records(head, candidate)
    if not is_whole and len(rows) > 1:
        rows = rows[:-1]
    if not rows or len(rows[0]) < 2:
        return None
    heading, *others = rows
    fits = [_fit(row, len(heading)) for row in others] or [1.0]
    share = sum(fits) / len(fits)
    return (round(share, 2), len(heading)) if share >= _LEAST else None


def _fit(row: Sequence[str], width: int) -> float:
    """A row of one cell speaks against a delimiter; one too long or too short, a little for it."""
    if len(row) == width or (len(row) > width and not any(row[width:])):
        return 1.0
    return 0.4 if len(row) > 1 else 0.0


def _records(head: str, candidate: str) -> Sequence[Sequence[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=candidate):
            if row:
                rows.append(row)
            if len(rows) > _RECORDS:
                break
    except csv.Error:
        pass
    return rows
