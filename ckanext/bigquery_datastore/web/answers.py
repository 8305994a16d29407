"""The answers of a download, to a browser and to any other client.

See the table "Answers" of the README. No answer may be kept by a shared cache: who may read a file
is decided anew for every request.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from ckan.lib import signals
from ckan.plugins import toolkit as tk
from flask import Response
from werkzeug.http import is_resource_modified

from ckanext.bigquery_datastore import config, downloads, gist, handover
from ckanext.bigquery_datastore.dump.plan import DumpPlan, disposition
from ckanext.bigquery_datastore.errors import (
    BigQueryDatastoreError,
    Crowded,
    OutsideError,
)
from ckanext.bigquery_datastore.web import delivery, recipes, waiting

# How often a client is sent back to the same URL while an export runs. Python's urllib follows ten
# redirects in all (http.client HTTPRedirectHandler.max_redirections), wget twenty, curl fifty.
MAX_HOPS = 8
HOP = "_hop"

RETRY_SECONDS = 5

# A browser is shown that something happens; a script waits as long as the site lets it.
BROWSER_WAIT_SECONDS = 2

# The addresses of a download and of its status, for tables and for queries.
_ROUTES = {
    "table": ("datastore.dump", "bigquery_datastore.status"),
    "named": ("bigquery_datastore.download_named", "bigquery_datastore.status_named"),
    "query": ("bigquery_datastore.download_sql", "bigquery_datastore.status_sql"),
}


def to_browser() -> bool:
    return "text/html" in tk.request.headers.get("Accept", "")


def wants_no_wait() -> bool:
    """RFC 7240 section 4.1; names of preferences have no case (section 2)."""
    return "respond-async" in tk.request.headers.get("Prefer", "").lower()


def patience() -> float:
    """For how many seconds this request may wait for its file."""
    if wants_no_wait():
        return 0
    if handed := handover.of(tk.request.environ):
        seconds = max(0, wait_without_thread() - handed.age())
    else:
        seconds = config.wait_seconds(holds_thread=True)
    return min(seconds, BROWSER_WAIT_SECONDS) if to_browser() else seconds


def wait_without_thread() -> float:
    """As ``patience``, under ASGI: of a crowd that came at once, not all come back at once."""
    return config.wait_seconds(holds_thread=False) * random.uniform(0.75, 1)


def is_unchanged(plan: DumpPlan) -> bool:
    """Whether the client holds this very file (RFC 9110 section 13.1)."""
    if not ("If-None-Match" in tk.request.headers or "If-Modified-Since" in tk.request.headers):
        return False
    return not is_resource_modified(tk.request.environ, etag=plan.etag, last_modified=plan.modified)


def unchanged(plan: DumpPlan) -> Response:
    return _of_this_file(plan, Response(status=304))


def ready(plan: DumpPlan, state: downloads.Ready) -> Response:
    """The file: by redirect, through nginx or through CKAN, as the site and the format want."""
    response = delivery.deliver(plan, state, tk.request)
    if tk.request.method == "GET" and response.status_code < 400:
        _count(plan, state.size, cached=state.cached)
    return _of_this_file(plan, response)


def page(plan: DumpPlan, body: Iterable[bytes]) -> Response:
    """A file that was written at once, as its rows fit into one page."""
    response = Response(b"".join(body), content_type=plan.content_type)
    response.headers["Content-Disposition"] = plan.disposition
    if tk.request.method == "GET":
        _count(plan, response.content_length or 0, cached=False)
    return _of_this_file(plan, response)


def running(plan: DumpPlan, state: downloads.Running) -> Response:
    """Not yet: a page that waits, a status to ask, or the same URL again, a little later."""
    if to_browser():
        response = Response(_waiting_page(plan, state), status=202)
    elif wants_no_wait():
        response = Response(status=202, headers={"Preference-Applied": "respond-async"})
        response.headers["Location"] = _url(status=True)
    elif sends_back():
        response = Response(status=302, headers={"Location": _url(hop=_hop() + 1)})
    else:
        response = _text(
            tk._("The file is still being prepared. Ask again in a moment: nothing is lost."), 503
        )
    response.headers["Retry-After"] = str(RETRY_SECONDS)
    return _unshared(response)


def crowded(plan: DumpPlan, state: downloads.Ready | downloads.Running, err: Crowded) -> Response:
    """Others wait, or are streamed to, as many as may: a page that waits, or a time to come back.

    What it was asked for has begun all the same.
    """
    if to_browser():
        # A file that is there would be asked for at once, and in vain.
        pause = RETRY_SECONDS if isinstance(state, downloads.Ready) else 0
        page = _waiting_page(plan, state, pause)
        response = Response(page, status=202)
    else:
        response = _text(
            tk._(
                "Many people download from this site at the moment. Ask again in some seconds, as "
                "`curl --retry 20` does by itself: what was begun goes on."
            ),
            err.status,
        )
    response.headers["Retry-After"] = str(err.retry_after)
    return _unshared(response)


def status(plan: DumpPlan, state: downloads.Ready | downloads.Running) -> Response:
    if isinstance(state, downloads.Ready):
        found = {
            "state": "ready",
            "url": _url(),
            "bytes": None if plan.format.rewrite else state.size,
            "crc32c": None if plan.format.rewrite else state.crc32c,
            "rows": state.rows,
            "ordered": state.ordered,
        }
    else:
        found = {
            "state": "running",
            "phase": state.phase,
            "progress": state.progress,
            "parts": state.parts,
            "seconds": round(waiting.elapsed(state), 1),
            "seconds_left": waiting.left(state),
            "message": waiting.words(state),
            "time": waiting.time_words(state),
        }
    return _unshared(_json(found, 200))


def told(found: dict[str, Any]) -> Response:
    return _unshared(_json(found, 200))


def unreadable(sentence: str) -> Response:
    """In the form in which CKAN's API says that it cannot read a request's JSON."""
    return _unshared(_json(f"Bad request: JSON Error: {sentence}", 400))


def document(body: bytes, content_type: str, filename: str) -> Response:
    """A small file that is written at once, to be seen or saved."""
    response = Response(body, content_type=content_type)
    response.headers["Content-Disposition"] = disposition(filename)
    return _unshared(response)


def failed(err: BigQueryDatastoreError) -> Response:
    """An error as one page or one line, with the status that its class stands for."""
    if to_browser():
        response = Response(
            tk.render(
                "bigquery_datastore/failed.html",
                {
                    "gist": gist.of(err.status),
                    "message": gist.message(err),
                    "may_pass": err.status >= 500 or err.status == 429,
                    "again_url": _url(),
                },
            ),
            err.status,
        )
    else:
        response = _text(gist.sentence(err), err.status)
    return _unshared(_to_be_tried_again(response, err))


def failed_status(err: BigQueryDatastoreError) -> Response:
    response = _json({"state": "failed", "message": gist.sentence(err)}, err.status)
    return _unshared(_to_be_tried_again(response, err))


def _to_be_tried_again(response: Response, err: BigQueryDatastoreError) -> Response:
    """With the time to do so, where the fault is not the visitor's."""
    if response.status_code >= 500 or response.status_code == 429:
        response.headers["Retry-After"] = str(getattr(err, "retry_after", OutsideError.retry_after))
    return response


