"""Requests and answers of the storage proxy, and what both of its APIs need of an object."""

from __future__ import annotations

import asyncio
import base64
import json
import weakref
from collections.abc import AsyncIterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from ..faults import TRANSPORT, Receive, Scope, Send
from .backend import Backend, Headers, Reply
from .signatures import parameters

# Where fake-gcs-server keeps what it does not know of: our componentCount and metageneration.
COMPONENTS = "emulator-components"
METAGENERATION = "emulator-metageneration"
_HOP = {
    b"connection",
    b"host",
    b"keep-alive",
    b"transfer-encoding",
    b"content-length",
    b"expect",
    b"accept-encoding",
    b"te",
    b"upgrade",
}
_CONDITIONS = {
    "ifGenerationMatch": ("generation", True),
    "ifGenerationNotMatch": ("generation", False),
    "ifMetagenerationMatch": ("metageneration", True),
    "ifMetagenerationNotMatch": ("metageneration", False),
}
_REASONS = {400: "invalid", 403: "forbidden", 404: "notFound", 412: "conditionNotMet"}
Metadata = dict[str, Any]


class Refused(Exception):
    """The JSON API says no."""

    def __init__(self, status: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.reason = reason or _REASONS.get(status, "backendError")

    def body(self) -> dict[str, Any]:
        """As the API words it."""
        error = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.status, "message": self.message, "errors": [error]}}


@dataclass(frozen=True)
class Request:
    """One request at the proxy; ``path`` is still percent-encoded."""

    scope: Scope
    receive: Receive
    send: Send
    method: str
    path: str
    query: list[tuple[str, str]]

    @classmethod
    def of(cls, scope: Scope, receive: Receive, send: Send) -> Request:
        """Read the ASGI scope."""
        raw = scope.get("raw_path") or quote(scope["path"]).encode()
        path = raw.decode("latin-1").partition("?")[0]
        query = parameters(scope["query_string"].decode("latin-1"))
        return cls(scope, receive, send, scope["method"], path, query)

    def parameter(self, name: str) -> str | None:
        """A parameter of the query."""
        return next((value for key, value in self.query if key == name), None)

    def header(self, name: bytes) -> str | None:
        """A header, by its lower-case name."""
        found = next((value for key, value in self.scope["headers"] if key == name), None)
        return None if found is None else found.decode("latin-1")

    @property
    def headers(self) -> Headers:
        """The headers that may be passed on."""
        return [(name, value) for name, value in self.scope["headers"] if name not in _HOP]

    @property
    def length(self) -> int | None:
        """The length of the body, if it was announced."""
        found = self.header(b"content-length")
        if found is None and self.header(b"transfer-encoding") is None:
            return 0
        return None if found is None else int(found)

    def target(self, without: set[str] | frozenset[str] = frozenset()) -> str:
        """Path and query for the backend."""
        kept = [(name, value) for name, value in self.query if name not in without]
        return f"{self.path}?{urlencode(kept)}" if kept else self.path

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ConnectionResetError when the client goes away."""
        while True:
            message = await self.receive()
            if message["type"] != "http.request":
                raise ConnectionResetError("The client went away.")
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return

    async def body(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        raw = await self.body()
        try:
            found = json.loads(raw or b"{}")
        except ValueError as error:
            raise Refused(400, "Parse Error", "parseError") from error
        return found if isinstance(found, dict) else {}

    async def answer(self, status: int, body: Any, headers: Headers | None = None) -> None:
        """Answer with JSON, or with bytes as they are."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        found = headers or [(b"content-type", b"application/json; charset=UTF-8")]
        found = [*found, (b"content-length", str(len(raw)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": found})
        await self.send(
            {"type": "http.response.body", "body": b"" if self.method == "HEAD" else raw}
        )

    async def relay(self, reply: Reply, headers: Headers | None = None) -> None:
        """Answer with the backend's answer, chunk by chunk, until the client goes away."""
        found = reply.headers if headers is None else headers
        found = [(n, v) for n, v in found if n not in (b"connection", b"transfer-encoding")]
        await self.send({"type": "http.response.start", "status": reply.status, "headers": found})
        transport = self.scope.get(TRANSPORT)
        async for chunk in reply.body:
            if transport is not None and transport.is_closing():
                reply.abandon()
                return
            await self.send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})


class Objects:
    """What both APIs need of an object: its metadata, its conditions, its lock."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    def lock(self, bucket: str, name: str) -> asyncio.Lock:
        """Whoever changes an object on a condition holds this."""
        lock = self._locks.get((bucket, name))
        if lock is None:
            lock = self._locks[bucket, name] = asyncio.Lock()
        return lock

    async def metadata(self, bucket: str, name: str) -> Metadata | None:
        """The object's metadata as stored; None where there is no object."""
        reply = await self.backend.send("GET", path_of(bucket, name))
        if reply.status != 200:
            await reply.read()
            return None
        found: Metadata = await reply.json()
        own = found.get("metadata") or {}
        return {**found, "metageneration": str(metageneration(found["generation"], own))}


def path_of(bucket: str, name: str) -> str:
    """The path of an object in the JSON API."""
    return f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"


def check_conditions(request: Request, found: Metadata | None) -> None:
    """Raise Refused (404, 412, 304) where the query's conditions do not hold for the object."""
    reads = request.method in ("GET", "HEAD")
    wanted = request.parameter("generation")
    if reads and found is None:
        raise missing(request)
    if wanted is not None and (found is None or found["generation"] != wanted):
        raise missing(request)
    check_generations({name: request.parameter(name) for name in _CONDITIONS}, found, reads)


def check_generations(
    wanted: MutableMapping[str, str | None], found: Metadata | None, reads: bool
) -> None:
    """Raise Refused (412 or, for reads, 304) for conditions on generations that do not hold."""
    for name, (key, must_equal) in _CONDITIONS.items():
        value = wanted.get(name)
        if value is None:
            continue
        current = str(found.get(key, "1")) if found is not None else "0"
        if (current == value) is must_equal:
            continue
        if reads and not must_equal:
            raise Refused(304, "Not Modified")
        raise Refused(
            412, "At least one of the pre-conditions you specified did not hold.", "conditionNotMet"
        )


CONDITIONS = frozenset({*_CONDITIONS, "generation"})


def missing(request: Request) -> Refused:
    """The 404 of the JSON API."""
    return Refused(404, f"No such object: {request.path.rpartition('/b/')[2]}")


def metageneration(generation: str, own: Mapping[str, str]) -> int:
    """How often the metadata of this generation were changed, and one (a copy takes them along)."""
    of, _, grown = own.get(METAGENERATION, "").partition(":")
    return int(grown) if of == generation else 1


def present(found: Metadata) -> Metadata:
    """Metadata as Cloud Storage shows it: composites have no MD5, but count their parts."""
    shown = {name: value for name, value in found.items() if name != "acl"}
    own = dict(shown.get("metadata") or {})
    if count := own.pop(COMPONENTS, None):
        shown["componentCount"] = int(count)
        shown.pop("md5Hash", None)
    shown["metageneration"] = str(metageneration(str(shown.get("generation")), own))
    own.pop(METAGENERATION, None)
    shown.pop("metadata", None)
    if own:
        shown["metadata"] = own
    version = f"{shown.get('generation')}/{shown['metageneration']}"
    shown["etag"] = base64.b64encode(version.encode()).decode()
    return shown
