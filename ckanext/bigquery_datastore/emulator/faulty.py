"""An application before which a rule may stand: the requests that it meets go wrong."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from .faults import (
    TRANSPORT,
    Application,
    Faults,
    Receive,
    Requests,
    Rule,
    Scope,
    Seen,
    Send,
)


class Faulty:
    """An application whose requests are recorded and meet the rules."""

    def __init__(
        self,
        application: Application,
        service: str,
        faults: Faults,
        requests: Requests,
        identity: Callable[[Scope], str],
    ) -> None:
        self._application = application
        self._service = service
        self._faults = faults
        self._requests = requests
        self._identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/emulator/"):
            await self._application(scope, receive, send)
            return
        began, identity = time.monotonic(), self._identity(scope)
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        text = ""
        if self._faults.reads_bodies(self._service):
            text, receive = await _peek(receive)
        rule = self._faults.take(
            self._service,
            method=scope["method"],
            path=f"{path}?{query}" if query else path,
            identity=identity,
            body=text,
        )
        answer = _Answer(send, rule or Rule())
        try:
            await self._answer(rule, scope, receive, answer)
        finally:
            ranged = next((v.decode() for k, v in scope["headers"] if k == b"range"), "")
            seconds = round(time.monotonic() - began, 4)
            self._requests.add(
                Seen(
                    self._service,
                    scope["method"],
                    path,
                    query,
                    identity,
                    answer.status,
                    began,
                    seconds,
                    answer.sent,
                    rule.id if rule else None,
                    ranged,
                )
            )

    async def _answer(self, rule: Rule | None, scope: Scope, receive: Receive, answer: _Answer):  # type: ignore[no-untyped-def]
        if rule is None:
            await self._application(scope, receive, answer)
            return
        refuses = rule.drop or rule.status is not None or bool(rule.reason)
        if rule.when == "after" and refuses:
            await self._application(scope, receive, _nowhere)
        if rule.delay:
            await asyncio.sleep(rule.delay)
        if rule.received:
            await _take(receive, rule.received)
        if rule.stall and scope["method"] in ("POST", "PUT"):
            receive = _stalled(receive, rule)
        if rule.drop:
            scope[TRANSPORT].abort()
        elif refuses:
            await _refuse(rule, answer)
        else:
            await self._application(scope, receive, answer)


class _Answer:
    """``send`` that counts, and that stalls, errs or stops if the rule says so."""

    def __init__(self, send: Send, rule: Rule) -> None:
        self._send, self._rule, self._limit = send, rule, rule.truncate
        self.status, self.sent = 0, 0

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if self._rule.corrupt and body and not self.sent:
                body = bytes([body[0] ^ 1]) + body[1:]
                message = {**message, "body": body}
            before = self._rule.stall_after - self.sent
            if self._rule.stall and 0 <= before < len(body):
                await self._send({**message, "body": body[:before], "more_body": True})
                await asyncio.sleep(self._rule.stall)
                message = {**message, "body": body[before:]}
            if self._limit is not None:
                body = body[: max(0, self._limit - self.sent)]
                # Never finished: the server closes the connection when the application returns.
                message = {**message, "body": body, "more_body": True}
            self.sent += len(body)
        await self._send(message)


async def _nowhere(message: MutableMapping[str, Any]) -> None:
    del message


async def _take(receive: Receive, size: int) -> None:
    """So many bytes of the request's body, or all that there are; nobody gets them."""
    taken, more = 0, True
    while more and taken < size:
        message = await receive()
        taken += len(message.get("body", b""))
        more = bool(message.get("more_body"))


def _stalled(receive: Receive, rule: Rule) -> Receive:
    got, is_over = 0, False

    async def later() -> MutableMapping[str, Any]:
        nonlocal got, is_over
        message = await receive()
        got += len(message.get("body", b""))
        if not is_over and got > rule.stall_after:
            is_over = True
            await asyncio.sleep(rule.stall)
        return message

    return later


async def _peek(receive: Receive) -> tuple[str, Receive]:
    parts = []
    while True:
        message = await receive()
        parts.append(message)
        if message["type"] != "http.request" or not message.get("more_body"):
            break

    async def again() -> MutableMapping[str, Any]:
        return parts.pop(0) if parts else await receive()

    whole = b"".join(part.get("body", b"") for part in parts)
    return whole.decode("latin-1"), again


async def _refuse(rule: Rule, send: Send) -> None:
    body = json.dumps(rule.error.body()).encode()
    headers = [
        (b"content-type", b"application/json; charset=UTF-8"),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in rule.headers.items()),
    ]
    await send({"type": "http.response.start", "status": rule.error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
