"""The texts in which BigQuery hands its rows to PostgreSQL. Pure.

A CSV file that cannot be misread: each value has ``=`` before it, so that a missing value and an
empty one differ however the writer of the file tells them; and line ends are escaped, because
PostgreSQL before 18 takes a line of ``\\.`` for the end of the data, in quotes as well
(https://www.postgresql.org/docs/17/sql-copy.html#SQL-COPY-FILE-FORMATS).
"""

from __future__ import annotations

from collections.abc import Sequence

from ckanext.bigquery_datastore.migrate import kinds
from ckanext.bigquery_datastore.migrate.sums import Part

_ESCAPES = (("\\\\", "\\\\0"), ("\\n", "\\\\1"), ("\\r", "\\\\2"))
TABLE = "bigquery_rows"


def sent(part: Part) -> str:
    """BigQuery's SQL for a value as it is written."""
    text = part.kind.bq_text(part.bq)
    for char, escape in _ESCAPES:
        text = f"REPLACE({text}, '{char}', '{escape}')"
    return f"CONCAT('=', {text})"


def received(place: int) -> str:
    """PostgreSQL's SQL for the text of the value in this place."""
    text = f"substr(c{place}, 2)"
    for char, escape in reversed(_ESCAPES):
        text = f"replace({text}, E'{escape}', E'{char}')"
    return text


def compared(place: int, part: Part) -> str:
    """The same, as values are compared: floats come with all their digits."""
    text = received(place)
    return kinds.pg_canon(kinds.KINDS["float8"], text) if part.kind.bq_canon else text


def statements(count: int) -> Sequence[str]:
    """PostgreSQL's: a table that goes with its transaction, and how rows get into it."""
    names = [f"c{place}" for place in range(count)]
    return (
        f"CREATE TEMPORARY TABLE {TABLE} ({', '.join(f'{n} text' for n in names)}) ON COMMIT DROP",
        f"COPY {TABLE} FROM STDIN (FORMAT csv, FORCE_NULL ({', '.join(names)}))",
    )
