"""The DataStore backend on BigQuery: what CKAN's datastore actions call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ckan.common import CKANConfig
from ckan.lib.lazyjson import LazyJSONObject
from ckan.plugins import toolkit as tk
from ckan.types import Context
from ckanext.datastore.backend import DatastoreBackend

from ckanext.bigquery_datastore import clients, compat
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.designer import checks, rules
from ckanext.bigquery_datastore.backend.search import results, run
from ckanext.bigquery_datastore.backend.search.select import Invalid, Select, get_list
from ckanext.bigquery_datastore.backend.sql import check
from ckanext.bigquery_datastore.backend.sql import results as sql_results
from ckanext.bigquery_datastore.backend.table import definition
from ckanext.bigquery_datastore.backend.table.lookup import ID, Table, get_table
from ckanext.bigquery_datastore.backend.table.model import with_columns
from ckanext.bigquery_datastore.backend.write import lock, statements
from ckanext.bigquery_datastore.backend.write.records import new_rows
from ckanext.bigquery_datastore.errors import BadRequest, OutsideError

log = logging.getLogger(__name__)

TABLE_METADATA = "_table_metadata"


@contextmanager
def told_to_ckan() -> Iterator[None]:
    """Our errors as the ones that CKAN's API answers with a sentence."""
    try:
        yield
    except Invalid as err:
        raise tk.ValidationError(err.errors) from err
    except check.NotAllowed as err:
        raise tk.NotAuthorized(str(err)) from err
    except query.TookTooLong as err:
        raise tk.ValidationError({"query": [str(err)]}) from err
    except query.Refused as err:
        raise tk.ValidationError(
            {"query": ["Invalid query"], "info": {"orig": [str(err)]}}
        ) from err
    except (BadRequest, OutsideError) as err:
        raise tk.ValidationError({"datastore": [str(err)]}) from err


class BigQueryBackend(DatastoreBackend):
    """One BigQuery dataset as CKAN's DataStore. Every method may be called in any process."""

    enable_sql_search = False

    def configure(self, config: CKANConfig) -> CKANConfig:
        self.enable_sql_search = tk.asbool(config.get("ckan.datastore.sqlsearch.enabled"))
        return config

    def before_fork(self) -> None:
        """Connections must not be shared with a child process."""
        clients.forget()

    # --- writing

    def create(
        self,
        context: Context,
        data_dict: dict[str, Any],
        plugin_data: dict[int, dict[str, Any]] | None = None,
    ) -> Any:
        with told_to_ckan(), lock.writing(data_dict["resource_id"]):
            return _create(data_dict, plugin_data or {})

    def upsert(self, context: Context, data_dict: dict[str, Any]) -> Any:
        with told_to_ckan(), lock.writing(data_dict["resource_id"]):
            return _upsert(data_dict)

    def delete(self, context: Context, data_dict: dict[str, Any]) -> Any:
        with told_to_ckan(), lock.writing(data_dict["resource_id"]):
            table = _table(clients.bigquery_rw(), data_dict["resource_id"])
            if data_dict.get("filters") is None:
                definition.drop(clients.bigquery_rw(), table)
            else:
                _delete_rows(context, table, data_dict)
            return data_dict

    def create_function(self, name: str, definition: str, **kwargs: Any) -> None:
        """Let Table Designer's pass, which need not be kept (see ``trigger``), and no other."""
        with told_to_ckan():
            checks.function(name, definition)

    def drop_function(self, name: str, if_exists: bool = False) -> None:
        if not if_exists:
            raise tk.ValidationError({"name": [f"function {name}() does not exist"]})

    def _get_write_engine(self) -> Any:
        """Core's datastore_run_triggers asks for it, and has nothing to run here."""
        raise tk.ValidationError({"triggers": [checks.NO_FUNCTIONS]})

    # --- searching

    def search(self, context: Context, data_dict: dict[str, Any]) -> Any:
        with told_to_ckan():
            if data_dict["resource_id"] == TABLE_METADATA:
                return _search_table_metadata(data_dict)
            client = clients.bigquery_ro()
            table = _table(client, data_dict["resource_id"])
            seconds = context.get("query_timeout", query.READ_SECONDS * 1000) / 1000
            select = run.plan(context, table, data_dict, "datastore_search")
            return _answer(context, client, select, data_dict, seconds)

    def search_sql(self, context: Context, data_dict: dict[str, Any]) -> Any:
        with told_to_ckan():
            client = clients.bigquery_ro()
            seconds = context.get("query_timeout", query.READ_SECONDS * 1000) / 1000
            rows_max = int(tk.config.get("ckan.datastore.search.rows_max") or 32000)
            checked = check_sql(data_dict.get("sql", ""), context["check_access"])
            found = sql_results.run(client, checked, rows_max + 1, seconds)
            if len(found.rows) > rows_max:
                data_dict["records_truncated"] = True
            data_dict["records"] = sql_results.records(found, rows_max)
            data_dict["fields"] = [run.field_of(c, json_name="json") for c in found.columns]
            return data_dict

    # --- looking up

    def resource_exists(self, id: str) -> bool:
        with told_to_ckan():
            table = get_table(clients.bigquery_ro(), id)
        return table is not None and table.alias_of is None

    def resource_id_from_alias(self, alias: str) -> tuple[bool, str | None]:
        with told_to_ckan():
            table = get_table(clients.bigquery_ro(), alias)
        return table is not None, table.alias_of if table else None

    def resource_fields(
        self, id: str, include_meta: bool = True, include_fields_schema: bool = True
    ) -> dict[str, Any]:
        with told_to_ckan():
            table = _table(clients.bigquery_ro(), id)
            info: dict[str, Any] = {"meta": _meta(table)} if include_meta else {}
            info["fields"] = [run.field_of(column) for column in table.user_columns]
            if include_fields_schema:
                for field, column in zip(info["fields"], table.user_columns, strict=True):
                    field["schema"] = _field_schema(table, column.name, column.type.native)
            return info

    def resource_info(self, id: str) -> dict[str, Any]:
        return self.resource_fields(id)

    def resource_plugin_data(self, id: str) -> dict[str, Any]:
        with told_to_ckan():
            table = get_table(clients.bigquery_ro(), id)
        if table is None:
            return {}
        return {
            column.name: {**column.plugin_data, **({"_info": column.info} if column.info else {})}
            for column in table.user_columns
            if column.plugin_data or column.info
        }

    def get_all_ids(self) -> list[str]:
        with told_to_ckan():
            listed = definition.listed(clients.bigquery_ro())
        return [item.id for item in listed if item.alias_of is None]

    def calculate_record_count(self, resource_id: str) -> None:
        """BigQuery keeps the number of rows in the table's metadata."""

    def clear_table_stats(self, resource_id: str) -> None:
        """See ``calculate_record_count``."""


