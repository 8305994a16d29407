"""Batch requests: many small requests in one multipart body, answered one after another."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ..faults import Receive, Scope, Send
from .http import Refused, Request

_PHRASES = {200: "OK", 204: "No Content", 404: "Not Found", 412: "Precondition Failed"}


async def run_batch(
    request: Request, application: Callable[[Scope, Receive, Send], Awaitable[None]]
) -> None:
    """Answer a batch by sending each of its parts through ``application``."""
    boundary = re.search(r'boundary="?([^";]+)', request.header(b"content-type") or "")
    if not boundary:
        raise Refused(400, "Failed to parse batch request: no boundary.")
    whole = await request.body()
    answers = []
    for part in whole.split(b"--" + boundary[1].encode())[1:]:
        if part.startswith(b"--"):
            break
        answers.append(await _one(part, request.scope, application))
    mark = f"batch_{uuid.uuid4().hex}"
    body = b"".join(f"--{mark}\r\n".encode() + answer for answer in answers)
    body += f"--{mark}--\r\n".encode()
    await request.answer(
        200, body, [(b"content-type", f"multipart/mixed; boundary={mark}".encode())]
    )


async def _one(
    part: bytes, outer: Scope, application: Callable[[Scope, Receive, Send], Awaitable[None]]
) -> bytes:
    outside, _, inside = part.replace(b"\r\n", b"\n").lstrip(b"\n").partition(b"\n\n")
    head, _, body = inside.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    method, target, *_ = first.split(" ")
    path, _, query = re.sub(r"^https?://[^/]+", "", target).partition("?")
    body = body.removesuffix(b"\n")
    headers = [
        (name.strip().lower().encode(), value.strip().encode())
        for name, _, value in (line.partition(":") for line in lines)
        if name.strip().lower() != "content-length"
    ]
    headers.append((b"content-length", str(len(body)).encode()))
    scope: dict[str, Any] = {
        **outer,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": headers,
    }
    found: dict[str, Any] = {"status": 500, "body": b""}

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            found["status"], found["headers"] = message["status"], dict(message["headers"])
        else:
            found["body"] += message.get("body", b"")

    await application(scope, receive, send)
    identity = re.search(rb"Content-ID:\s*<?([^>\n]+)", outside, re.IGNORECASE)
    name = identity[1].decode() if identity else ""
    kind = found.get("headers", {}).get(b"content-type", b"application/json").decode()
    status = found["status"]
    return (
        (
            f"Content-Type: application/http\r\nContent-ID: <response-{name}>\r\n\r\n"
            f"HTTP/1.1 {status} {_PHRASES.get(status, 'Other')}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(found['body'])}\r\n\r\n"
        ).encode()
        + found["body"]
        + b"\r\n"
    )
