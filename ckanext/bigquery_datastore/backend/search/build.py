"""From the parameters of datastore_search to a ``Select``, and the values beside it. Pure.

Parameters that core would refuse are refused in core's words (``Invalid.errors``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ckanext.bigquery_datastore.backend.parameters import Parameter
from ckanext.bigquery_datastore.backend.search import bounds, floats, fulltext
from ckanext.bigquery_datastore.backend.search import filters as filters_module
from ckanext.bigquery_datastore.backend.search.conditions import (
    Conditions,
    invalid_value,
    query_fault,
)
from ckanext.bigquery_datastore.backend.search.order import sort_term
from ckanext.bigquery_datastore.backend.search.select import Order, Select, T
from ckanext.bigquery_datastore.backend.table import types
from ckanext.bigquery_datastore.backend.table.model import (
    ID,
    Column,
    Table,
)
from ckanext.bigquery_datastore.errors import Invalid

_MOST_FLOATS = 50
_TEXT_CAST = ("INT64", "NUMERIC", "BIGNUMERIC", "BOOL", "DATE", "TIME", "DATETIME")


def build(
    table: Table,
    params: Mapping[str, Any],
    *,
    extra_where: Sequence[str] = (),
    extra_parameters: Sequence[Parameter] = (),
    custom_filters: Collection[str] = (),
    default_language: str = "english",
    characters: int = bounds.CHARACTERS,
) -> Select:
    """The Select for the parameters of datastore_search (those of its schema; others ignored).

    No limit is added, and rows are sorted by ``_id`` where the table has one and nothing else
    is asked for. ``extra_where``: conditions of other plugins, on the table named ``t``;
    ``custom_filters``: the names in ``filters`` that they stand for. ``characters``: how long
    a text to be searched, or an order, may be.

    :raises Invalid: core would refuse the parameters
    """
    bounds.check(params, characters)
    builder = _Builder(table, params, default_language, custom_filters)
    return builder.select(extra_where, extra_parameters)


def get_list(value: Any, strip: bool = True) -> list[str] | None:
    """A list, or a comma separated text, as a list; as core's helper of this name."""
    if value is None:
        return None
    if value == "":
        return []
    if isinstance(value, str):
        items: list[Any] = [item.strip() for item in value.split(",")]
    else:
        items = list(value) if isinstance(value, (list, tuple)) else [value]
    if not strip:
        return items
    return [
        item.strip().strip('"') if isinstance(item, str) and item and item[0] == item[-1] else item
        for item in items
    ]


