"""A term of ``sort``, read. Pure."""

from __future__ import annotations


def sort_term(clause: str) -> tuple[str, str, str]:
    """``name asc nulls first`` as its name, its direction and the place of NULLs; "" if not said.

    From the end, word by word: in time that grows with the length, and not with its square.
    """
    rest, nulls = _without_last(clause.rstrip(), "first", "last")
    if nulls:
        rest, is_nulls = _without_last(rest, "nulls")
        if not is_nulls:
            rest, nulls = clause, ""
    rest, direction = _without_last(rest, "asc", "desc")
    if len(rest) > 1 and rest[0] == rest[-1] == '"':
        rest = rest[1:-1]
    return rest, direction, nulls


def _without_last(text: str, *words: str) -> tuple[str, str]:
    """A text without its last word, and that word, where it is one of these (in any case)."""
    for word in words:
        head = text[: -len(word)]
        if head.endswith(" ") and text.lower().endswith(word) and head.strip():
            return head.rstrip(" "), word
    return text, ""
