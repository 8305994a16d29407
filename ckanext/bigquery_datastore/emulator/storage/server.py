"""Cloud Storage's front: a proxy before fake-gcs-server that closes its gaps.

What passes through is streamed. What fake-gcs-server leaves out is done here:
preconditions and generations on every method, compose with pinned sources and
``deleteSourceObjects``, buckets that remember what was set, batch requests,
``testPermissions``, one write a second to a name (when switched on), and signed URLs
(``storage_xml``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from typing import Any
from urllib.parse import unquote

from ..faults import Receive, Scope, Send
from ..identities import Identities
from .backend import Backend, Reply
from .batch import run_batch
from .buckets import Buckets
from .compose import Files
from .http import (
    COMPONENTS,
    CONDITIONS,
    Metadata,
    Objects,
    Refused,
    Request,
    check_conditions,
    check_generations,
    missing,
    path_of,
    present,
)
from .switches import Switches
from .xml import SignedUrls

_MOST_SOURCES = 32
_SETTABLE = (
    "contentType",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "cacheControl",
    "metadata",
)
_OBJECT = re.compile(
    r"/(?:(?P<api>download|upload)/)?storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)"
    r"(?:/(?P<action>compose|rewriteTo|copyTo)(?:/b/(?P<to>[^/]+)/o/(?P<to_name>[^/]+))?)?"
)
_BUCKET = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)(?P<rest>/.*)?")
_LISTED = re.compile(r"/storage/v1/b/[^/]+/o")
_UPLOAD = re.compile(r"/upload/storage/v1/b/(?P<bucket>[^/]+)/o")
_LENGTHS = (b"content-length", b"transfer-encoding", b"connection")
_NAME = re.compile(rb'"name"\s*:\s*"((?:[^"\\]|\\.)*)"')


class Storage:
    """The proxy as an ASGI application."""

    def __init__(
        self,
        backend: Backend,
        buckets: Buckets,
        identities: Identities,
        switches: Switches,
        files: Files,
    ) -> None:
        self._files = files
        self._backend = backend
        self._objects = Objects(backend)
        self._buckets = buckets
        self._switches = switches
        self._signed = SignedUrls(self._objects, buckets, identities, switches)
        self._written: dict[tuple[str, str], float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request.of(scope, receive, send)
        try:
            await self._route(request)
        except Refused as refused:
            await request.answer(refused.status, b"" if refused.status == 304 else refused.body())
        except (ConnectionError, OSError) as error:
            if str(error) != "The client went away.":
                await request.answer(503, Refused(503, f"Storage: {error}").body())

    async def _route(self, request: Request) -> None:
        path = request.path
        if found := _OBJECT.fullmatch(path):
            bucket, name = _names(found, "bucket", "name")
            await self._object(request, bucket, name, found["action"])
        elif found := _UPLOAD.fullmatch(path):
            await self._upload(request, unquote(found["bucket"]))
        elif path.startswith("/batch/"):
            await run_batch(request, self)
        elif _LISTED.fullmatch(path) and request.method == "GET":
            await self._list(request)
        elif path == "/storage/v1/b" or _BUCKET.fullmatch(path):
            await self._buckets.handle(request, self._backend)
        elif re.match(r"/(storage|upload|download|_internal)/", path):
            await self._pass(request)
        else:
            await self._signed.handle(request)

    async def _pass(self, request: Request, without: frozenset[str] = frozenset()) -> None:
        await request.relay(await self._forward(request, without))

    async def _forward(self, request: Request, without: frozenset[str] = frozenset()) -> Reply:
        length = request.length
        body = request.chunks() if length != 0 else b""
        return await self._backend.send(
            request.method, request.target(without), request.headers, body, length
        )

    async def _list(self, request: Request) -> None:
        reply = await self._forward(request)
        found: Any = await reply.json() if reply.status == 200 else await reply.read()
        if reply.status == 404:
            raise Refused(404, "The specified bucket does not exist.")
        if reply.status == 200:
            found["items"] = [present(item) for item in found.get("items") or []]
            if not found["items"]:
                del found["items"]
        await request.answer(reply.status, found)

    # -- one object ------------------------------------------------------------------------

    async def _object(self, request: Request, bucket: str, name: str, action: str | None) -> None:
        if action == "compose":
            await self._compose(request, bucket, name)
        elif action is not None:
            found = _OBJECT.fullmatch(request.path)
            assert found is not None
            to, to_name = _names(found, "to", "to_name")
            await self._change(request, to, to_name, writes=True)
        elif request.method in ("GET", "HEAD"):
            await self._read(request, bucket, name)
        elif request.method == "PATCH":
            await self._patch(request, bucket, name)
        else:
            await self._change(request, bucket, name, writes=request.method == "PUT")

    async def _read(self, request: Request, bucket: str, name: str) -> None:
        is_media = request.parameter("alt") == "media" or request.path.startswith("/download/")
        conditional = any(key in CONDITIONS for key, _ in request.query)
        if is_media and not conditional:
            await self._pass(request)
            return
        found = await self._objects.metadata(bucket, name)
        check_conditions(request, found)
        if is_media:
            await self._pass(request, CONDITIONS)
        elif found is not None:
            await request.answer(200, present(found))

    async def _change(self, request: Request, bucket: str, name: str, writes: bool) -> None:
        """PUT, DELETE, rewrite and copy: on a condition, and one at a time."""
        async with self._objects.lock(bucket, name):
            found = await self._objects.metadata(bucket, name)
            if found is None and request.method != "POST":
                raise missing(request)
            check_conditions(request, found)
            if writes:
                self._allow_write(bucket, name)
            reply = await self._forward(request, CONDITIONS)
            if request.method == "DELETE" or reply.status >= 300:
                await request.relay(reply)
                return
            answer = await reply.json()
        if "resource" in answer:
            answer["resource"] = present(answer["resource"])
        elif answer.get("kind") == "storage#object":
            answer = present(answer)
        await request.answer(reply.status, answer)

    async def _patch(self, request: Request, bucket: str, name: str) -> None:
        async with self._objects.lock(bucket, name):
            found = await self._objects.metadata(bucket, name)
            if found is None:
                raise missing(request)
            check_conditions(request, found)
            if not self._files.can(bucket, [found]):
                raise Refused(501, f"The name {name} cannot be patched here.")
            self._files.patch(bucket, name, await request.json())
            patched = await self._objects.metadata(bucket, name)
        await request.answer(200, present(patched or found))

    # -- compose ---------------------------------------------------------------------------

    async def _compose(self, request: Request, bucket: str, name: str) -> None:
        body = await request.json()
        sources = body.get("sourceObjects") or []
        if not 1 <= len(sources) <= _MOST_SOURCES:
            raise Refused(
                400,
                f"The number of source components provided ({len(sources)}) must be "
                f"between 1 and {_MOST_SOURCES}.",
            )
        async with self._objects.lock(bucket, name):
            check_conditions(request, await self._objects.metadata(bucket, name))
            found = [await self._source(bucket, source) for source in sources]
            self._allow_write(bucket, name)
            made = await self._make_composite(bucket, name, body, found)
        if body.get("deleteSourceObjects") or request.parameter("deleteSourceObjects") == "true":
            for source in {item["name"] for item in found if item["name"] != name}:
                await (await self._backend.send("DELETE", path_of(bucket, source))).read()
        await request.answer(200, present(made))

    async def _source(self, bucket: str, source: dict[str, Any]) -> Metadata:
        name = source.get("name", "")
        found = await self._objects.metadata(bucket, name)
        generation = source.get("generation")
        if found is None or (generation and str(generation) != found["generation"]):
            raise Refused(404, f"Object {bucket}/{name} not found.")
        wanted = {
            key: str(value) for key, value in (source.get("objectPreconditions") or {}).items()
        }
        check_generations(dict(wanted), found, reads=False)
        return found

    async def _make_composite(
        self, bucket: str, name: str, body: dict[str, Any], sources: list[Metadata]
    ) -> Metadata:
        destination = dict(body.get("destination") or {})
        parts = sum(int((source.get("metadata") or {}).get(COMPONENTS, 1)) for source in sources)
        destination["metadata"] = {
            **(destination.get("metadata") or {}),
            COMPONENTS: str(parts),
        }
        if self._files.can(bucket, sources):
            await asyncio.to_thread(self._files.compose, bucket, name, destination, sources)
        else:
            await self._compose_there(bucket, name, destination, sources)
        made = await self._objects.metadata(bucket, name)
        if made is None:
            raise Refused(503, "The composed object vanished.")
        return made

    async def _compose_there(
        self, bucket: str, name: str, destination: Metadata, sources: list[Metadata]
    ) -> None:
        order = {
            "kind": "storage#composeRequest",
            "destination": {key: destination[key] for key in _SETTABLE if key in destination},
            "sourceObjects": [{"name": source["name"]} for source in sources],
        }
        reply = await self._backend.send(
            "POST",
            f"{path_of(bucket, name)}/compose",
            [(b"content-type", b"application/json")],
            json.dumps(order).encode(),
        )
        words = await reply.read()
        if reply.status != 200:
            raise Refused(reply.status, words.decode(errors="replace").strip())

    # -- uploads ---------------------------------------------------------------------------

    async def _upload(self, request: Request, bucket: str) -> None:
        if self._switches.one_write_per_second and request.method == "POST":
            request = await self._limited(request, bucket)
        reply = await self._forward(request)
        if reply.status == 404 and request.method == "POST":
            await reply.read()
            raise Refused(404, "The specified bucket does not exist.")
        if reply.status == 200 and b"application/json" in (reply.header(b"content-type") or b""):
            raw = await reply.read()
            with contextlib.suppress(ValueError):
                raw = json.dumps(present(json.loads(raw))).encode()
            # The answer that opens a resumable upload carries its address in a header.
            kept = [(n, v) for n, v in reply.headers if n not in _LENGTHS]
            await request.answer(200, raw, kept)
            return
        await request.relay(reply)

    async def _limited(self, request: Request, bucket: str) -> Request:
        name = request.parameter("name")
        if name is None:
            head = await request.receive()
            found = _NAME.search(head.get("body", b""))
            name = found[1].decode(errors="replace") if found else ""
            waiting = [head]
            rest = request.receive

            async def receive() -> Any:
                return waiting.pop() if waiting else await rest()

            request = Request(
                request.scope, receive, request.send, request.method, request.path, request.query
            )
        self._allow_write(bucket, name)
        return request

    def _allow_write(self, bucket: str, name: str) -> None:
        """One write a second to the same name, where that is switched on."""
        if not self._switches.one_write_per_second:
            return
        moment = time.monotonic()
        if moment - self._written.get((bucket, name), float("-inf")) < 1:
            raise Refused(
                429,
                f"The object {bucket}/{name} exceeded the rate limit for object mutation "
                "operations (create, update, and delete). Please reduce your request rate.",
                "rateLimitExceeded",
            )
        self._written[bucket, name] = moment


def _names(found: re.Match[str], one: str, other: str) -> tuple[str, str]:
    return unquote(found[one]), unquote(found[other])
