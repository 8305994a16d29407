"""Table Designer's trigger, the one that a DataStore on BigQuery runs: in Python. Pure.

Table Designer (core's plugin ``tabledesigner``) keeps what a column may hold as plugin data of
the column, makes a PL/pgSQL function of it, and lets PostgreSQL run that before each row is
written. Every rule in that function is one of a few statements. ``STATEMENTS`` has a row for
each: the template that Table Designer fills in, and what the statement does to a row. So a
rule is taken for what its SQL says, whichever class wrote it, and SQL that is not in the table
is known to be unknown: it is refused when the table is designed, never left unchecked.

Nothing of it is stored. The rules of a table are read anew from the plugin data of its columns,
by the column types that the site has now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from string import Formatter
from typing import Any

from ckanext.datastore.backend.postgres import literal_string
from ckanext.tabledesigner import column_types

# isort: split
# Core's two modules import each other, which goes well in this order only.
from ckanext.tabledesigner import column_constraints
from ckanext.tabledesigner import plugin as designer
from ckanext.tabledesigner.datastore import VALIDATE_DEFINITION_SQL

from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.model import Column

PLUGIN = "tabledesigner"

#: A row as texts (see ``values``); a column that is not in it is NULL.
Row = dict[str, "str | None"]
#: Whether a value fits a pattern, both as they are: see ``whole``.
Matches = Callable[[str, str], bool]
#: What a rule does: it may change the row, and says what is wrong with it.
Check = Callable[[Row, Matches], "str | None"]
#: Such a check for a column, from the arguments in the SQL.
Meaning = Callable[[Column, Mapping[str, str]], Check]

_TEXT = r"'(?:[^']|'')*'"
_TOKENS = {
    "value": r'NEW\."(?:[^"]|"")*"',
    "choices": rf"ARRAY\[(?:{_TEXT}(?:,{_TEXT})*)?\]",
    "type_": r"[A-Za-z0-9_ ]+",
}


class Unknown(ValueError):
    """A rule that cannot be checked; the message says which, ``column`` is its column's name."""

    def __init__(self, message: str, column: str = "") -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True)
class Rule:
    """One rule of one column."""

    column: Column
    check: Check


# --- what the statements mean ------------------------------------------------------------------


def _trimmed(row: Row, name: str) -> str | None:
    value = row.get(name)
    if value is not None:
        row[name] = value = value.strip(" ")
    return value


def _trim(column: Column, given: Mapping[str, str]) -> Check:
    def check(row: Row, matches: Matches) -> None:
        _trimmed(row, column.name)

    return check


def _choice(column: Column, given: Mapping[str, str]) -> Check:
    choices = {_unquoted(text) for text in re.findall(_TEXT, given["choices"])}

    def check(row: Row, matches: Matches) -> str | None:
        value = row.get(column.name)
        return f'Invalid choice: "{value}"' if value and value not in choices else None

    return check


def _email(column: Column, given: Mapping[str, str]) -> Check:
    address = re.compile(column_types.EmailColumn._EMAIL_PATTERN)

    def check(row: Row, matches: Matches) -> str | None:
        value = _trimmed(row, column.name)
        return _unquoted(given["error"]) if value and not address.fullmatch(value) else None

    return check


def _bound(column: Column, given: Mapping[str, str], name: str, sign: int) -> Check:
    text = _unquoted(given[name])
    try:
        bound = comparable(column.type, text)
    except types.BadValue as err:
        raise Unknown(f'"{text}" is no bound of the column: {err}', column.name) from err

    def check(row: Row, matches: Matches) -> str | None:
        value = row.get(column.name)
        if value is None:
            return None
        found = comparable(column.type, value)
        is_beyond = found < bound if sign < 0 else found > bound
        return f'{_unquoted(given["error"])}: "{text}"' if is_beyond else None

    return check


def _pattern(column: Column, given: Mapping[str, str]) -> Check:
    pattern = _unquoted(given["pattern"])

    def check(row: Row, matches: Matches) -> str | None:
        value = row.get(column.name)
        # NULL fits no pattern, and so it is on PostgreSQL.
        if value is not None and matches(value, pattern):
            return None
        return f'{_unquoted(given["error"])}: "{pattern}"'

    return check


def _required(column: Column, given: Mapping[str, str], empty: Sequence[str | None]) -> Check:
    def check(row: Row, matches: Matches) -> str | None:
        return _unquoted(given["error"]) if row.get(column.name) in empty else None

    return check


#: How values are compared that are not compared as the texts they are stored from.
_NUMBERS: Mapping[str, Callable[[str], Any]] = {
    "INT64": int,
    "NUMERIC": Decimal,
    "FLOAT64": float,
}


def comparable(type_: types.Type, value: Any) -> Any:
    """A client's value in a form that sorts as the column does (ISO dates sort as texts).

    :raises types.BadValue: the type has no such value
    """
    return _NUMBERS.get(type_.bq, str)(type_.write(value))


# --- the statements ----------------------------------------------------------------------------


def _shape(template: str, fixed: Mapping[str, str]) -> str:
    """A regular expression for what the template gives, each argument a group of its name."""
    parts, seen = [], set()
    for text, name, _, _ in Formatter().parse(template.strip()):
        parts.append(re.escape(text))
        if name is None:
            continue
        if name in fixed:
            parts.append(fixed[name])
        elif name in seen:
            parts.append(f"(?P={name})")
        else:
            parts.append(f"(?P<{name}>{_TOKENS.get(name, _TEXT)})")
            seen.add(name)
    return "".join(parts)


