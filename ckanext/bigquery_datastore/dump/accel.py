"""Let nginx fetch a file from Cloud Storage for the visitor: X-Accel-Redirect.

CKAN answers with the headers of ``accel_headers`` and no body. nginx takes them as an order to
serve a location of its own that no visitor can ask for, and that location passes the signed URL
on to Cloud Storage. The README has the configuration; it names the one host that it reaches, so
whatever path CKAN were made to send, nothing else could be fetched. Pure.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ckanext.bigquery_datastore.dump.stream.ranges import ByteRange

LOCATION = "/_bigquery_export"

# Tells nginx, and nginx only, which bytes to ask for.
RANGE_HEADER = "X-Bigquery-Range"


def accel_path(url: str) -> str:
    """The internal path for a signed ``url``: ``/_bigquery_export/<scheme>/<host>/<path>?<query>``.

    nginx undoes the percent-encoding of such a path once; it is encoded twice here, so that the
    path reaches Cloud Storage as it was signed. A query is not touched on the way.
    """
    parts = urlsplit(url)
    path = parts.path.replace("%", "%25")
    query = f"?{parts.query}" if parts.query else ""
    return f"{LOCATION}/{parts.scheme}/{parts.netloc}{path}{query}"


def accel_headers(url: str, span: ByteRange | None) -> dict[str, str]:
    """The headers that make nginx serve ``url``, or the bytes ``span`` of it.

    Whether a range counts is for CKAN to say, who knows the ETag in the visitor's If-Range: nginx
    does not pass the visitor's own Range on.
    """
    headers = {"X-Accel-Redirect": accel_path(url)}
    if span is not None:
        headers[RANGE_HEADER] = f"bytes={span.first}-{span.last}"
    return headers
