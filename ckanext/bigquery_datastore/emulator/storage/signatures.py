"""V4 signed URLs, checked as Cloud Storage checks them: expiry first, then the signature.

The rules are those of Cloud Storage's page "V4 signing process": the canonical request
is method, path, sorted query without the signature, signed headers and payload.
"""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from ..identities import Identities

LONGEST_SECONDS = 604_800


@dataclass(frozen=True)
class Refusal(Exception):
    """Why a signed URL is no good, as Cloud Storage's XML API says it."""

    status: int
    code: str
    message: str
    details: str = ""

    def body(self) -> bytes:
        """The XML of the answer."""
        extra = f"<Details>{escape(self.details)}</Details>" if self.details else ""
        return (
            "<?xml version='1.0' encoding='UTF-8'?><Error>"
            f"<Code>{self.code}</Code><Message>{escape(self.message)}</Message>{extra}</Error>"
        ).encode()


def parameters(query: str) -> list[tuple[str, str]]:
    """Names and values of a query string, in their order, decoded."""
    pairs = (part.partition("=") for part in query.split("&") if part)
    return [(unquote(name), unquote(value)) for name, _, value in pairs]


def is_signed(query: str) -> bool:
    """Whether the URL claims a V4 signature."""
    return "x-goog-signature=" in query.lower()


def check(scope: MutableMapping[str, Any], identities: Identities) -> None:
    """Raise Refusal for a URL that has expired, was tampered with or is no V4 URL."""
    given = parameters(scope["query_string"].decode("latin-1"))
    values = {name.lower(): value for name, value in given}
    _check_time(values)
    email, _, scope_of_key = values.get("x-goog-credential", "").partition("/")
    key = identities.key(email)
    if key is None:
        return
    canonical = _canonical(scope, given, values.get("x-goog-signedheaders", "host"))
    text = "\n".join(
        (
            values["x-goog-algorithm"],
            values["x-goog-date"],
            scope_of_key,
            hashlib.sha256(canonical.encode()).hexdigest(),
        )
    )
    try:
        signature = bytes.fromhex(values["x-goog-signature"])
        key.verify(signature, text.encode(), PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError) as error:
        raise Refusal(
            403,
            "SignatureDoesNotMatch",
            "Access denied.",
            "The request signature we calculated does not match the signature you provided. "
            "Check your Google secret key and signing method.",
        ) from error


def _check_time(values: dict[str, str]) -> None:
    try:
        signed = datetime.strptime(values["x-goog-date"], "%Y%m%dT%H%M%SZ")
        lives = int(values["x-goog-expires"])
    except (KeyError, ValueError) as error:
        raise Refusal(400, "AuthenticationError", "Invalid signed URL.") from error
    if not 0 < lives <= LONGEST_SECONDS:
        raise Refusal(
            400, "AuthenticationError", "X-Goog-Expires must be between 1 and 604800 seconds."
        )
    expires = signed.replace(tzinfo=timezone.utc) + timedelta(seconds=lives)
    if datetime.now(timezone.utc) > expires:
        raise Refusal(
            400,
            "ExpiredToken",
            "The provided token has expired.",
            f"Request signature expired at: {expires.isoformat()}",
        )


def _canonical(
    scope: MutableMapping[str, Any], given: list[tuple[str, str]], signed_headers: str
) -> str:
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in given
        if name.lower() != "x-goog-signature"
    )
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    names = sorted(signed_headers.lower().split(";"))
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}" for name in names]
    path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
    payload = headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
    return "\n".join(
        (
            scope["method"],
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *lines,
            "",
            ";".join(names),
            payload,
        )
    )
