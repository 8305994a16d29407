"""How the bytes of a finished file reach the visitor: three ways, and one for what needs rewriting.

redirect   the visitor downloads from Cloud Storage, by a signed URL; not who may send CKAN's
           token along, which Cloud Storage takes for a second proof and refuses
accel      nginx downloads from Cloud Storage for the visitor, by the same signed URL
stream     CKAN passes the bytes on: where the site wants it, where a format is rewritten on the
           way (json, xml), where no one object can hold the file
"""

from __future__ import annotations

import re

from flask import Request, Response

from ckanext.bigquery_datastore import config, downloads, handover, places
from ckanext.bigquery_datastore.dump import sign
from ckanext.bigquery_datastore.dump.accel import accel_headers
from ckanext.bigquery_datastore.dump.objects import StoredObject
from ckanext.bigquery_datastore.dump.plan import DumpPlan
from ckanext.bigquery_datastore.dump.stream import Patience, Source, open_stream
from ckanext.bigquery_datastore.dump.stream.ranges import RangeAnswer, parse_range, range_applies

# Seconds for a connection to Cloud Storage, and for each read from it.
_CONNECT, _READ = 5, 30


def deliver(plan: DumpPlan, state: downloads.Ready, request: Request) -> Response:
    """The answer that gives the file, or the range of it that the request wants."""
    found, others = state.objects[0], state.objects[1:]
    if plan.format.rewrite or others or config.delivery() == "stream":
        return _stream(plan, state, request)
    if config.delivery() == "redirect" and _takes_its_token_along(request):
        return _stream(plan, state, request)
    if config.delivery() == "accel":
        return _accel(plan, state, request)
    location = _signed(plan, found, request.method)
    return Response(status=302, headers={"Location": location})


# Clients that send no Authorization to another host than the one it was meant for:
# https://curl.se/docs/CVE-2018-1000007.html (7.58), requests.Session.should_strip_auth,
# httpx.Client._redirect_headers, net/http shouldCopyHeaderOnRedirect,
# https://fetch.spec.whatwg.org/#http-redirect-fetch (browsers).
_DISCREET = re.compile(
    r"curl/(?:7\.(?:5[89]|[6-9]\d)|[89]|\d\d)|python-requests/|python-httpx/|Go-http-client/|Mozilla/"
)


def _takes_its_token_along(request: Request) -> bool:
    """Whether the client may repeat its Authorization where it is redirected to.

    Python's urllib does (so pandas with ``storage_options``), and old wget.
    """
    client = request.headers.get("User-Agent", "")
    return "Authorization" in request.headers and not _DISCREET.match(client)


def _accel(plan: DumpPlan, state: downloads.Ready, request: Request) -> Response:
    wanted = _range(plan, state, request)
    if wanted.status == 416:
        return Response(status=416, headers=wanted.headers, content_type=plan.content_type)
    response = Response(content_type=plan.content_type)
    # nginx asks Cloud Storage by GET also for a HEAD of the visitor's.
    url = _signed(plan, state.objects[0], "GET")
    response.headers.update(accel_headers(url, wanted.span))
    response.headers["Content-Disposition"] = plan.disposition
    return response


def _stream(plan: DumpPlan, state: downloads.Ready, request: Request) -> Response:
    rewrite = plan.format.rewrite
    # The length of a file that is rewritten on the way is not known before its end.
    wanted = RangeAnswer(200) if rewrite else _range(plan, state, request)
    response = Response(status=wanted.status, content_type=plan.content_type)
    response.headers.update(wanted.headers)
    if wanted.status == 416:
        return response
    response.headers["Content-Disposition"] = plan.disposition
    if request.method == "HEAD":
        return response
    sources = [
        Source(_signed(plan, found, "GET"), found.size, found.generation, crc32c=found.crc32c)
        for found in state.objects
    ]
    patience = Patience(_CONNECT, _READ, first_byte=config.wait_seconds())
    rewritten = plan.rewritten if rewrite else None
    place = places.STREAMING.take()
    if handed := handover.of(request.environ):
        work = handover.Streamed(plan.target, sources, wanted.span, patience, rewritten)
        response.headers.update(handed.leave(work, place))
        return response
    try:
        stream = open_stream(sources, wanted.span, patience)
    except BaseException:
        place.leave()
        raise
    stream.when_closed(place.leave)
    response.response = stream.rewritten(rewritten) if rewritten else stream
    return response


def _range(plan: DumpPlan, state: downloads.Ready, request: Request) -> RangeAnswer:
    applies = range_applies(request.headers.get("If-Range"), f'"{plan.etag}"', plan.modified)
    return parse_range(request.headers.get("Range") if applies else None, state.size)


def _signed(plan: DumpPlan, found: StoredObject, method: str) -> str:
    return sign.signed_url(downloads.store_rw(), found, method, plan.disposition, plan.content_type)
