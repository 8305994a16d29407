"""How large a request and a query may be: https://cloud.google.com/bigquery/quotas#query_jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ApiError

SQL_CHARACTERS = 1024 * 1024
RESOLVED_CHARACTERS = 12 * 1024 * 1024
PARAMETERS = 10_000
REQUEST_BYTES = 10 * 1024 * 1024


def check_query(sql: str, parameters: Sequence[object], views: Iterable[str] = ()) -> None:
    """That BigQuery takes a query of this size; ``views`` are the queries of those it reads.

    Raises ApiError ``invalid``. A parameter counts once, however many values an array has.
    """
    if len(sql) > SQL_CHARACTERS:
        raise ApiError(
            "invalid",
            "The query is too large. The maximum standard SQL query length is 1024.00K "
            "characters, including comments and white space characters.",
        )
    if len(sql) + sum(map(len, views)) > RESOLVED_CHARACTERS:
        raise ApiError("invalid", "The query is too large with the views that it reads: over 12 MB")
    if len(parameters) > PARAMETERS:
        raise ApiError("invalid", f"Too many query parameters: over {PARAMETERS}.")
