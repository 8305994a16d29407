"""What a process of the site's server says of itself, to `ckan bigquery check` and nobody else.

The command cannot know how the site is served. So it asks the site, with a proof that it has the
site's secret; without one there is nothing at the address.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from ckan.plugins import toolkit as tk
from itsdangerous import BadData, URLSafeTimedSerializer

from ckanext.bigquery_datastore import places
from ckanext.bigquery_datastore.errors import NotReachable

HEADER = "X-Bigquery-Datastore-Check"

# A proof that somebody overhears is of no use for long, and of little use anyway.
_SECONDS = 60


def told() -> dict[str, Any] | None:
    """The answer of this process; None for who has no proof."""
    try:
        _serializer().loads(tk.request.headers.get(HEADER, ""), max_age=_SECONDS)
    except BadData:
        return None
    server = places.server()
    return {
        "server": server.name,
        "threads": server.threads,
        "waiting": [places.WAITING.taken, places.WAITING.most],
        "streaming": [places.STREAMING.taken, places.STREAMING.most],
    }


def ask() -> dict[str, Any]:
    """What one of the site's processes tells.

    :raises NotReachable: the site does not answer at ckan.site_url, or not as this one would
    """
    url = tk.url_for("bigquery_datastore.places_taken", qualified=True)
    request = urllib.request.Request(url, headers={HEADER: str(_serializer().dumps("check"))})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except (OSError, ValueError) as err:
        raise NotReachable(
            f"The site does not tell how it is served: {url}: {err}. Is it up, at ckan.site_url, "
            "with this extension and this configuration?"
        ) from err


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(tk.config["SECRET_KEY"], salt=HEADER)
