"""What a check has found: well, wrong or not known, a sentence, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass

OK, WRONG, UNKNOWN = "ok", "wrong", "unknown"


@dataclass(frozen=True)
class Finding:
    """``state`` is one of the three; ``fix`` a command to paste, or options to set."""

    state: str
    said: str
    fix: str = ""


def ok(said: str) -> Finding:
    return Finding(OK, said)


def wrong(said: str, fix: str = "") -> Finding:
    return Finding(WRONG, said, fix)


def unknown(said: str, fix: str = "") -> Finding:
    return Finding(UNKNOWN, said, fix)
