"""The DataStore backend on BigQuery: what CKAN's datastore actions call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ckan.common import CKANConfig
from ckan.plugins import toolkit as tk
from ckan.types import Context
from ckanext.datastore.backend import DatastoreBackend
from flask import Response, after_this_request, has_request_context

from ckanext.bigquery_datastore import clients, config, gist
from ckanext.bigquery_datastore.backend import attach, change, create, door, query
from ckanext.bigquery_datastore.backend.designer import checks
from ckanext.bigquery_datastore.backend.info import field_schema, meta
from ckanext.bigquery_datastore.backend.search import answer, asked, run
from ckanext.bigquery_datastore.backend.sql import check
from ckanext.bigquery_datastore.backend.sql import results as sql_results
from ckanext.bigquery_datastore.backend.table import attached, lookup
from ckanext.bigquery_datastore.backend.table.lookup import ID, TABLES, Table
from ckanext.bigquery_datastore.backend.write import lock
from ckanext.bigquery_datastore.errors import (
    BadRequest,
    Invalid,
    OutsideError,
    OverBudget,
    TooLarge,
)

log = logging.getLogger(__name__)

TABLE_METADATA = "_table_metadata"

NO_SEQUENCES = (
    "BigQuery has no sequences. Rows get an _id that rises and is given once (datastore_create, "
    "datastore_upsert with include_records tells it)."
)


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
            {"query": ["Invalid query"], "info": {"orig": [gist.without_places(str(err))]}}
        ) from err
    except (OutsideError, OverBudget) as err:
        _answer_as(err.status, err.retry_after)
        raise tk.ValidationError({"datastore": [gist.sentence(err)]}) from err
    except (BadRequest, TooLarge) as err:
        raise tk.ValidationError({"datastore": [gist.sentence(err)]}) from err


def _answer_as(status: int, retry_after: int) -> None:
    """Let the refusal that follows have this status: CKAN's API knows no error of its own for it,
    and would call an outage of Google's a conflict (409)."""
    if not has_request_context():
        return

    @after_this_request
    def told(response: Response) -> Response:
        # Whoever has caught the error, and shows a page without the rows, is let alone.
        if response.status_code >= 400:
            response.status_code = status
            response.headers["Retry-After"] = str(retry_after)
        return response


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
        with told_to_ckan(), lock.writing(_live(data_dict["resource_id"])):
            return create.create(data_dict, plugin_data or {})

    def upsert(self, context: Context, data_dict: dict[str, Any]) -> Any:
        with told_to_ckan(), lock.writing(_live(data_dict["resource_id"])):
            client = clients.bigquery_rw()
            table = _table(client, data_dict["resource_id"])
            attached.check_writable(table)
            return change.upsert(client, table, data_dict)

    def delete(self, context: Context, data_dict: dict[str, Any]) -> Any:
        """Rows, or the whole table: core drops that of a resource which is deleted already."""
        id = data_dict["resource_id"]
        if door.resource(id) is None:
            raise _not_found(id)
        with told_to_ckan(), lock.writing(id):
            table = _own_table(clients.bigquery_rw(), id)
            is_whole = data_dict.get("filters") is None
            if not is_whole or door.is_live(id):
                attached.check_writable(table)
            if is_whole:
                attach.drop_table(clients.bigquery_rw(), table)
            else:
                change.delete_rows(clients.bigquery_rw(), context, table, data_dict)
            return data_dict

    def drop_orphan(self, id: str) -> None:
        """Drop a table that belongs to no resource; the caller knows who may wish that."""
        with told_to_ckan(), lock.writing(id):
            attach.drop_table(clients.bigquery_rw(), _own_table(clients.bigquery_rw(), id))

    def create_function(self, name: str, definition: str, **kwargs: Any) -> None:
        """Let Table Designer's pass, which are not kept (see ``designer.rules``), and no other."""
        with told_to_ckan():
            checks.function(name, definition)

    def drop_function(self, name: str, if_exists: bool = False) -> None:
        if not if_exists:
            raise tk.ValidationError({"name": [f"function {name}() does not exist"]})

    # Of CKAN 2.13 on, for sysadmins.

    def create_sequence(self, name: str, *_: Any, **__: Any) -> None:
        raise tk.ValidationError({"name": [NO_SEQUENCES]})

    def drop_sequence(self, name: str, if_exists: bool = False) -> None:
        if not if_exists:
            raise tk.ValidationError({"name": [f"sequence {name} does not exist"]})

    def sequence_nextval(self, name: str) -> int:
        raise tk.ValidationError({"name": [NO_SEQUENCES]})

    def _get_write_engine(self) -> Any:
        """Core's datastore_run_triggers asks for it, and has nothing to run here."""
        raise tk.ValidationError({"triggers": [checks.NO_FUNCTIONS]})

    # --- searching

    def search(self, context: Context, data_dict: dict[str, Any]) -> Any:
        with told_to_ckan():
            id = data_dict["resource_id"]
            if id == TABLE_METADATA:
                return answer.table_metadata(data_dict)
            client = clients.bigquery_ro()
            # What the operator names in this option of core's is everybody's, without a resource.
            is_public = id in (tk.config.get("ckan.datastore.public_table_search") or ())
            seconds = context.get("query_timeout", query.READ_SECONDS * 1000) / 1000

            def found(table: Table) -> Any:
                select = asked.plan(context, table, data_dict, "datastore_search")
                return answer.answer(context, client, select, data_dict, seconds)

            return _of_recent_table(id if is_public else _live(id), found)

    def search_sql(self, context: Context, data_dict: dict[str, Any]) -> Any:
        with told_to_ckan():
            client = clients.bigquery_ro()
            seconds = context.get("query_timeout", query.READ_SECONDS * 1000) / 1000
            rows_max = int(tk.config.get("ckan.datastore.search.rows_max") or 32000)
            checked = check_sql(data_dict.get("sql", ""), context["check_access"])
            found = sql_results.run(
                client, checked, rows_max + 1, config.search_sql_bytes(), seconds
            )
            if len(found.rows) > rows_max:
                data_dict["records_truncated"] = True
            data_dict["records"] = sql_results.records(found, rows_max)
            data_dict["fields"] = [run.field_of(c, json_name="json") for c in found.columns]
            return data_dict

    # --- looking up

    def resource_exists(self, id: str) -> bool:
        """Whether the resource of this id, deleted or not, has a table."""
        with told_to_ckan():
            resource = door.resource(id)
            if resource is None:
                return False
            # Core asks before each action: CKAN's own note saves a question to Google. Whoever then
            # finds no table says so.
            is_noted = door.is_live(id) and (resource.extras or {}).get("datastore_active")
            return bool(is_noted) or _recent_table(id) is not None

    def is_orphan(self, id: str) -> bool:
        """Whether a table belongs to no resource, or to a deleted one."""
        with told_to_ckan():
            return not door.is_live(id) and door.own_table(clients.bigquery_ro(), id) is not None

    def resource_id_from_alias(self, alias: str) -> tuple[bool, str | None]:
        """The resource that a name stands for, an id for itself: what core authorises then.

        Whether it has a table is seen afterwards, when who asks may know.
        """
        with told_to_ckan():
            id = door.find_resource(alias)
        return id is not None, id

    def resource_fields(
        self, id: str, include_meta: bool = True, include_fields_schema: bool = True
    ) -> dict[str, Any]:
        with told_to_ckan():
            table = _table(clients.bigquery_ro(), id)
            info: dict[str, Any] = (
                {"meta": meta(clients.bigquery_ro(), table)} if include_meta else {}
            )
            info["fields"] = [run.field_of(column) for column in table.user_columns]
            if include_fields_schema:
                for field, column in zip(info["fields"], table.user_columns, strict=True):
                    field["schema"] = field_schema(table, column.name, column.type.native)
            return info

    def resource_info(self, id: str) -> dict[str, Any]:
        return self.resource_fields(id)

    def resource_plugin_data(self, id: str) -> dict[str, Any]:
        with told_to_ckan():
            table = door.find_table(clients.bigquery_ro(), id)
        if table is None:
            return {}
        return {
            column.name: {**column.plugin_data, **({"_info": column.info} if column.info else {})}
            for column in table.user_columns
            if column.plugin_data or column.info
        }

    def get_all_ids(self) -> list[str]:
        with told_to_ckan():
            listed = lookup.listed(clients.bigquery_ro())
        return [item.id for item in listed if item.alias_of is None]

    def calculate_record_count(self, resource_id: str) -> None:
        """BigQuery keeps the number of rows in the table's metadata."""

    def clear_table_stats(self, resource_id: str) -> None:
        """See ``calculate_record_count``."""


