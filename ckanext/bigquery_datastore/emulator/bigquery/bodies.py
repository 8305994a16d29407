"""The JSON that requests bring."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

from starlette.requests import Request

from ..errors import ApiError


async def read_json(request: Request) -> dict[str, Any]:
    """The body of a request, a JSON object, gzipped or not. Raises ApiError ``parseError``."""
    raw = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        raw = gzip.decompress(raw)
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
