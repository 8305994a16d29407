"""A visitor who follows no redirect: each answer of a download is looked at by itself."""

from __future__ import annotations

import time
from typing import Any


def visit(
    app: Any,
    name: str,
    query: str | dict[str, str] = "",
    *,
    method: str = "GET",
    suffix: str = "",
    **headers: str,
) -> Any:
    """CKAN's answer to /datastore/dump/<name>, through all of its middleware.

    A client of its own for each call: threads may visit side by side. ``_`` in the name of a
    header stands for ``-``.
    """
    return app.test_client().open(
        f"/datastore/dump/{name}{suffix}",
        method=method,
        query_string=query,
        # Of a client that keeps a token to the host that it is for (see ``delivery``).
        headers={
            "User-Agent": "curl/8.5.0",
            **{key.replace("_", "-"): value for key, value in headers.items()},
        },
        follow_redirects=False,
    )


def is_within(seconds: float, happens: Any) -> bool:
    """Whether it happens; waited for."""
    end = time.monotonic() + seconds
    while not (found := happens()) and time.monotonic() < end:
        time.sleep(0.1)
    return bool(found)
