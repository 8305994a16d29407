"""ALTER TABLE … RENAME TO: the same rows, and what is said of them, under another name.

bqemulator has no such statement. https://cloud.google.com/bigquery/docs/reference/standard-sql/
data-definition-language#alter_table_rename_to_statement
"""

from __future__ import annotations

import sqlglot
from bqemulator.api.dependencies import AppContext
from bqemulator.domain.errors import AlreadyExistsError, InvalidQueryError, NotFoundError
from sqlglot import exp
from sqlglot.errors import SqlglotError

from .engine import Engine, TableName, quote_name
from .tables import touched


def rename(context: AppContext, engine: Engine, project: str, sql: str) -> bool:
    """Do what the statement says; False where it is another one.

    :raises DomainError: BigQuery would refuse it
    """
    if "RENAME" not in sql.upper():
        return False
    try:
        tree = sqlglot.parse_one(sql, read="bigquery")
    except SqlglotError:
        return False
    if not isinstance(tree, exp.Alter):
        return False
    action = next(iter(tree.args.get("actions") or ()), None)
    if not isinstance(action, exp.AlterRename):
        return False
    table, wanted = tree.this, action.this
    name = TableName(table.catalog or project, table.db, table.name)
    if wanted.db:
        raise InvalidQueryError(f"The new name of {name} must be a name alone.")
    meta = context.catalog.get_table(name.project, name.dataset, name.table)
    if meta is None:
        if tree.args.get("exists"):
            return True
        raise NotFoundError(f"Not found: Table {name}")
    if meta.table_type != "TABLE":
        raise InvalidQueryError(f"{name} is no table that can be renamed.")
    after = TableName(name.project, name.dataset, wanted.name)
    if context.catalog.get_table(after.project, after.dataset, after.table) is not None:
        raise AlreadyExistsError(f"Already Exists: Table {after}")
    engine.execute(f"ALTER TABLE {name.quoted} RENAME TO {quote_name(after.table)}")
    # It was made when the old one was made.
    context.catalog.create_table(touched(meta).model_copy(update={"table_id": after.table}))
    context.catalog.delete_table(name.project, name.dataset, name.table, not_found_ok=True)
    return True
