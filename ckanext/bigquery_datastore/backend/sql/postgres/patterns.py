"""PostgreSQL's patterns (LIKE, SIMILAR TO, regular expressions) as RE2's. Texts only. Pure.

What RE2 does not know, or reads otherwise, is refused: look-around, back references, ``\\y``,
collating elements; for a text that is cut out or replaced, also what PostgreSQL and RE2 find
different lengths of (PostgreSQL takes the longest alternative, RE2 the first).
https://www.postgresql.org/docs/15/functions-matching.html, https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ckanext.bigquery_datastore.backend.sql.postgres.kinds import refused

#: PostgreSQL's classes look at letters of any script, RE2's at ASCII.
_CLASSES = {
    "d": r"[0-9]",
    "s": r"[\s\x0b]",
    "w": r"[\pL\pM\pN_]",
    "D": r"[^0-9]",
    "S": r"[^\s\x0b]",
    "W": r"[^\pL\pM\pN_]",
}
_INSIDE = {"d": "0-9", "s": r"\s\x0b", "w": r"\pL\pM\pN_"}
_NAMED = {
    "alpha": r"\pL\pM",
    "alnum": r"\pL\pM\pN",
    "digit": "0-9",
    "lower": r"\p{Ll}",
    "upper": r"\p{Lu}",
    "space": r"\s\x0b",
    "xdigit": "0-9A-Fa-f",
    "blank": r" \t",
}
_CONTROLS = {"n": r"\n", "r": r"\r", "t": r"\t", "f": r"\f", "v": r"\x0b"}
_ANCHORS = {"A": r"\A", "Z": r"\z"}
_FLAGS = "icgs"

_PIECE = re.compile(
    r"(?P<escape>\\.)|(?P<bracket>\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\])|(?P<group>\(\?:|\()"
    r"|(?P<look>\(\?)|(?P<repeat>[*+?]|\{\d+(?:,\d*)?\})(?P<lazy>\??)|(?P<other>.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Pattern:
    """A regular expression for RE2; how many groups it has; whether it can match in two lengths."""

    text: str
    groups: int
    ambiguous: bool


def flags(text: str) -> tuple[bool, bool]:
    """Of a function's flags: whether case is ignored, whether all matches are meant."""
    if set(text) - set(_FLAGS):
        raise refused(
            f'The flags "{text[:20]}" of a regular expression cannot be said in GoogleSQL'
        )
    return "i" in text and not text.rstrip("gs").endswith("c"), "g" in text


def regular(text: str, ignores_case: bool = False) -> Pattern:
    """PostgreSQL's advanced regular expression.

    :raises Invalid: RE2 has nothing for a part of it
    """
    if text.startswith(("***", "(?")) and not text.startswith("(?:"):
        raise refused("Options inside of a regular expression cannot be said in GoogleSQL")
    found, groups, alternatives, lazy, greedy = [], 0, False, False, False
    for piece in _PIECE.finditer(text):
        kind, part = piece.lastgroup, piece[0]
        if kind == "lazy" or piece["repeat"]:
            lazy, greedy = lazy or bool(piece["lazy"]), greedy or not piece["lazy"]
            found.append(_bounded(part))
        elif kind == "escape":
            found.append(_escaped(part[1]))
        elif kind == "bracket":
            found.append(_bracket(part))
        elif kind == "look":
            raise refused("Look-around in a regular expression cannot be said in GoogleSQL")
        else:
            groups += part == "("
            alternatives = alternatives or part == "|"
            found.append(part)
    prefix = "(?is)" if ignores_case else "(?s)"
    re2 = "".join(found)
    # A dot is any character there; RE2's stops at the end of a line.
    is_plain = not ignores_case and "." not in re2
    text = re2 if is_plain else f"{prefix}{re2}"
    return Pattern(
        text,
        groups,
        (lazy and (greedy or alternatives))
        or (lazy and alternatives)
        or (alternatives and not _are_distinct(re2)),
    )


def _are_distinct(re2: str) -> bool:
    """Whether no alternative is the beginning of another: then only one of them can match."""
    for group in re.split(r"[()]", re2):
        words = group.split("|")
        plain = all(re.fullmatch(r"\w*", word) for word in words)
        if len(words) > 1 and not plain:
            return False
        if any(a.startswith(b) for n, a in enumerate(words) for m, b in enumerate(words) if n != m):
            return False
    return True