def _count(plan: DumpPlan, size: int, *, cached: bool) -> None:
    signals.resource_download.send(
        plan.resource_id,
        format=plan.format.name,
        bytes=size,
        cached=cached,
        seconds=time.monotonic() - plan.asked,
    )


def _waiting_page(
    plan: DumpPlan, state: downloads.Ready | downloads.Running, pause: int = 0
) -> str:
    return tk.render(
        "bigquery_datastore/waiting.html",
        {
            "filename": plan.filename,
            "words": waiting.words(state),
            "time": waiting.time_words(state),
            "progress": None if isinstance(state, downloads.Ready) else state.progress,
            "command": recipes.curl(_url(), plan.filename),
            "pause_seconds": pause,
            "status_url": _url(status=True),
            "download_url": _url(),
            "retry_seconds": RETRY_SECONDS,
        },
    )


def _url(*, status: bool = False, hop: int = 0) -> str:
    """This download's address, or its status', by the name that the visitor used for it."""
    names = tk.request.view_args or {}
    args = [(name, value) for name, value in tk.request.args.items(multi=True) if name != HOP]
    if hop:
        args.append((HOP, str(hop)))
    route = _ROUTES["named" if "name" in names else "table" if names else "query"][status]
    address = tk.url_for(route, qualified=True, **names)
    return f"{address}?{urlencode(args)}" if args else address


def sends_back() -> bool:
    """Whether who has waited in vain is sent back to the same address."""
    return not (to_browser() or wants_no_wait()) and _hop() < MAX_HOPS


def is_back() -> bool:
    """Whether this client has waited before, and was sent back to the same address."""
    return _hop() > 0


def _hop() -> int:
    text = tk.request.args.get(HOP, "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def _text(message: str, code: int) -> Response:
    return Response(message + "\n", code, content_type="text/plain; charset=utf-8")


def _json(content: object, code: int) -> Response:
    return Response(json.dumps(content) + "\n", code, content_type="application/json")


def _of_this_file(plan: DumpPlan, response: Response) -> Response:
    """The validators that a client can send back (RFC 9110 section 8.8)."""
    if response.status_code < 400:
        response.set_etag(plan.etag)
        response.last_modified = plan.modified
    return _unshared(response)


# What scripts of other sites may send, and read, where CKAN's options ckan.cors.… let them in:
# https://fetch.spec.whatwg.org/#http-access-control-expose-headers
_SENT_BY_SCRIPTS = "Range, If-Range, If-None-Match, If-Modified-Since, Prefer"
_READ_BY_SCRIPTS = (
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Location, Retry-After"
)


def open_to_scripts(response: Response) -> Response:
    """The answer with what CKAN's own headers for scripts of other sites leave out."""
    if "Access-Control-Allow-Origin" in response.headers:
        sent = response.headers.get("Access-Control-Allow-Headers", "")
        response.headers["Access-Control-Allow-Headers"] = f"{sent}, {_SENT_BY_SCRIPTS}"
        response.headers["Access-Control-Expose-Headers"] = _READ_BY_SCRIPTS
        response.vary.add("Origin")
    return response


def _unshared(response: Response) -> Response:
    # CKAN's own hook adds "public" wherever this is not set.
    tk.request.environ["__no_cache__"] = True
    response.headers["Cache-Control"] = "no-store"
    response.vary.update(["Accept", "Cookie", "Authorization"])
    return response
