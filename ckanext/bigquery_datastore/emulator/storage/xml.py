"""Signed URLs and the rest of the XML API: ``/bucket/object``.

fake-gcs-server looks neither at signatures nor at expiry, and leaves out the headers
that a download needs. Content-Disposition, Content-Type and the like come from the
object here, ``response-content-disposition`` and ``response-content-type`` from the URL.
"""

from __future__ import annotations

import base64
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from ..faults import Send
from ..identities import Identities
from . import cors
from .backend import Headers
from .buckets import Buckets
from .http import Metadata, Objects, Request, path_of, present
from .signatures import Refusal, check, is_signed
from .switches import Switches


class SignedUrls:
    """GET, HEAD and PUT of an object by its URL."""

    def __init__(
        self, objects: Objects, buckets: Buckets, identities: Identities, switches: Switches
    ) -> None:
        self._objects = objects
        self._buckets = buckets
        self._identities = identities
        self._switches = switches

    async def handle(self, request: Request) -> None:
        """Answer a request of the XML API."""
        rules = self._buckets.cors(unquote(request.path[1:].partition("/")[0]))
        origin = request.header(b"origin")
        if request.method == "OPTIONS":
            wanted = request.header(b"access-control-request-method") or ""
            asked = request.header(b"access-control-request-headers") or ""
            await request.answer(200, b"", cors.of_preflight(rules, origin, wanted, asked))
            return
        if more := cors.of_answer(rules, origin, request.method):
            request = replace(request, send=_with(request.send, more))
        try:
            await self._handle(request)
        except Refusal as refusal:
            headers = [(b"content-type", b"application/xml; charset=UTF-8")]
            await request.answer(refusal.status, refusal.body(), headers)

    async def _handle(self, request: Request) -> None:
        bucket, _, name = (unquote(part) for part in request.path[1:].partition("/"))
        signed = is_signed(request.scope["query_string"].decode("latin-1"))
        if signed:
            # A signature is one way to say who asks, the header another: which one counts cannot
            # be told (https://cloud.google.com/storage/docs/authentication/signatures).
            if request.header(b"authorization"):
                raise Refusal(
                    400,
                    "InvalidArgument",
                    "Invalid argument.",
                    "Only one form of authentication may be used: a signed URL or a header.",
                )
            check(request.scope, self._identities)
        elif not self._switches.public_objects and not request.header(b"authorization"):
            raise Refusal(
                403,
                "AccessDenied",
                "Access denied.",
                "Anonymous caller does not have storage.objects.get access to the Google Cloud "
                "Storage object. Permission 'storage.objects.get' denied on resource (or it may "
                "not exist).",
            )
        if request.method in ("GET", "HEAD") and name:
            await self._read(request, bucket, name)
        elif request.method == "PUT" and name:
            await self._write(request, bucket, name)
        else:
            raise Refusal(405, "MethodNotAllowed", "The specified method is not allowed.")

    async def _read(self, request: Request, bucket: str, name: str) -> None:
        found = await self._objects.metadata(bucket, name)
        if found is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        headers = _headers(request, present(found))
        etag = next(value for key, value in headers if key == b"etag").decode()
        if request.header(b"if-none-match") in (etag, "*"):
            await request.answer(304, b"", headers)
            return
        if (wanted := request.header(b"if-match")) and wanted not in (etag, "*"):
            raise Refusal(412, "PreconditionFailed", "A pre-condition did not hold.")
        passed = []
        ranged = request.header(b"range")
        if ranged and request.header(b"if-range") in (None, etag):
            passed = [(b"range", ranged.encode())]
        if request.method == "HEAD":
            length = (b"content-length", str(found["size"]).encode())
            await request.send(
                {"type": "http.response.start", "status": 200, "headers": [*headers, length]}
            )
            await request.send({"type": "http.response.body", "body": b""})
            return
        reply = await self._objects.backend.send(
            "GET", f"/download{path_of(bucket, name)}?alt=media", passed
        )
        of_body = [
            (key, value)
            for key, value in reply.headers
            if key in (b"content-length", b"content-range")
        ]
        if reply.status == 416:
            await reply.read()
            of_body = [(b"content-range", f"bytes */{found['size']}".encode())]
            refusal = Refusal(416, "InvalidRange", "The requested range cannot be satisfied.")
            await request.answer(
                416, refusal.body(), [*of_body, (b"content-type", b"application/xml")]
            )
            return
        await request.relay(reply, [*headers, *of_body])

    async def _write(self, request: Request, bucket: str, name: str) -> None:
        reply = await self._objects.backend.send(
            "PUT",
            request.target(),
            request.headers,
            request.chunks() if request.length != 0 else b"",
            request.length,
        )
        await request.relay(reply)


def _with(send: Send, more: Headers) -> Send:
    """``send``, which adds headers to the answer."""

    async def added(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return added


def _headers(request: Request, found: Metadata) -> Headers:
    """The headers of an object as Cloud Storage sends them."""
    given = {key.lower(): value for key, value in request.query}
    disposition = given.get("response-content-disposition") or found.get("contentDisposition")
    kind = given.get("response-content-type") or found.get("contentType")
    if "md5Hash" in found:
        etag = base64.b64decode(found["md5Hash"]).hex()
    else:
        etag = "-" + found["etag"].rstrip("=")
    hashes = [f"crc32c={found['crc32c']}"]
    if "md5Hash" in found:
        hashes.append(f"md5={found['md5Hash']}")
    headers = {
        "content-type": kind or "application/octet-stream",
        "content-disposition": disposition,
        "content-encoding": found.get("contentEncoding"),
        "cache-control": found.get("cacheControl") or "private, max-age=0",
        "etag": f'"{etag}"',
        "accept-ranges": "bytes",
        "x-goog-generation": found["generation"],
        "x-goog-metageneration": str(found.get("metageneration", "1")),
        "x-goog-hash": ",".join(hashes),
        "x-goog-storage-class": found.get("storageClass", "STANDARD"),
        "x-goog-stored-content-encoding": found.get("contentEncoding") or "identity",
        "x-goog-stored-content-length": str(found["size"]),
        "last-modified": _http_date(found["updated"]),
        "server": "UploadServer",
    }
    if "componentCount" in found:
        headers["x-goog-component-count"] = str(found["componentCount"])
    for key, value in (found.get("metadata") or {}).items():
        headers[f"x-goog-meta-{key}"] = value
    return [
        (name.encode(), value.encode("utf-8"))
        for name, value in headers.items()
        if value is not None
    ]


def _http_date(moment: str) -> str:
    from datetime import datetime, timezone
    from email.utils import format_datetime

    whole = moment.partition(".")[0].rstrip("Z")
    parsed = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return format_datetime(parsed, usegmt=True)
