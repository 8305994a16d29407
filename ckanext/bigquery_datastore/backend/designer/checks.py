"""Records against the rules of a Table Designer table, before anything of them is written.

The rules are applied in Python (see ``rules``). BigQuery is asked for two things: which values
fit a pattern, because its expressions need time in proportion to the value, whatever an editor
writes, where Python's may need for ever; and what a row holds in the columns that a change
leaves out, because a trigger sees the row as it will be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from google.cloud import bigquery

from ckanext.bigquery_datastore import compat
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.designer.rules import (
    Matches,
    Rule,
    Unknown,
    applied,
    bad_value,
    function_name,
    is_designed,
    is_function,
    rules_of,
    told,
    whole,
)
from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.lookup import Column, Table
from ckanext.bigquery_datastore.backend.write import records
from ckanext.bigquery_datastore.backend.write.records import Batch, Keyed, Texts
from ckanext.bigquery_datastore.errors import Invalid

NO_FUNCTIONS = (
    "BigQuery has no triggers: a DataStore on BigQuery cannot run PL/pgSQL functions, other than "
    "Table Designer's."
)

Refusals = list[tuple[str, str]]
#: Applies the rules to each record in turn.
Judge = Callable[[Matches], Iterator[tuple[Texts, Refusals]]]


def function(name: str, definition: str) -> None:
    """That a function is Table Designer's. Its rules are looked at by ``design``, which can tell
    the column: Table Designer calls it right afterwards.

    :raises Invalid: it is not
    """
    if not is_function(name, definition):
        raise Invalid({"definition": [NO_FUNCTIONS]})


def design(table: Table, functions: Sequence[str], ids: Sequence[str]) -> None:
    """That a table's only trigger is Table Designer's, with rules that can be checked.

    ``ids``: the columns of the request, in its order.

    :raises Invalid: it is not
    """
    has_rules = any(map(is_designed, table.columns))
    if functions and not (has_rules and {*functions} == {function_name(table.id)}):
        raise Invalid({"triggers": [NO_FUNCTIONS]})
    try:
        rules_of(table.columns)
    except Unknown as err:
        sentence = (
            f'This rule of the column "{err.column}" cannot be checked on BigQuery, which takes '
            "the rules of Table Designer's own column types and constraints, and no others: "
            f"{err}"
        )
        raise Invalid({"fields": at_fields(ids, [err.column], "tdtype", sentence)}) from err


def at_fields(
    ids: Sequence[str], names: Collection[str], key: str, sentence: str
) -> list[dict[str, list[str]]]:
    """A sentence at those of a request's fields that have these names, as validators leave it:
    an entry for each field, without which the data dictionary page breaks.
    """
    return [{key: [sentence]} if id in names else {} for id in ids]


def inserted(client: bigquery.Client, table: Table, given: Any) -> Batch:
    """Records as new rows, as the table's rules leave them.

    :raises Invalid: one is no row of the table, or a rule has something against one, in the words
        of Table Designer's trigger
    """
    with _designers_words():
        batch = records.new_rows(table, given)
    rules = _rules(table)
    if not rules:
        return batch

    def judge(matches: Matches) -> Iterator[tuple[Texts, Refusals]]:
        return (applied(rules, row, matches) for row in batch.rows)

    return replace(batch, rows=tuple(_accepted(client, judge)))


def changed(
    client: bigquery.Client, table: Table, changes: Any, *, update_only: bool
) -> Sequence[Keyed]:
    """Records as changes of rows, as the table's rules leave them; see ``inserted``.

    As on PostgreSQL: a row that is changed has to be good as a whole, and a record of an upsert
    as a new row, in CKAN 2.12 also where it changes one that is there.
    """
    with _designers_words():
        given = records.keyed_rows(table, changes)
    rules = _rules(table)
    if not rules:
        return given
    names = {rule.column.name for rule in rules}
    stored = _stored(client, table, given, names)

    def judge(matches: Matches) -> Iterator[tuple[Texts, Refusals]]:
        now = dict(stored)
        for item in given:
            row, refusals = item.row, []
            before = now.get(item.values)
            if not update_only and (before is None or compat.UPSERTS_ARE_INSERTS):
                row, refusals = applied(rules, row, matches)
            # Neither whole nor there: there is nothing to change, and so nothing to judge.
            if not refusals and (before is not None or names <= row.keys()):
                row, refusals = applied(rules, {**(before or {}), **row}, matches)
            now[item.values] = {**(before or {}), **row}
            yield {name: row[name] for name in item.row}, refusals

    return [
        replace(item, row=row) for item, row in zip(given, _accepted(client, judge), strict=True)
    ]


def is_expression(client: bigquery.Client, pattern: str) -> bool:
    """Whether BigQuery can use a pattern. One free query."""
    try:
        list(_fitting(client, pattern, [""]))
    except query.Refused:
        return False
    return True


@contextmanager
def _designers_words() -> Iterator[None]:
    """What is said of a bad value in a column of Table Designer's."""
    try:
        yield
    except records.BadCell as err:
        sentence = bad_value(err.column, err.sentence)
        raise Invalid({"records": [sentence], "records_row": err.number}) from err


