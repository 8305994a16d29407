"""A throw-away service account key, so that URLs can be signed without Google."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


def write_key_file(file: Path, project: str, token_url: str) -> None:
    """Write a service account key of ``project`` into ``file`` (mode 0600).

    A key that is there stays; only its token server is corrected, should the emulator
    listen elsewhere than when it was made.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(file, _new_key(project, token_url))
        return
    content = json.loads(file.read_text())
    if content.get("token_uri") != token_url:
        partial = file.with_name(f"{file.name}.new")
        partial.unlink(missing_ok=True)
        _write(partial, content | {"token_uri": token_url})
        partial.replace(file)


def _new_key(project: str, token_url: str) -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": uuid.uuid4().hex,
        "private_key": pem,
        "client_email": f"emulator@{project}.iam.gserviceaccount.com",
        "client_id": "100000000000000000001",
        "token_uri": token_url,
        "universe_domain": "googleapis.com",
    }


def _write(file: Path, content: dict[str, str]) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(content, stream, indent=2)
        stream.write("\n")
