"""What is told of a table, beside its rows: what it is made of, and which files there are.

Whoever may download the table may ask; whoever may not gets the download's own 404.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ckan.plugins import toolkit as tk
from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.backend import door
from ckanext.bigquery_datastore.dump.formats import FORMATS
from ckanext.bigquery_datastore.errors import BigQueryDatastoreError
from ckanext.bigquery_datastore.web import answers, datapackage, menu, offers

about = Blueprint("bigquery_datastore_about", __name__, url_prefix="/datastore/about/<resource_id>")


@about.route("/formats")
def formats(resource_id: str) -> Response:
    """Rows, columns, last change and the files that exist, as JSON: for the menu of formats."""

    def answer(id: str, offer: offers.Offer) -> Response:
        sized = [
            {"name": name, "bytes": file.size, "size": tk.h.localised_filesize(file.size)}
            for name, file in offer.files.items()
            if file.size is not None
        ]
        return answers.told(
            {
                "rows": offer.rows,
                "columns": len(offer.table.user_columns),
                "modified": offer.modified.isoformat(),
                "summary": summary(offer.table, offer.modified),
                "formats": sized,
            }
        )

    return _answered(resource_id, answer, marked=True)


@about.route("/datapackage.json")
def package(resource_id: str) -> Response:
    """The resource as a data package (https://specs.frictionlessdata.io/data-package/)."""

    def answer(id: str, offer: offers.Offer) -> Response:
        resource = tk.get_action("resource_show")({}, {"id": id})
        dataset = tk.get_action("package_show")({}, {"id": resource["package_id"]})
        file = offer.files["csv"]
        told = datapackage.Told(
            dataset=dataset,
            resource=resource,
            basename=file.plan.basename,
            url=menu.address(id, file.plan.basename, FORMATS["csv"], qualified=True),
            size=file.size,
            crc32c=file.crc32c,
        )
        found = datapackage.package(offer.table, file.plan.columns, told)
        body = json.dumps(found, indent=2, ensure_ascii=False).encode() + b"\n"
        return answers.document(body, "application/json; charset=utf-8", "datapackage.json")

    return _answered(resource_id, answer)


@about.route("/dictionary.csv")
def dictionary(resource_id: str) -> Response:
    """The data dictionary, a row a column."""

    def answer(id: str, offer: offers.Offer) -> Response:
        plan = offer.files["csv"].plan
        body = datapackage.dictionary(plan.fields)
        name = f"{plan.basename}-dictionary.csv"
        return answers.document(body, "text/csv; charset=utf-8", name)

    return _answered(resource_id, answer)


def summary(table: offers.Table, modified: Any) -> str:
    """A table in one line: rows, columns, last change of the data."""
    h, rows, columns = tk.h, offers.rows_of(table), len(table.user_columns)
    parts = [
        tk.ungettext("{count} column", "{count} columns", columns).format(
            count=h.localised_number(columns)
        ),
        tk._("data changed on {date}").format(date=h.render_datetime(modified)),
    ]
    if rows is not None:
        parts.insert(
            0,
            tk.ungettext("{count} row", "{count} rows", rows).format(
                count=h.localised_number(rows)
            ),
        )
    return " · ".join(parts)


def _answered(
    resource_id: str, answer: Callable[[str, offers.Offer], Response], *, marked: bool = False
) -> Response:
    if not config.is_active():
        tk.abort(404)
    try:
        id = door.find_readable(resource_id).id
        if (offer := offers.of(id, marked=marked)) is not None:
            return answer(id, offer)
    except (tk.ObjectNotFound, tk.NotAuthorized):
        pass
    except BigQueryDatastoreError as err:
        return answers.failed(err)
    raise NotFound(tk._("DataStore resource not found"))
