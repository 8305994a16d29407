"""The casts of a wide table in few words: one expression for all columns that are cast alike. Pure.

BigQuery takes 1,024k characters of SQL (https://cloud.google.com/bigquery/quotas#query_jobs), and
the text of one FLOAT64 takes some hundred. A function would be shorter still, but a script's
EXPORT DATA is a job of its own, whose id is not ours to choose.
"""

from __future__ import annotations

from collections.abc import Callable

from ckanext.bigquery_datastore.backend.search.select import Select, T
from ckanext.bigquery_datastore.backend.sql.select import SqlSelect
from ckanext.bigquery_datastore.backend.table.model import Column

# Leaves room for the columns of the widest tables, and for conditions.
CHARACTERS = 500_000
_SHORT = 60

Cast = Callable[[Column, str], str]


def sql_of(select: Select | SqlSelect, cast: Cast) -> str:
    """The statement with its columns cast; a long one casts columns of a kind as one list."""
    sql = select.sql(cast)
    return sql if len(sql) <= CHARACTERS else _shared(select, cast)


def _shared(select: Select | SqlSelect, cast: Cast) -> str:
    kinds: dict[tuple[str, str], list[str]] = {}

    def note(column: Column, sql: str) -> str:
        text = cast(column, "x")
        # BigQuery has no list of lists.
        if len(text) > _SHORT and not column.repeated:
            kinds.setdefault((column.bq_type, text), []).append(sql)
        return sql

    select.sql(note)
    lists, places = {}, {}
    for number, ((_, text), cells) in enumerate(kinds.items()):
        name = f"__cells_{number}"
        lists[name] = (
            f"ARRAY(SELECT {text} FROM UNNEST([{', '.join(cells)}]) AS x "
            "WITH OFFSET AS place ORDER BY place)"
        )
        places |= {cell: f"{T}.`{name}`[OFFSET({place})]" for place, cell in enumerate(cells)}
    return select.sql(lambda column, sql: places.get(sql) or cast(column, sql), lists)
