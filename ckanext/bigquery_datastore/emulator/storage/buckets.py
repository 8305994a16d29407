"""Buckets that remember what was set on them.

fake-gcs-server forgets location, lifecycle, soft delete, retention and labels, and knows
no ``testPermissions``; a check of a site's bucket reads all of them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..identities import Identities, of_request
from .backend import Backend
from .http import Refused, Request

_PATH = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)(?P<rest>/.*)?")
_MULTI_REGIONS = ("US", "EU", "ASIA")
_OURS = ("kind", "id", "name", "selfLink", "timeCreated", "metageneration", "projectNumber")


class Buckets:
    """What was set on each bucket, kept in a file."""

    def __init__(self, file: Path, location: str, identities: Identities | None = None) -> None:
        self._identities = identities or Identities()
        self._file = file
        self._location = location
        self._known: dict[str, dict[str, Any]] = {}
        if file.exists():
            self._known = json.loads(file.read_text())

    def remember(self, bucket: str, settings: dict[str, Any]) -> None:
        """Merge ``settings`` into the bucket's; None removes a setting."""
        known = self._known.setdefault(bucket, {"location": self._location})
        for name, value in settings.items():
            if name in _OURS:
                continue
            known.pop(name, None)
            if value is not None:
                known[name] = value
        partial = self._file.with_suffix(".new")
        partial.write_text(json.dumps(self._known))
        partial.replace(self._file)

    def cors(self, bucket: str) -> list[dict[str, Any]]:
        """The bucket's rules for scripts of other sites."""
        return list(self._known.get(bucket, {}).get("cors") or [])

    def shown(self, bucket: dict[str, Any]) -> dict[str, Any]:
        """A bucket as Cloud Storage shows it."""
        known = {"location": self._location, **self._known.get(bucket["name"], {})}
        place = str(known["location"]).upper()
        return {
            **bucket,
            "storageClass": "STANDARD",
            "softDeletePolicy": {"retentionDurationSeconds": "0"},
            "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
            **known,
            "location": place,
            "locationType": "multi-region" if place in _MULTI_REGIONS else "region",
        }

    async def handle(self, request: Request, backend: Backend) -> None:
        """Answer a request about buckets."""
        found = _PATH.fullmatch(request.path)
        if found is None:
            await self._all(request, backend)
        elif (found["rest"] or "") == "/iam/testPermissions":
            await self._permissions(request, backend, found["bucket"])
        elif found["rest"]:
            raise Refused(404, "Not Found")
        else:
            await self._one(request, backend, found["bucket"])

    async def _all(self, request: Request, backend: Backend) -> None:
        body = await request.body()
        reply = await backend.send(request.method, request.target(), request.headers, body)
        answer: Any = await reply.json() if reply.status == 200 else await reply.read()
        if reply.status == 409:
            raise Refused(
                409,
                "Your previous request to create the named bucket succeeded and you "
                "already own it.",
                "conflict",
            )
        if reply.status == 200 and request.method == "POST":
            self.remember(answer["name"], json.loads(body or b"{}"))
            answer = self.shown(answer)
        elif reply.status == 200:
            answer["items"] = [self.shown(bucket) for bucket in answer.get("items") or []]
        await request.answer(reply.status, answer)

    async def _one(self, request: Request, backend: Backend, bucket: str) -> None:
        body = await request.body()
        there = await backend.send("GET", request.path)
        found: Any = await there.json() if there.status == 200 else await there.read()
        if there.status != 200:
            raise Refused(404, "The specified bucket does not exist.")
        if request.method in ("PATCH", "PUT"):
            self.remember(bucket, json.loads(body or b"{}"))
        elif request.method == "DELETE":
            reply = await backend.send("DELETE", request.path)
            if reply.status < 300:
                self._known.pop(bucket, None)
            await request.relay(reply)
            return
        await request.answer(200, self.shown(found))

    async def _permissions(self, request: Request, backend: Backend, bucket: str) -> None:
        reply = await backend.send("GET", f"/storage/v1/b/{bucket}")
        await reply.read()
        if reply.status != 200:
            raise Refused(404, "The specified bucket does not exist.")
        denied = self._identities.denied.get(of_request(request.scope), ())
        wanted = [
            value for name, value in request.query if name == "permissions" and value not in denied
        ]
        await request.answer(
            200, {"kind": "storage#testIamPermissionsResponse", "permissions": wanted}
        )