def check_sql(text: str, check_access: Callable[[list[str]], object]) -> check.Checked:
    """A query from outside, checked, and every table in it readable by who asks."""
    client = clients.bigquery_ro()

    def resolve(name: str) -> Table | None:
        id = door.find_resource(name)
        return door.own_table(client, id) if id is not None else None

    return check.parse_select(text, resolve, check_access)


def _live(id: str) -> str:
    """The id, of a resource that is there."""
    if not door.is_live(id):
        raise _not_found(id)
    return id


def _table(client: Any, id: str) -> Table:
    return _own_table(client, _live(id))


def _own_table(client: Any, id: str) -> Table:
    table = door.own_table(client, id)
    if table is None:
        raise _not_found(id)
    return table


def _recent_table(id: str) -> Table | None:
    """The table as this process heard of it within ``metadata_ttl_seconds``, or hears now."""
    return TABLES.get(id, lambda: door.own_table(clients.bigquery_ro(), id))


def _of_recent_table(id: str, work: Callable[[Table], Any]) -> Any:
    """What ``work`` makes of a table, as it is now where what was heard before does not do:
    another process may have changed its columns, or dropped it."""
    is_remembered = TABLES.has(id)
    table = _recent_table(id)
    if table is None:
        raise _not_found(id)
    try:
        return work(table)
    except (Invalid, query.Refused):
        if not is_remembered:
            raise
    TABLES.forget(id)
    if (table := _recent_table(id)) is None:
        raise _not_found(id)
    return work(table)


def _not_found(id: str) -> tk.ObjectNotFound:
    return tk.ObjectNotFound(f'DataStore table "{id}" was not found.')


__all__ = ["ID", "BigQueryBackend"]