def check_sql(text: str, check_access: Callable[[list[str]], object]) -> check.Checked:
    """A query from outside, checked, and every table in it readable by who asks."""
    client = clients.bigquery_ro()

    def resolve(name: str) -> Table | None:
        table = get_table(client, name)
        return get_table(client, table.alias_of) if table and table.alias_of else table

    return check.parse_select(text, resolve, check_access)


def _table(client: Any, id: str) -> Table:
    table = get_table(client, id)
    if table is None:
        raise tk.ObjectNotFound(f'DataStore table "{id}" was not found.')
    return table


# --- create ------------------------------------------------------------------------------------


def _create(data_dict: dict[str, Any], plugin_data: Mapping[int, Mapping[str, Any]]) -> Any:
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
    kept = with_columns(after, [column for column in after.columns if column.name not in dropped])
    after = replace(after, primary_key=kept.primary_key, indexes=kept.indexes)
    ids = [field["id"] for field in fields]
    checks.design(kept, [given["function"] for given in data_dict.get("triggers") or []], ids)
    _check_new_rows(client, before, kept, records, ids)
    aliases = get_list(data_dict.get("aliases"))
    if aliases is not None:
        definition.check_aliases(client, after, aliases)
        after = replace(after, aliases=tuple(aliases))
    _write_table(client, before, after, dropped, data_dict)
    if aliases is not None:
        definition.set_aliases(
            client, replace(after, aliases=before.aliases if before else ()), aliases
        )
    return data_dict


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
        table = definition.create(client, after)
    else:
        table = definition.change(client, before, after)
        if dropped:
            table = definition.drop_columns(client, table, dropped)
    if not records:
        return
    is_done = False
    try:
        inserted = statements.insert(
            client, table, records, dry_run=False, returning=bool(data_dict.get("include_records"))
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
    batch = checks.inserted(client, after, new_rows(after, records or []))
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


# --- upsert and delete -------------------------------------------------------------------------


def _upsert(data_dict: dict[str, Any]) -> Any:
    client = clients.bigquery_rw()
    table = _table(client, data_dict["resource_id"])
    records = data_dict.get("records")
    if not records:
        return data_dict
    method = data_dict.get("method", "upsert")
    options = {
        "dry_run": bool(data_dict.get("dry_run")),
        "returning": bool(data_dict.get("include_records")),
    }
    if method == "insert":
        written = statements.insert(client, table, records, **options)
    else:
        written = statements.upsert(
            client, table, records, update_only=method == "update", **options
        )
    if options["returning"] and written:
        data_dict["records"] = written
    return data_dict


def _delete_rows(context: Context, table: Table, data_dict: dict[str, Any]) -> None:
    client = clients.bigquery_rw()
    params = {"filters": data_dict["filters"]}
    select = run.plan(context, table, {**data_dict, **params}, "datastore_delete")
    if data_dict.get("include_deleted_records"):
        rows_max = int(tk.config.get("ckan.datastore.search.rows_max") or 32000)
        found = run.run(client, replace(select, limit=rows_max), query.READ_SECONDS)
        data_dict["deleted_records"] = results.plain(
            results.objects(found.columns, found.rows, True)
        )
    if table.has_id:
        top, left = statements.top_id_after(client, select)
        if left < top and top > table.last_id:
            # So that the number of a deleted row is not given to another one.
            definition.change(client, table, replace(table, last_id=top))
    statements.delete(client, select)


# --- the answer of a search --------------------------------------------------------------------


def _answer(
    context: Context, client: Any, select: Select, data_dict: dict[str, Any], seconds: float
) -> dict[str, Any]:
    wants_next = bool(data_dict.get("include_next_page"))
    asked = select.columns
    found = run.run(client, run.with_id(select) if wants_next else select, seconds)
    rows = [row[: len(asked)] for row in found.rows]
    records = run.formatted(data_dict.get("records_format", "objects"), asked, rows)
    if isinstance(records, list):
        if records and "api_version" in context:
            records = LazyJSONObject(results.as_json(records))
        else:
            records = results.plain(records)
    data_dict["records"] = records
    data_dict["fields"] = run.fields_of(asked)
    if data_dict.get("include_total", True):
        data_dict["total"] = run.total(client, select, seconds)
    if wants_next:
        page = run.next_page(select, found, int(data_dict.get("limit") or 0))
        if page is not None:
            data_dict["next_page"] = page
    compat.add_search_extras(data_dict, select.is_whole_table)
    return data_dict


def _search_table_metadata(data_dict: dict[str, Any]) -> dict[str, Any]:
    """The list of tables and aliases that core offers as a table."""
    listed = definition.listed(clients.bigquery_ro())
    start = int(data_dict.get("offset") or 0)
    page = listed[start : start + int(data_dict.get("limit") or 100)]
    names = ("_id", "name", "oid", "alias_of")
    rows = [(item.id, item.id, None, item.alias_of) for item in page]
    data_dict["records"] = [dict(zip(names, row, strict=True)) for row in rows]
    if data_dict.get("records_format") == "lists":
        data_dict["records"] = [list(row) for row in rows]
    data_dict["fields"] = [{"id": name, "type": "text"} for name in names]
    if data_dict.get("include_total", True):
        data_dict["total"] = len(listed)
    return data_dict


# --- the answer of datastore_info --------------------------------------------------------------


def _meta(table: Table) -> dict[str, Any]:
    client = clients.bigquery_ro()
    whole = Select(table, table.columns)
    return {
        "id": table.id,
        "count": run.total(client, whole, query.READ_SECONDS),
        "table_type": "BASE TABLE" if table.kind == "TABLE" else table.kind.replace("_", " "),
        "size": table.num_bytes,
        # BigQuery tells neither without a query over the whole dataset.
        "db_size": None,
        "idx_size": 0,
        "aliases": list(reversed(table.aliases)),
    }


def _field_schema(table: Table, name: str, native: str) -> dict[str, Any]:
    in_key = name in table.primary_key
    index = next((index for index in table.indexes if name in index), None)
    return {
        "native_type": native,
        "notnull": False,
        "index_name": "_".join(table.primary_key if in_key else index or ()) or None,
        "is_index": in_key or index is not None,
        "uniquekey": in_key,
    }


__all__ = ["ID", "BigQueryBackend"]