def _rules(table: Table) -> list[Rule]:
    try:
        return rules_of(table.columns)
    except Unknown as err:
        # Only where the site's plugins have changed: `create` has refused such a table.
        refusal = (err.column, f"This column has a rule that cannot be checked: {err}")
        raise Invalid({"records": [told([refusal])]}) from err


def _accepted(client: bigquery.Client, judge: Judge) -> list[Texts]:
    """The rows that a judge lets pass.

    :raises Invalid: there is one that it does not
    """
    asked: dict[str, set[str]] = {}

    def remember(value: str, pattern: str) -> bool:
        asked.setdefault(pattern, set()).add(value)
        return True

    for _ in judge(remember):
        pass
    fitting = {pattern: set(_fitting(client, pattern, asked[pattern])) for pattern in asked}
    accepted = []
    for number, (row, refusals) in enumerate(judge(lambda value, p: value in fitting[p])):
        if refusals:
            raise Invalid({"records": [told(refusals)], "records_row": number})
        accepted.append(row)
    return accepted


def _fitting(client: bigquery.Client, pattern: str, values: Iterable[str]) -> Iterator[str]:
    """Those of the values that fit a pattern."""
    for part in _parts(sorted(values)):
        rows = query.read(
            client,
            "SELECT v FROM UNNEST(@vs) AS v WHERE REGEXP_CONTAINS(v, @pattern)",
            (
                Parameter("vs", "STRING", part),
                Parameter("pattern", "STRING", whole(pattern)),
            ),
        )
        yield from (row["v"] for row in rows)


def _parts(values: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The values in portions that fit into a request."""
    part: list[str] = []
    size = 0
    for value in values:
        if part and size + len(value) > records.PARAMETER_BYTES:
            yield tuple(part)
            part, size = [], 0
        part.append(value)
        size += len(value)
    yield tuple(part)


def _stored(
    client: bigquery.Client, table: Table, given: Sequence[Keyed], names: set[str]
) -> dict[tuple[str | None, ...], Texts]:
    """What the rows that are meant hold in the columns of these names, by the values of their key.

    {} where every record gives all of these columns.
    """
    partial = [item for item in given if not names <= item.row.keys()]
    columns = [column for column in table.columns if column.name in names]
    found: dict[tuple[str | None, ...], Texts] = {}
    for batch in records.folded(table, partial):
        keys = [tuple(row[column.name] for column in batch.key) for row in batch.rows]
        with records.brought(client, batch) as source:
            rows = query.read(
                client,
                f"SELECT {source.number('s.r')} AS place, "
                f"{', '.join(f't.{column.sql} AS c{n}' for n, column in enumerate(columns))} "
                f"FROM (SELECT r FROM {source.sql}) AS s JOIN {table.sql_name} AS t "
                f"ON {source.on(batch.key)}",
                source.parameters,
            )
        for row in rows:
            found[keys[row["place"] - 1]] = {
                column.name: _text(column, row[f"c{n}"]) for n, column in enumerate(columns)
            }
    return found


def _text(column: Column, value: object) -> str | None:
    return None if value is None else column.type.write(types.read(column.type, value))
