"""What differs between the CKAN versions that the extension runs on, and a gap in all of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ckan import authz
from ckan.plugins import toolkit as tk

#: CKAN 2.11 gives ``_links`` and ``total_was_estimated`` with a search; 2.12 does not.
IS_2_11 = not tk.check_ckan_version(min_version="2.12.0a0")

#: Whether an upsert is an INSERT … ON CONFLICT, which PostgreSQL's triggers see as a new row first.
UPSERTS_ARE_INSERTS = not IS_2_11


def ms_in_timestamp() -> bool:
    """Whether timestamps are written with milliseconds: an option of 2.12, never in 2.11."""
    return not IS_2_11 and tk.asbool(tk.config.get("ckan.datastore.ms_in_timestamp", True))


def add_search_extras(result: dict[str, Any], is_whole_table: bool) -> None:
    """Put into the result of a search what the running version adds to it."""
    if not IS_2_11:
        return
    if "total" in result:
        # Our total is exact. Who asks for an estimate is told that it is one, as core would.
        threshold = result.get("total_estimation_threshold")
        result["total_was_estimated"] = (
            threshold is not None and is_whole_table and result["total"] >= int(threshold)
        )
    result["_links"] = _links(int(result.get("limit") or 0), int(result.get("offset") or 0))


def array_filters(filters: Any, arrays: set[str]) -> Any:
    """Filters in the words of 2.12. In 2.11 a list means equality where the column is an array."""
    if not IS_2_11 or not isinstance(filters, dict):
        return filters
    return {
        key: {"eq": value} if key in arrays and isinstance(value, list) else value
        for key, value in filters.items()
    }


def _links(limit: int, offset: int) -> dict[str, str]:
    """The addresses of the first, the next and the previous page, within a request."""
    try:
        url = urlsplit(tk.request.environ["CKAN_CURRENT_URL"])
    except (KeyError, TypeError, RuntimeError):
        return {}
    params = dict(parse_qsl(url.query))

    def page(start: int | None) -> str:
        query = {key: value for key, value in params.items() if key != "offset"}
        if start is not None:
            query["offset"] = str(start)
        return urlunsplit(url._replace(query=urlencode(query)))

    links = {"start": page(None), "next": page(offset + limit)}
    if offset - limit > 0:
        links["prev"] = page(offset - limit)
    return links


def gather() -> None:
    """Have CKAN gather its actions, auth functions and validators now, while there is one thread.

    It does so with the first request that asks for one, and without a lock: a second thread finds
    some of them meanwhile, and in the place of a plugin's own the one that it stands for
    (``AuthFunctions._build`` in ckan/authz.py, ``get_action`` in ckan/logic).
    """
    authz.auth_functions_list()
    tk.get_action("datastore_search")
    tk.get_validator("ignore_missing")
