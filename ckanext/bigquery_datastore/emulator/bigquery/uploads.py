"""Files that come with a load job: multipart in one request, or resumable in pieces.

bqemulator refuses the part type ``*/*`` that Google's client sends.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request

from ..errors import ApiError

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Upload:
    """A resumable upload on its way."""

    project: str
    body: dict[str, Any]
    file: Path
    received: int = 0
    complete: bool = False


class Uploads:
    """Uploads that are on their way, each a file of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.iterdir():
            left_over.unlink()
        self._folder = folder
        self._uploads: dict[str, Upload] = {}

    def begin(self, project: str, body: dict[str, Any]) -> str:
        """Start a resumable upload; its id."""
        upload_id = uuid.uuid4().hex
        file = self._folder / upload_id
        file.touch()
        self._uploads[upload_id] = Upload(project, body, file)
        return upload_id

    async def receive(self, request: Request) -> Upload:
        """Append the piece that a PUT carries; tell how far the upload is."""
        upload = self._uploads.get(request.query_params.get("upload_id", ""))
        if upload is None:
            raise ApiError("notFound", "Not found: upload session")
        found = _RANGE.fullmatch(request.headers.get("content-range", "bytes */*"))
        first = int(found[1]) if found and found[1] else upload.received
        if first != upload.received:
            return upload
        with upload.file.open("ab") as stream:
            async for chunk in request.stream():
                stream.write(chunk)
                upload.received += len(chunk)
        total = found[3] if found else "*"
        upload.complete = not found or (total != "*" and upload.received >= int(total))
        return upload

    async def multipart(self, request: Request) -> tuple[dict[str, Any], Path]:
        """The job and the file of an upload in one request."""
        boundary = re.search(r'boundary="?([^";]+)', request.headers.get("content-type", ""))
        if not boundary:
            raise ApiError("invalid", "Multipart upload without a boundary.")
        whole = await request.body()
        parts = whole.split(b"--" + boundary[1].encode())[1:3]
        if len(parts) != 2:
            raise ApiError("invalid", "Multipart upload without two parts.")
        metadata, content = (_content(part) for part in parts)
        file = self._folder / uuid.uuid4().hex
        file.write_bytes(content)
        try:
            body: dict[str, Any] = json.loads(metadata)
        except ValueError as error:
            raise ApiError("parseError", "Parse Error") from error
        return body, file


def _content(part: bytes) -> bytes:
    """A part without its headers and its line end."""
    split = re.search(rb"\r?\n\r?\n", part)
    if not split:
        raise ApiError("invalid", "Multipart upload with a part that has no headers.")
    content = part[split.end() :]
    return content[:-2] if content.endswith(b"\r\n") else content.removesuffix(b"\n")
