"""Which bytes a visitor asks for: the Range and If-Range headers of RFC 9110.

Pure: headers and lengths in, a decision out. One range is served; a request for
several is answered with the whole file, which section 14.2 allows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

# Enough digits for any object (5 TiB has thirteen), few enough to cost nothing.
_SINGLE = re.compile(
    r"bytes\s*=\s*(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))\s*", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True)
class ByteRange:
    """The bytes ``first`` to ``last`` of a file, both included, counted from 0."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class RangeAnswer:
    """How a request is to be answered.

    ``status`` is 200 (the whole file), 206 (``span`` only) or 416 (nothing to
    send); ``headers`` belong into the answer and hold no Content-Length for 416,
    whose body is the caller's.
    """

    status: int
    span: ByteRange | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def parse_range(header: str | None, length: int) -> RangeAnswer:
    """What ``header``, the value of Range, means for a file of ``length`` bytes.

    A header that is absent, malformed, of another unit or of several ranges is
    ignored (RFC 9110, 14.2); a range that begins after the end is a 416.
    """
    match = _SINGLE.fullmatch(header.strip()) if header else None
    if not match:
        return _whole(length)
    first_text, last_text, suffix_text = match.groups()
    if suffix_text is not None:
        first, last = max(length - int(suffix_text), 0), length - 1
    else:
        first, last = int(first_text), length - 1
        if last_text:
            if int(last_text) < first:
                return _whole(length)
            last = min(last, int(last_text))
    if first > last:
        return RangeAnswer(
            416, headers={"Content-Range": f"bytes */{length}", "Accept-Ranges": "bytes"}
        )
    span = ByteRange(first, last)
    return RangeAnswer(
        206,
        span,
        {
            "Accept-Ranges": "bytes",
            "Content-Length": str(span.length),
            "Content-Range": f"bytes {first}-{last}/{length}",
        },
    )


def _whole(length: int) -> RangeAnswer:
    return RangeAnswer(200, headers={"Accept-Ranges": "bytes", "Content-Length": str(length)})


def range_applies(if_range: str | None, etag: str | None, modified: datetime | None) -> bool:
    """Whether a Range header counts, given the request's If-Range (RFC 9110, 13.1.5).

    ``etag`` is the file's own, quotes included; ``modified`` its time of last
    change, aware of its zone. Without If-Range the range counts. A weak tag never
    matches, and a date only when it is exactly the file's.
    """
    if if_range is None or not if_range.strip():
        return True
    condition = if_range.strip()
    if condition.startswith(('"', "W/")):
        return condition == etag and not condition.startswith("W/")
    if modified is None:
        return False
    try:
        asked = parsedate_to_datetime(condition)
    except ValueError:
        return False
    if asked.tzinfo is None:
        asked = asked.replace(tzinfo=timezone.utc)
    return asked == modified.replace(microsecond=0)