@dataclass(frozen=True)
class Statement:
    """A statement that Table Designer writes. ``fixed``: arguments that have to be just this."""

    template: str
    meaning: Meaning
    fixed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = re.compile(r"\s*" + _shape(self.template, self.fixed))
        object.__setattr__(self, "shape", shape)

    shape: re.Pattern[str] = field(init=False)


def _empty(kind: type[column_types.ColumnType]) -> dict[str, str]:
    return {"condition": _shape(kind._SQL_IS_EMPTY, {})}


_REQUIRED = column_types.ColumnType._SQL_REQUIRED
_ADDRESS = re.escape(literal_string(column_types.EmailColumn._EMAIL_PATTERN))
_RANGE = column_constraints.RangeConstraint

STATEMENTS = (
    Statement(column_types.EmailColumn._SQL_VALIDATE, _email, {"pattern": _ADDRESS}),
    # Behind the email, whose rule begins with the same words.
    Statement(column_types.TextColumn._SQL_TRIM_PK, _trim),
    Statement(column_types.ChoiceColumn._SQL_VALIDATE, _choice),
    Statement(_RANGE._SQL_CHECK_MIN, partial(_bound, name="minimum", sign=-1)),
    Statement(_RANGE._SQL_CHECK_MAX, partial(_bound, name="maximum", sign=1)),
    Statement(column_constraints.PatternConstraint._SQL_CHECK_PATTERN, _pattern),
    # Three ways to be empty: as a text, as JSON, and as anything else.
    Statement(_REQUIRED, partial(_required, empty=(None, "")), _empty(column_types.ColumnType)),
    Statement(_REQUIRED, partial(_required, empty=(None, "null")), _empty(column_types.JSONColumn)),
    Statement(_REQUIRED, partial(_required, empty=(None,)), _empty(column_types.UUIDColumn)),
)


def _unquoted(token: str) -> str:
    """The text of a quoted literal or name."""
    quote = token[-1]
    return token[token.index(quote) + 1 : -1].replace(quote * 2, quote)


def _statements(sql: str) -> Iterator[tuple[Statement, Mapping[str, str]]]:
    """The statements of a rule's SQL, with their arguments.

    :raises Unknown: there is another one
    """
    place = 0
    while sql[place:].strip():
        for statement in STATEMENTS:
            found = statement.shape.match(sql, place)
            if found:
                yield statement, found.groupdict()
                place = found.end()
                break
        else:
            raise Unknown(" ".join(sql[place:].split())[:200])


# --- what the backend asks ---------------------------------------------------------------------


def function_name(resource_id: str) -> str:
    """The name of the trigger function that Table Designer gives a table."""
    return f"{resource_id}_tabledesigner_validate"


def is_function(name: str, definition: str) -> bool:
    """Whether a function is the one that Table Designer makes, whatever its rules are."""
    head, _, tail = VALIDATE_DEFINITION_SQL.partition("{validate_rules}")
    is_framed = definition.startswith(head.format()) and definition.endswith(tail.format())
    return is_framed and name.endswith(function_name(""))


def is_designed(column: Column) -> bool:
    """Whether Table Designer has made the column."""
    return bool((column.plugin_data.get(PLUGIN) or {}).get("tdtype"))


def rules_of(columns: Sequence[Column]) -> list[Rule]:
    """The rules of a table's columns, in Table Designer's order; [] for any other table.

    :raises Unknown: a rule cannot be checked
    """
    known = {column.name: column for column in columns}
    found = []
    for column in filter(is_designed, columns):
        try:
            for statement, given in _statements(_sql_of(column)):
                target = known[_unquoted(given["value"])]
                found.append(Rule(target, statement.meaning(target, given)))
        except Unknown as err:
            raise Unknown(str(err), column.name) from err
    return found


def _sql_of(column: Column) -> str:
    """The rules that Table Designer would put into its function for a column.

    :raises Unknown: no plugin of the site has the column's type
    """
    data = {**column.plugin_data[PLUGIN], "id": column.name, "type": column.type.name}
    # Empty while the plugin is not in ckan.plugins; its tables keep their rules all the same.
    kinds = designer._column_types or column_types._standard_column_types
    constraints = designer._column_constraints or column_constraints._standard_column_constraints
    kind = kinds.get(data["tdtype"])
    if kind is None:
        raise Unknown(f"no plugin of this site has the column type {data['tdtype']}")
    made = kind(data, constraints.get(data["tdtype"], []))
    return "".join(
        filter(
            None,
            (
                made.sql_validate_rule(),
                *(constraint.sql_constraint_rule() for constraint in made.column_constraints()),
                made.sql_required_rule(),
            ),
        )
    )


def applied(rules: Sequence[Rule], row: Row, matches: Matches) -> tuple[Row, list[tuple[str, str]]]:
    """A row as the rules leave it, and what they have against it: pairs of column and sentence."""
    row = dict(row)
    refusals = []
    for rule in rules:
        refusal = rule.check(row, matches)
        if refusal is not None:
            refusals.append((rule.column.name, refusal))
    return row, refusals


def whole(pattern: str) -> str:
    """The expression that a value fits which fits the pattern, as it is on PostgreSQL."""
    return f"(?s)^{pattern}$"


def told(refusals: Sequence[tuple[str, str]]) -> str:
    """Refusals as Table Designer's trigger raises them, and its forms show them."""
    words = [" ".join(re.split(r"[\t\r\n]", word)) for pair in refusals for word in pair]
    return "\t".join(["TAB-DELIMITED", *words])


def bad_value(column: Column, message: str) -> str:
    """What is said of a value that its column cannot hold.

    Table Designer's forms know PostgreSQL's "invalid input syntax"; other words they would
    answer with an error page, and so they are given the column's name.
    """
    if not is_designed(column) or message.startswith("invalid input syntax"):
        return message
    return told([(column.name, message)])
