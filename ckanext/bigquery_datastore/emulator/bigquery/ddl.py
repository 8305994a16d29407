"""CREATE TABLE … AS SELECT with columns, descriptions, labels and clustering of its own.

bqemulator keeps the rows of such a table and the texts of none of its columns, and knows no query
parameters in OPTIONS (https://cloud.google.com/bigquery/docs/reference/standard-sql/
data-definition-language#create_table_statement). Here rows, columns and options change in one
step, and a table that is replaced has to be clustered as before, as BigQuery wants it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlglot
from bqemulator.catalog.models import (
    Clustering,
    RangePartitioning,
    TableFieldSchema,
    TableMeta,
    TableSchema,
)
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.expressions import Expression  # type: ignore[attr-defined]

from ..errors import ApiError
from . import partitioning
from .engine import TableName
from .names import check_names
from .tables import fields_of


@dataclass(frozen=True)
class Definition:
    """What a CREATE TABLE statement says of its table; ``select`` gives the rows, by place."""

    target: TableName
    fields: tuple[TableFieldSchema, ...]
    partitioning: RangePartitioning | None
    clustering: tuple[str, ...]
    description: str | None
    labels: Mapping[str, str]
    replaces: bool
    select: str

    def check(self, existing: TableMeta | None) -> None:
        check_names(self.fields)
        """That the statement may have this table's place."""
        if existing is None:
            return
        if not self.replaces:
            raise ApiError("duplicate", f"Already Exists: Table {self.target}")
        if existing.table_type == "VIEW":
            raise ApiError("invalid", f"{self.target} is a view, and no table to replace.")
        had = existing.clustering.fields if existing.clustering else ()
        if had != self.clustering or existing.range_partitioning != self.partitioning:
            raise ApiError(
                "invalid",
                "Cannot replace a table with a different partitioning spec. Instead, DROP the "
                "table, and then recreate it. New partitioning spec is "
                f"{_spec(self.partitioning, self.clustering)} and existing spec is "
                f"{_spec(existing.range_partitioning, had)}",
            )

    @property
    def changes(self) -> dict[str, Any]:
        """What the catalogue's entry has to say from now on."""
        return {
            "schema": TableSchema(fields=self.fields),
            "range_partitioning": self.partitioning,
            "clustering": Clustering(fields=self.clustering) if self.clustering else None,
            "description": self.description,
            "labels": dict(self.labels),
        }


def _spec(partitioning: RangePartitioning | None, clustering: Sequence[str]) -> str:
    ranges = (
        f"range_partitioning({partitioning.field},{partitioning.start},{partitioning.end},"
        f"{partitioning.interval})"
        if partitioning
        else ""
    )
    keys = f"clustering({','.join(clustering)})" if clustering else ""
    return " ".join(filter(None, (ranges, keys))) or "none"


def definition_of(
    project: str, sql: str, parameters: Sequence[Mapping[str, Any]]
) -> Definition | None:
    """The statement, where it is one that is answered here."""
    try:
        tree = sqlglot.parse_one(sql, read="bigquery")
    except SqlglotError:
        return None
    if not isinstance(tree, exp.Create) or tree.args.get("kind") != "TABLE":
        return None
    schema, select = tree.this, tree.args.get("expression")
    if not isinstance(schema, exp.Schema) or select is None:
        return None
    values = {
        str(given["name"]).lower(): given["parameterValue"].get("value") for given in parameters
    }
    table = schema.this
    options = _options(tree.args.get("properties"), values)
    fields = fields_of([_field(column, values) for column in schema.expressions])
    return Definition(
        target=TableName(table.catalog or project, table.db, table.name),
        fields=fields,
        partitioning=partitioning.of_ddl(tree, fields),
        clustering=_clustering(tree),
        description=options.get("description"),
        labels=options.get("labels") or {},
        replaces=bool(tree.args.get("replace")),
        select=select.sql(dialect="bigquery"),
    )


def dropped_columns(project: str, sql: str) -> tuple[TableName | None, list[str]]:
    """The columns that an ALTER TABLE drops, and its table; None where the statement is another."""
    try:
        tree = sqlglot.parse_one(sql, read="bigquery")
    except SqlglotError:
        return None, []
    if not isinstance(tree, exp.Alter):
        return None, []
    table = tree.this
    drops = [action for action in tree.args["actions"] if isinstance(action, exp.Drop)]
    target = TableName(table.catalog or project, table.db, table.name)
    return target, [drop.this.name for drop in drops if drop.args.get("kind") == "COLUMN"]


def _field(column: exp.ColumnDef, values: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for constraint in column.args.get("constraints") or ():
        options.update(_options(constraint.args.get("kind"), values))
    kind = column.args["kind"].sql(dialect="bigquery")
    return {"name": column.name, "type": kind, "description": options.get("description")}


def _options(found: Expression | None, values: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(found, exp.Properties):
        return {}
    return {
        option.name.lower(): _value(option.args["value"], values)
        for option in found.expressions
        if type(option) is exp.Property
    }


def _value(node: Expression, values: Mapping[str, Any]) -> Any:
    if isinstance(node, exp.Parameter):
        return values[node.name.lower()]
    if isinstance(node, exp.Array):
        return dict(
            tuple(_value(part, values) for part in pair.expressions) for pair in node.expressions
        )
    return node.name


def _clustering(tree: exp.Create) -> tuple[str, ...]:
    found = tree.find(exp.ClusterProperty)
    return tuple(column.name for column in found.expressions) if found else ()