class _Builder:
    """Gathers the parts of one Select."""

    def __init__(
        self,
        table: Table,
        params: Mapping[str, Any],
        language: str,
        custom_filters: Collection[str],
    ) -> None:
        self.table = table
        self.params = params
        self.language = params.get("language") or language
        self.where: list[str] = []
        self.rank_sql: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.ranks: dict[str, Column] = {}
        self.available = {
            column.name: column
            for column in table.columns
            if column.name == ID or not column.name.startswith("_")
        }
        self.conditions = Conditions(self.available, custom_filters)

    def select(self, extra_where: Sequence[str], extra_parameters: Sequence[Parameter]) -> Select:
        self.check()
        self.add_filters()
        self.add_full_text()
        self.where.extend(extra_where)
        self.conditions.parameters.extend(extra_parameters)
        distinct = bool(self.params.get("distinct"))
        columns = self.columns()
        if distinct:
            columns = tuple({column.name: column for column in columns}.values())
        return Select(
            table=self.table,
            columns=columns,
            distinct=distinct,
            where=tuple(self.where),
            order_by=self.order(distinct, columns),
            limit=_natural("limit", self.params.get("limit")),
            offset=_natural("offset", self.params.get("offset")) or 0,
            parameters=tuple(self.conditions.parameters),
            ranks=self.rank_sql,
            texts=self.texts,
        )

    # --- what is allowed

    def check(self) -> None:
        q = self.params.get("q")
        if isinstance(q, Mapping):
            for name, text in q.items():
                if name not in self.available or not isinstance(text, str):
                    raise invalid_value("q", name)
        elif q and not isinstance(q, str):
            raise invalid_value("q", q)
        for key in ("full_text", "language"):
            if self.params.get(key) and not isinstance(self.params[key], str):
                raise invalid_value(key, self.params[key])

    # --- filters

    def add_filters(self) -> None:
        try:
            condition = filters_module.parse(self.params.get("filters"), self.available)
        except filters_module.InvalidFilters as err:
            raise Invalid({"filters": err.messages}) from err
        if condition is not None and (sql := self.conditions.condition(condition)):
            self.where.append(sql)

    # --- full text

    def add_full_text(self) -> None:
        q, full_text = self.params.get("q"), self.params.get("full_text")
        # Core looks for only one text in all columns: ``full_text``, where both are given.
        whole = full_text or (q if isinstance(q, str) else None)
        if whole:
            self.match("rank", "__words", whole, list(self.table.user_columns))
        if isinstance(q, Mapping):
            for number, (name, text) in enumerate(q.items()):
                self.match(f"rank {name}", f"__words_{number}", text, [self.available[name]])

    def match(self, rank: str, words: str, text: str, columns: Sequence[Column]) -> None:
        is_plain = self.params.get("plain")
        read = fulltext.plain if is_plain is None or is_plain else fulltext.tsquery
        try:
            query = read(text, self.language)
        except fulltext.InvalidQuery as err:
            raise query_fault(str(err)) from err
        bounds.no_more("q", fulltext.count_words(query), bounds.MOST_WORDS, "words")
        self.texts[words] = fulltext.words_sql(fulltext.joined_sql(_texts_sql(columns)))
        found: dict[str, str] = {}
        self.where.append("FALSE" if query is None else self.matches(query, f"{T}.{words}", found))
        stored = words.replace("words", "rank")
        self.ranks[rank] = Column(rank, types.TYPES["float8"], stored=stored)
        self.rank_sql[stored] = _rank_sql(f"{T}.{words}", found)

    def matches(self, query: fulltext.Query, words: str, found: dict[str, str]) -> str:
        if isinstance(query, fulltext.Words):
            placeholder = found.setdefault(query.needle, "")
            if not placeholder:
                placeholder = found[query.needle] = self.conditions.placeholder(
                    "STRING", query.needle
                )
            return f"STRPOS({words}, {placeholder}) > 0"
        if isinstance(query, fulltext.Without):
            # What is not wanted does not count for the rank.
            return f"NOT ({self.matches(query.part, words, {})})"
        joint = " AND " if isinstance(query, fulltext.Every) else " OR "
        return f"({joint.join(self.matches(part, words, found) for part in query.parts)})"

    # --- output and order

    def columns(self) -> tuple[Column, ...]:
        everything = {**self.available, **self.ranks}
        names = get_list(self.params.get("fields"))
        if not names:
            return tuple(everything.values())
        unknown = [name for name in names if not isinstance(name, str) or name not in everything]
        if unknown:
            raise invalid_value("fields", unknown[0])
        # Each once: a column that is asked for a thousand times is not read a thousand times.
        return tuple(everything[name] for name in dict.fromkeys(names))

    def order(self, distinct: bool, columns: Sequence[Column]) -> tuple[Order, ...]:
        clauses = get_list(self.params.get("sort"), False) or []
        bounds.no_more("sort", len(clauses), bounds.MOST_TERMS, "terms")
        orders = [order for clause in clauses for order in self.sorted_by(clause)]
        if not self.params.get("sort"):
            orders = [
                Order(name, f"{T}.{column.sql}", descending=True, nulls_first=True)
                for name, column in self.ranks.items()
                if not distinct or column in columns
            ]
        if distinct:
            outside = [order for order in orders if order.column not in {c.name for c in columns}]
            if outside:
                raise query_fault(
                    "for SELECT DISTINCT, ORDER BY expressions must appear in select list"
                )
            return tuple(orders)
        if self.table.has_id and all(order.column != ID for order in orders):
            # A last term that no two rows share: pages do not overlap.
            orders.append(Order(ID, f"{T}.{self.available[ID].sql}"))
        return tuple(orders)

    def sorted_by(self, clause: Any) -> Sequence[Order]:
        if not isinstance(clause, str) or not clause.strip():
            raise invalid_value("sort", clause)
        name, direction, nulls = sort_term(clause)
        if name not in self.available:
            raise invalid_value("sort", clause)
        descending = direction == "desc"
        column = self.available[name]
        sql = self.conditions.subject(column)
        if column.type.element:
            sql = f"RTRIM({sql}, ']')"  # so that ["a"] comes before ["a","b"]
        # PostgreSQL: NULL is larger than anything; BigQuery: smaller.
        nulls_first = nulls == "first" if nulls else descending
        terms = [*floats.sorted_before(column, sql), sql]
        return [Order(name, term, descending, nulls_first) for term in terms]


def _natural(key: str, value: Any) -> int | None:
    if value is None or value == "" or (isinstance(value, str) and value.lower() == "all"):
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise invalid_value(key, value) from None
    if not 0 <= number <= bounds.LARGEST:
        raise invalid_value(key, value)
    return number


def _texts_sql(columns: Sequence[Column]) -> list[str | None]:
    """The columns' texts for full-text search; where many are floats, those as one list.

    The text of a float takes two thousand characters, and a statement may have a million.
    """
    floating = [column for column in columns if column.bq_type == "FLOAT64"]
    if len(floating) <= _MOST_FLOATS:
        return [_text_sql(column) for column in columns]
    cells = ", ".join(f"{T}.{column.sql}" for column in floating)
    text = types.export_text(floating[0].type, "x")
    joined = f"ARRAY_TO_STRING(ARRAY(SELECT {text} FROM UNNEST([{cells}]) AS x), '\\n')"
    return [*(_text_sql(column) for column in columns if column not in floating), joined]


def _text_sql(column: Column) -> str | None:
    """A column's text for full-text search; None for what has none."""
    sql = f"{T}.{column.sql}"
    if column.bq_type == "STRING":
        return sql
    if column.bq_type == "FLOAT64":
        return types.export_text(column.type, sql)
    if column.bq_type in _TEXT_CAST or column.bq_type == "TIMESTAMP":
        return f"CAST({sql} AS STRING)"
    return f"TO_JSON_STRING({sql})" if column.bq_type in ("JSON", "STRUCT", "ARRAY") else None


def _rank_sql(words: str, needles: Mapping[str, str]) -> str:
    """Between 0 and 1: the more often the words are there, the higher. Not PostgreSQL's number."""
    if not needles:
        return "0.0"
    count = " + ".join(
        f"(LENGTH({words}) - LENGTH(REPLACE({words}, {placeholder}, ''))) / {len(needle)}"
        for needle, placeholder in needles.items()
    )
    return f"SAFE_DIVIDE({count}, {count} + 15)"
