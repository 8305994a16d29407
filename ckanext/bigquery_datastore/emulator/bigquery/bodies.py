"""The body of a request: a JSON object that UTF-8 can hold, of a bounded size."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

from starlette.requests import Request

from ..errors import ApiError


async def read_json(request: Request, most_bytes: int | None = None) -> dict[str, Any]:
    """The body of a request, gzipped or not.

    Raises ApiError ``parseError``, and ``badRequest`` beyond ``most_bytes``.
    """
    raw = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        raw = gzip.decompress(raw)
    if most_bytes is not None and len(raw) > most_bytes:
        raise ApiError("badRequest", f"Request payload size exceeds the limit: {most_bytes} bytes.")
    try:
        body = json.loads(raw or b"{}")
    except ValueError as error:
        raise ApiError("parseError", "Parse Error") from error
    if not isinstance(body, dict) or (_HALF.search(raw) and not _is_text(body)):
        raise ApiError("parseError", "Parse Error")
    return body


# An escape that may be half a pair of surrogates alone, which no text of UTF-8 can hold.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def _is_text(body: object) -> bool:
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
