"""What datastore_create does, step by step: plan the table, check the records, write both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ckanext.bigquery_datastore import clients
from ckanext.bigquery_datastore.backend import attach, door
from ckanext.bigquery_datastore.backend.designer import checks, rules
from ckanext.bigquery_datastore.backend.search.build import get_list
from ckanext.bigquery_datastore.backend.table import attached, definition
from ckanext.bigquery_datastore.backend.table.lookup import Table, get_table
from ckanext.bigquery_datastore.backend.table.model import with_columns
from ckanext.bigquery_datastore.backend.write import numbers, statements
from ckanext.bigquery_datastore.errors import Invalid


def create(data_dict: dict[str, Any], plugin_data: Mapping[int, Mapping[str, Any]]) -> Any:
    """Make or change a table, and insert records: everything, or nothing of it.

    :raises Invalid: something that core would refuse, or that BigQuery has not
    """
    client = clients.bigquery_rw()
    id, records = data_dict["resource_id"], data_dict.get("records")
    before = get_table(client, id)
    if before is not None and before.alias_of:
        raise Invalid({"resource_id": [f'"{id}" is the name of an alias']})
    fields = data_dict.get("fields") or []
    existing = [column.name for column in before.columns] if before else []
    asked = definition.wishes(fields, records, plugin_data, existing)
    after = definition.planned(before, id, asked)
    after = _with_keys(after, data_dict)
    dropped = _dropped(before, asked) if data_dict.get("delete_fields") and fields else []
    if before is not None and (records or dropped):
        attached.check_writable(before)
    attached.check_only_told(before, after)
    kept = with_columns(after, [column for column in after.columns if column.name not in dropped])
    after = replace(after, primary_key=kept.primary_key, indexes=kept.indexes)
    ids = [field["id"] for field in fields]
    checks.design(kept, [given["function"] for given in data_dict.get("triggers") or []], ids)
    _check_new_rows(client, before, kept, records, ids)
    aliases = get_list(data_dict.get("aliases"))
    if aliases is not None:
        _check_names(aliases)
        definition.check_aliases(client, after, aliases)
        after = replace(after, aliases=tuple(aliases))
    _write_table(client, before, after, dropped, data_dict)
    if aliases is not None:
        definition.set_aliases(
            client, replace(after, aliases=before.aliases if before else ()), aliases
        )
    return data_dict


def _check_names(aliases: list[str]) -> None:
    """That nobody takes an alias for a resource, nor for what cannot be a table's name."""
    for alias in aliases:
        if not door.may_be_alias(alias):
            raise Invalid({"alias": [f'"{alias}" is not a valid alias name']})
        if door.resource(alias) is not None:
            raise Invalid({"alias": [f'"{alias}" already exists']})


def _with_keys(table: Table, data_dict: Mapping[str, Any]) -> Table:
    """The table with the primary key and the indexes that are asked for."""
    names = {column.name for column in table.user_columns}
    key, indexes = get_list(data_dict.get("primary_key")), data_dict.get("indexes")
    if key is not None:
        _check_index(names, key, key)
        table = replace(table, primary_key=tuple(key))
    if indexes is not None:
        found = []
        for index in get_list(indexes) or []:
            fields = get_list(index) or []
            _check_index(names, fields, index)
            if fields:
                found.append(tuple(fields))
        table = replace(table, indexes=tuple(found))
    return table


def _check_index(names: set[str], fields: list[str], index: Any) -> None:
    if not set(fields) <= names:
        raise Invalid({"index": [f'The field "{index}" is not a valid column name.']})


def _dropped(before: Table | None, asked: list[definition.Wish]) -> list[str]:
    kept = {wish.id for wish in asked}
    return (
        [column.name for column in before.user_columns if column.name not in kept] if before else []
    )


def _write_table(
    client: Any, before: Table | None, after: Table, dropped: list[str], data_dict: dict[str, Any]
) -> None:
    """Make or change the table and insert the records: everything, or nothing of it."""
    records = data_dict.get("records")
    if before is None:
        table = definition.create(client, numbers.first_given(after, len(records or [])))
    else:
        table = definition.change(client, before, after)
        if table.etag != before.etag and table.attached:
            attach.let_in_again(client, clients.bigquery_ro(), table)
        if dropped:
            table = definition.drop_columns(client, table, dropped)
    if not records:
        return
    is_done = False
    try:
        batch = checks.inserted(client, table, records)
        inserted = statements.insert(
            client, table, batch, dry_run=False, returning=bool(data_dict.get("include_records"))
        )
        is_done = True
    finally:
        # The records were checked before, so this is rare: a table that was not there goes.
        if before is None and not is_done:
            definition.drop(client, table)
    if data_dict.get("include_records"):
        data_dict["records"] = inserted


def _check_new_rows(
    client: Any, before: Table | None, after: Table, records: Any, ids: list[str]
) -> None:
    """Before anything is changed: that the records are good, and a new key is one."""
    batch = checks.inserted(client, after, records or [])
    if not after.primary_key:
        return
    is_new = before is None or sorted(before.primary_key) != sorted(after.primary_key)
    had = {column.name for column in before.columns} if before else set()
    try:
        if before is not None and is_new and set(after.primary_key) <= had:
            if statements.duplicates(client, after, after.primary_key):
                raise statements.taken(after, 0)
            statements.check_keys(client, after, batch)
        elif before is None or not set(after.primary_key) <= had:
            statements.check_keys(client, replace(after, num_rows=0), batch)
    except Invalid as err:
        sentence = "Cannot insert records or create index because of uniqueness constraint"
        original = err.errors["records"][0]
        errors: dict[str, Any] = {"constraints": [sentence], "info": {"orig": original}}
        if any(map(rules.is_designed, after.columns)):
            # What Table Designer's page shows.
            errors["fields"] = checks.at_fields(
                ids, after.primary_key, "tdpkreq", f"{sentence}: {original}"
            )
        raise Invalid(errors) from err
