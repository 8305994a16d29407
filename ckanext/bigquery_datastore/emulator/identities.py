"""Who asks: the service account behind a token or a signed URL, and the keys we know.

The key file that the emulator writes names this process as its token server, so that
Google's clients can use it like a real one and each request shows which account made it.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from .errors import ApiError

_TOKEN = "emulator-token-of-"
ANONYMOUS = "anonymous"


class Identities:
    """The public keys of the accounts that may sign, by their address."""

    def __init__(self) -> None:
        self._keys: dict[str, RSAPublicKey] = {}
        #: Permissions that an account lacks, by its address: see ``Buckets``.
        self.denied: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def learn(self, file: Path) -> str:
        """Know the account of a key file; its address."""
        content = json.loads(file.read_text())
        return self.know(content["client_email"], content["private_key"])

    def know(self, email: str, pem: str) -> str:
        """Know an account by its private or public key in PEM."""
        if "PRIVATE" in pem:
            private = serialization.load_pem_private_key(pem.encode(), None)
            key = private.public_key()
        else:
            key = serialization.load_pem_public_key(pem.encode())  # type: ignore[assignment]
        if not isinstance(key, RSAPublicKey):
            raise ApiError("invalid", "Not an RSA key.")
        with self._lock:
            self._keys[email] = key
        return email

    def key(self, email: str) -> RSAPublicKey | None:
        """The account's public key, if it is known."""
        return self._keys.get(email)

    def token(self, form: bytes) -> dict[str, Any]:
        """What Google's token server answers to a signed assertion."""
        assertion = parse_qs(form.decode()).get("assertion", [""])[0]
        try:
            payload = assertion.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (IndexError, ValueError) as error:
            raise ApiError("invalid", "invalid_grant: not an assertion") from error
        return {
            "access_token": f"{_TOKEN}{claims['iss']}",
            "expires_in": 3600,
            "token_type": "Bearer",
        }


def of_request(scope: MutableMapping[str, Any]) -> str:
    """The account behind a request: of its token, of its signature, or ``anonymous``."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            token = value.decode("latin-1").partition(" ")[2]
            return str(token.removeprefix(_TOKEN))
    query = parse_qs(scope["query_string"].decode("latin-1"))
    credential = query.get("X-Goog-Credential", query.get("x-goog-credential", [""]))[0]
    return credential.split("/")[0] or ANONYMOUS
