"""The view in our dataset by which a resource shows a table that is elsewhere in BigQuery.

It is authorised: the dataset of the table lets it read, whoever asks it, so that nobody else needs
to be let in. https://cloud.google.com/bigquery/docs/authorized-views
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.api_core import exceptions as gexc
from google.api_core.retry import Retry
from google.cloud import bigquery

from ckanext.bigquery_datastore import clients, config
from ckanext.bigquery_datastore.backend import query
from ckanext.bigquery_datastore.backend.table import attached, definition
from ckanext.bigquery_datastore.backend.table.attached import Source
from ckanext.bigquery_datastore.backend.table.lookup import Table, get_table, is_name, reference
from ckanext.bigquery_datastore.backend.table.model import quote_name, split_description
from ckanext.bigquery_datastore.errors import BadRequest, OutsideError, PermissionMissing

# A dataset's access list is read and written whole: another change in between is tried over.
_TRIES = 5

# Until a right that was given is known everywhere.
# https://cloud.google.com/iam/docs/access-change-propagation
_KNOWN_SECONDS = 120.0

_INTEGERS = ("INTEGER", "INT64")


def found(client: bigquery.Client, name: str) -> tuple[Source, bigquery.Table]:
    """The table or view of this name, which can be attached.

    :raises BadRequest: there is none, or it cannot
    :raises PermissionMissing: it may not be read
    """
    source = attached.source_of(name)
    if source is None or not is_name(source.table):
        raise BadRequest(
            f"{name[:200]!r} is no name of one table: project.dataset.table is wanted. Of several "
            "tables (table_*) a view can be attached."
        )
    _check_foreign({(source.project, source.dataset, source.table)})
    with clients.told(f"reading the table {source.full_id}", gexc.NotFound, gexc.BadRequest):
        try:
            table = client.get_table(source.full_id, **clients.budget())
        except (gexc.NotFound, gexc.BadRequest) as err:
            raise BadRequest(f"There is no table {source.full_id}.") from err
    if str(table.reference) != source.full_id:
        raise BadRequest(f"{source.full_id} is the table {table.reference}: name it so.")
    _check_place(client, source, table)
    partitions = table.time_partitioning
    if table.require_partition_filter or (partitions and partitions.require_partition_filter):
        raise BadRequest(
            f"{source.full_id} wants a filter on its partitions in every query, which those of "
            "CKAN have not. Take the requirement away, or attach a view with such a filter."
        )
    return source, table


def _check_foreign(names: set[tuple[str, str, str]]) -> None:
    """That a table is none of the DataStore's own: who may read these is said by their resources.

    :raises BadRequest: one is
    """
    ours = (config.project(), config.dataset())
    if own := sorted(table for project, dataset, table in names if (project, dataset) == ours):
        raise BadRequest(
            f"{own[0]} is in this site's own DataStore: whoever may read it there is the choice of "
            "its resource. A table of another dataset can be attached."
        )


def _check_place(client: bigquery.Client, source: Source, table: bigquery.Table) -> None:
    with clients.told(f"reading the dataset {config.dataset()}"):
        own = bigquery.DatasetReference(config.project(), config.dataset())
        place = client.get_dataset(own, **clients.budget()).location or ""
    if (table.location or "").lower() != place.lower():
        raise BadRequest(
            f"{source.full_id} is in the location {table.location}, this site's DataStore in "
            f"{place}: a view reads tables of its own location alone. A copy in {place} can be "
            "attached (https://cloud.google.com/bigquery/docs/managing-datasets#copy-datasets)."
        )


# --- make, drop ----------------------------------------------------------------------------------


def make(
    writer: bigquery.Client, reader: bigquery.Client, id: str, source: Source, api: bigquery.Table
) -> dict[str, str]:
    """Make the view, and see that it can be read. The caller holds the lock of the table.

    The names that columns have in it, where they have others than in their table.

    :raises PermissionMissing: the site's accounts may not do or read this; nothing is left behind
    """
    columns = [(f.name, f.field_type in _INTEGERS and f.mode != "REPEATED") for f in api.schema]
    names = attached.shown(columns)
    sql = attached.view_sql(source, names)
    _check_foreign(_read_by(writer, sql, source))
    # What stands there already, should there be anything, is not ours to drop.
    view = _make_view(writer, id, source, sql)
    is_done = False
    try:
        definition.kept(writer, view)
        _describe(writer, id, {names[f.name]: f.description or "" for f in api.schema})
        let_in(writer, reader, id, source)
        is_done = True
    finally:
        if not is_done:
            drop(writer, id, source)
    return {own: name for own, name in names.items() if own != name}


def _read_by(client: bigquery.Client, sql: str, source: Source) -> set[tuple[str, str, str]]:
    """The tables that a query reads, by a dry run."""
    try:
        job = query.dry_run(client, sql)
    except PermissionMissing as err:
        raise PermissionMissing(f"{err} {_table_command(client, source)}") from err
    except query.Refused as err:
        raise BadRequest(f"BigQuery cannot read {source.full_id}: {err}") from err
    return {(one.project, one.dataset_id, one.table_id) for one in job.referenced_tables or ()}


def _make_view(client: bigquery.Client, id: str, source: Source, sql: str) -> bigquery.Table:
    view = bigquery.Table(reference(id))
    view.view_query = sql
    view.description = attached.description(id, config.project(), config.dataset(), source)
    view.labels = {attached.LABEL: "true"}
    with clients.told(f"making the view {id}", gexc.Conflict, gexc.BadRequest):
        try:
            return client.create_table(view, **clients.patience())
        except gexc.BadRequest as err:
            raise BadRequest(
                f"BigQuery cannot show {source.full_id}: {query.message(err)}"
            ) from err
        except gexc.Conflict as err:
            there = get_table(client, id)
            # The first request arrived, its answer did not.
            if there is None or there.attached != source.full_id:
                raise BadRequest(f"The resource {id} has a table already.") from err
            return client.get_table(reference(id), **clients.budget())


def _describe(client: bigquery.Client, id: str, texts: dict[str, str]) -> None:
    """Give the columns the texts that they have in their table: the data dictionary's notes."""
    # What is for CKAN in them is another site's.
    plain = {name: split_description(text)[0] for name, text in texts.items()}
    if not any(plain.values()):
        return
    with clients.told(f"describing the view {id}"):
        view = client.get_table(reference(id), **clients.budget())
        view.schema = [
            bigquery.SchemaField.from_api_repr(
                {**field.to_api_repr(), "description": plain.get(field.name, "")}
            )
            for field in view.schema
        ]
        client.update_table(view, ["schema"], **clients.patience())