def _bounded(part: str) -> str:
    numbers = [int(number) for number in re.findall(r"\d+", part)]
    if any(number > 255 for number in numbers):
        raise refused("invalid regular expression: invalid repetition count(s)")
    return part


def _escaped(char: str) -> str:
    if char in _CLASSES:
        return _CLASSES[char]
    if char in _CONTROLS or char in _ANCHORS:
        return {**_CONTROLS, **_ANCHORS}[char]
    if char.isalnum():
        raise refused(f"\\{char} in a regular expression cannot be said in GoogleSQL")
    return f"\\{char}" if char.isascii() else char


def _bracket(part: str) -> str:
    if "[." in part or "[=" in part:
        raise refused("Collating elements in a regular expression cannot be said in GoogleSQL")
    inverted = part.startswith("[^")
    inner, found = part[2 if inverted else 1 : -1], []
    for piece in re.finditer(r"\[:(\w+):\]|\\(.)|(.)", inner, re.DOTALL):
        named, escaped, char = piece.groups()
        if named is not None:
            if named not in _NAMED:
                raise refused(f"[:{named}:] in a regular expression cannot be said in GoogleSQL")
            found.append(_NAMED[named])
        elif escaped is not None:
            found.append(_INSIDE.get(escaped) or _escaped(escaped))
        else:
            found.append(f"\\{char}" if char in "[]^&~" else char)
    return f"[{'^' if inverted else ''}{''.join(found)}]"


def replacement(text: str, shift: int = 0) -> str:
    """PostgreSQL's replacement (``\\1``, ``\\&``) as RE2's, its groups further back by some."""
    found = []
    for piece in re.finditer(r"\\(.)|([^\\]+)|\\", text, re.DOTALL):
        escaped, plain = piece.groups()
        if plain is not None:
            found.append(plain)
        elif escaped is None or escaped == "\\":
            found.append("\\\\")
        elif escaped == "&":
            found.append(f"\\{shift}")
        elif escaped.isdigit() and escaped != "0":
            number = int(escaped) + shift
            if number > 9:
                raise refused("A replacement with so many groups cannot be said in GoogleSQL")
            found.append(f"\\{number}")
        else:
            found.append(f"\\\\{escaped}")
    return "".join(found)


def first_group_only(re2: str) -> str:
    """The same expression whose groups, but for the first, are not counted."""
    seen, found = 0, []
    for piece in re.finditer(r"\\.|\[(?:\\.|[^\]\\])*\]|(\()(?!\?)|.", re2, re.DOTALL):
        seen += piece[1] is not None
        found.append("(?:" if piece[1] and seen > 1 else piece[0])
    return "".join(found)


def like(text: str, escape: str = "\\") -> str:
    """A pattern of LIKE with any escape character as one with a backslash."""
    if len(escape) > 1:
        raise refused("invalid escape string")
    found, place = [], 0
    while place < len(text):
        char = text[place]
        if char == escape:
            place += 1
            if place == len(text):
                raise refused("LIKE pattern must not end with escape character")
            found.append(f"\\{text[place]}")
        else:
            found.append("\\\\" if char == "\\" else char)
        place += 1
    return "".join(found)


def similar(text: str, escape: str = "\\") -> str:
    """A pattern of SIMILAR TO as a regular expression of RE2 for the whole text."""
    found, place, is_inside = [], 0, False
    while place < len(text):
        char = text[place]
        if char == escape:
            place += 1
            if place == len(text):
                raise refused("invalid escape sequence")
            found.append(re.escape(text[place]))
        elif is_inside:
            is_inside = char != "]"
            found.append(f"\\{char}" if char in "[\\" else char)
        elif char == "[":
            if text[place + 1 : place + 2] in ("]", "[") or "[:" in text:
                raise refused("Classes in a pattern of SIMILAR TO cannot be said in GoogleSQL")
            is_inside = True
            found.append(char)
        elif char in "%_":
            found.append(".*" if char == "%" else ".")
        elif char in "|*+?{}":
            found.append(char)
        elif char in "()":
            found.append("(?:" if char == "(" else ")")
        else:
            found.append(re.escape(char))
        place += 1
    return f"(?s)^(?:{''.join(found)})$"
