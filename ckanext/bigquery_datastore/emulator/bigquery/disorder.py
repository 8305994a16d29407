"""Rows in no order, where BigQuery promises none: what relied on the stored order shows it.

"If you don't use ORDER BY, the order of rows is undefined":
https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#order_by_clause.
Here it is another one for each job, the same for all pages of a result, and never the stored one.
"""

from __future__ import annotations

import random

import pyarrow as pa
import sqlglot
from sqlglot import TokenType
from sqlglot.errors import SqlglotError

# Larger results are cut into runs of rows that change places: copying none of them is quick.
_TAKEN_ROWS = 2_000
_MOST_CHUNKS = 20_000


def is_ordered(sql: str) -> bool:
    """Whether a query sorts its result: an ORDER BY that no parentheses hide."""
    try:
        tokens = sqlglot.Dialect.get_or_raise("bigquery").tokenize(sql)
    except SqlglotError:
        return True
    depth, selects, orders = 0, [], []
    for token in tokens:
        if token.token_type in (TokenType.L_PAREN, TokenType.R_PAREN):
            depth += 1 if token.token_type == TokenType.L_PAREN else -1
        elif token.token_type in (TokenType.SELECT, TokenType.FROM):
            selects.append(depth)
        elif token.token_type == TokenType.ORDER_BY:
            orders.append(depth)
    return bool(orders) and min(orders) <= min(selects, default=0)


def shuffled(rows: pa.Table, seed: str) -> pa.Table:
    """The rows in an order that follows from ``seed``."""
    count = rows.num_rows
    if count < 2 or not rows.num_columns:
        return rows
    pieces = count if count <= _TAKEN_ROWS else max(2, min(500, _MOST_CHUNKS // rows.num_columns))
    order = list(range(pieces))
    random.Random(seed).shuffle(order)
    if order == sorted(order):
        order.reverse()
    if pieces == count:
        return rows.take(pa.array(order))
    bounds = [count * piece // pieces for piece in range(pieces + 1)]
    return pa.concat_tables(
        [rows.slice(bounds[piece], bounds[piece + 1] - bounds[piece]) for piece in order]
    )