def drop(client: bigquery.Client, id: str, source: Source) -> None:
    """Drop the view, and take back what it was allowed; the table is not touched."""
    with clients.told(f"dropping the view {id}"):
        client.delete_table(reference(id), not_found_ok=True, **clients.budget())
    with clients.tidied_up(f"The entry of {id} among those that may read {source.full_id}"):
        _change_access(client, source, id, lambda entries, _: entries)


def drop_table(client: bigquery.Client, table: Table) -> None:
    """Drop a resource's table with its aliases, or of an attached one the view alone."""
    source = attached.source_of(table.attached) if table.attached else None
    definition.drop(client, table)
    if source is not None:
        drop(client, table.id, source)


# --- who may read --------------------------------------------------------------------------------


def let_in_again(writer: bigquery.Client, reader: bigquery.Client, table: Table) -> None:
    """After a change of the view's texts: BigQuery forgets then what it was allowed.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/datasets#Dataset (access[].view)
    """
    if (source := attached.source_of(table.attached)) is not None:
        let_in(writer, reader, table.id, source)


def let_in(writer: bigquery.Client, reader: bigquery.Client, id: str, source: Source) -> None:
    """Let the view read the dataset of its table, and see that the read-only account can read it.

    :raises PermissionMissing: it cannot; which command changes that is said
    """
    refusal: PermissionMissing | None = None
    try:
        _change_access(writer, source, id, lambda entries, own: [*entries, own])
    except PermissionMissing as err:
        refusal = err
    ask = query.dry_run
    if refusal is None:
        ask = Retry(predicate=_is_refused, initial=1.0, maximum=10.0, timeout=_KNOWN_SECONDS)(ask)
    try:
        ask(reader, f"SELECT * FROM {quote_name(str(reference(id)))}")
    except gexc.RetryError as err:
        raise PermissionMissing(f"The view {id} may not read {source.full_id}.") from err
    except query.Refused as err:
        raise BadRequest(f"BigQuery cannot read {source.full_id} by a view: {err}") from err
    except PermissionMissing as err:
        raise PermissionMissing(
            f"The site's account may not change who reads the dataset {source.dataset}: "
            f"{refusal}\n{_dataset_command(writer, source)}\n{_table_command(reader, source)}"
        ) from err


def _is_refused(err: BaseException) -> bool:
    return isinstance(err, PermissionMissing)


def _change_access(
    client: bigquery.Client,
    source: Source,
    id: str,
    change: Callable[[list[Any], dict[str, Any]], list[Any]],
) -> None:
    """Change the entries of a dataset's access list; ``change`` gets those but for the view's own,
    and the view's own."""
    own = {"view": reference(id).to_api_repr()}
    dataset = bigquery.DatasetReference(source.project, source.dataset)
    with clients.told(f"changing who may read the dataset {dataset}", gexc.PreconditionFailed):
        for number in range(1, _TRIES + 1):
            api = client.get_dataset(dataset, **clients.budget())
            # As they came: the library would drop what it does not know.
            before = list(api._properties.get("access") or ())
            others = [entry for entry in before if entry.get("view") != own["view"]]
            after = change(others, own)
            if after == before and own not in before:
                return
            api._properties["access"] = after
            try:
                client.update_dataset(api, ["access_entries"], **clients.patience())
                return
            except gexc.PreconditionFailed as err:
                if number == _TRIES:
                    raise OutsideError(f"Others keep changing the dataset {dataset}.") from err


def _dataset_command(client: bigquery.Client, source: Source) -> str:
    return (
        "Let it change that, and attach again:\n  bq query --use_legacy_sql=false "
        f"'GRANT `roles/bigquery.dataOwner` ON SCHEMA `{source.project}`.{source.dataset} "
        f'TO "serviceAccount:{_account(client)}"\''
    )


def _table_command(client: bigquery.Client, source: Source) -> str:
    return (
        "Or let the account read this table alone:\n  bq add-iam-policy-binding "
        f"--member=serviceAccount:{_account(client)} --role=roles/bigquery.dataViewer "
        f"--table=true '{source.for_bq}'"
    )


def _account(client: bigquery.Client) -> str:
    found = getattr(client._credentials, "service_account_email", None)
    return found if found and "@" in found else "SERVICE_ACCOUNT"
