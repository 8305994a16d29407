"""Full-text search: ``q`` as PostgreSQL's tsquery reads it, as SQL that BigQuery runs.

A row's text is brought into words: lower case, letters and digits, each between two spaces
("  warm  winter  "). A word is then found by looking for " warm ", a prefix (``warm:*``) by
" warm", and counted for the rank by taking it out. Words are compared as they are written:
there is no stemming ("car" does not find "cars"), in any language. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# What PostgreSQL's english dictionary leaves out of a query.
_STOP_WORDS = frozenset(
    [
        "a",
        "about",
        "after",
        "again",
        "all",
        "am",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "below",
        "between",
        "both",
        "but",
        "by",
        "can",
        "did",
        "do",
        "does",
        "doing",
        "don",
        "down",
        "during",
        "each",
        "few",
        "for",
        "from",
        "further",
        "had",
        "has",
        "have",
        "having",
        "he",
        "her",
        "here",
        "hers",
        "herself",
        "him",
        "himself",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "itself",
        "just",
        "me",
        "more",
        "most",
        "my",
        "myself",
        "no",
        "nor",
        "not",
        "now",
        "of",
        "off",
        "on",
        "once",
        "only",
        "or",
        "other",
        "our",
        "ours",
        "ourselves",
        "out",
        "over",
        "own",
        "s",
        "same",
        "she",
        "should",
        "so",
        "some",
        "such",
        "t",
        "than",
        "that",
        "the",
        "their",
        "theirs",
        "them",
        "themselves",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "too",
        "under",
        "until",
        "up",
        "very",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whom",
        "why",
        "will",
        "with",
        "you",
        "your",
        "yours",
        "yourself",
        "yourselves",
    ]
)

_DECIMAL = re.compile(r"([0-9])\.([0-9])")


#: Parentheses and negations within one another.
DEEPEST = 50


class InvalidQuery(ValueError):
    """A tsquery that cannot be read."""


@dataclass(frozen=True)
class Words:
    """Words that follow one another; ``prefix``: the last one may go on."""

    words: tuple[str, ...]
    prefix: bool = False

    @property
    def needle(self) -> str:
        """What to look for in a row's words."""
        return " " + "  ".join(self.words) + ("" if self.prefix else " ")


@dataclass(frozen=True)
class Every:
    parts: tuple[Query, ...]


@dataclass(frozen=True)
class AnyOf:
    parts: tuple[Query, ...]


@dataclass(frozen=True)
class Without:
    part: Query


Query = Words | Every | AnyOf | Without


def words_of(text: str) -> list[str]:
    """The words of a text, as ``words_sql`` makes them."""
    text = _DECIMAL.sub(r"\1_\2", text.replace("_", " ").lower())
    kept = "".join(
        char if char == "_" or unicodedata.category(char)[0] in "LNM" else " " for char in text
    )
    return kept.split()


def words_sql(text_sql: str) -> str:
    """SQL for a text's words, each between two spaces; a decimal point becomes ``_``."""
    return (
        "CONCAT('  ', REGEXP_REPLACE(REGEXP_REPLACE(LOWER(REPLACE("
        f"{text_sql}, '_', ' ')), r'([0-9])\\.([0-9])', r'\\1_\\2'), "
        "r'[^\\pL\\pN\\pM_]+', '  '), '  ')"
    )


def joined_sql(texts: Iterable[str | None]) -> str:
    """SQL for all texts of a row in one, those that are NULL left out. Flat, however many."""
    # The empty text: sqlglot takes an array that begins with a subquery for ARRAY(subquery).
    found = ", ".join(["''", *filter(None, texts)])
    return f"ARRAY_TO_STRING([{found}], '\\n')"


def plain(text: str, language: str) -> Query | None:
    """Every word of a text, in any order; None where nothing is left to look for."""
    words = words_of(text)
    if language == "english":
        words = [word for word in words if word not in _STOP_WORDS]
    return Every(tuple(Words((word,)) for word in words)) if words else None


def needles(query: Query | None) -> list[str]:
    """What to count for the rank: everything that is looked for and not excluded."""
    if isinstance(query, Words):
        return [query.needle]
    if isinstance(query, (Every, AnyOf)):
        return [needle for part in query.parts for needle in needles(part)]
    return []


def count_words(query: Query | None) -> int:
    """How many words a query looks for, also to find rows without them."""
    if isinstance(query, Words):
        return len(query.words)
    if isinstance(query, Without):
        return count_words(query.part)
    return sum(map(count_words, query.parts)) if query is not None else 0


_TOKEN = re.compile(
    r"\s*(?:(?P<op>&|\||!|\(|\)|<->|<[0-9]+>)|(?P<quoted>'(?:[^'\\]|''|\\.)*')|"
    r"(?P<word>[^\s&|!()<>:']+))(?P<flags>:[*a-dA-D]*)?"
)


def tsquery(text: str, language: str) -> Query | None:
    """A query in PostgreSQL's language: ``& | ! <-> ( ) 'a phrase' prefix:*``.

    :raises InvalidQuery: it cannot be read
    """
    tokens: list[tuple[str, str]] = []
    text = text.strip()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise InvalidQuery(f'syntax error in tsquery: "{text}"')
        position = match.end()
        flags = match.group("flags") or ""
        if match.group("op"):
            if flags:
                raise InvalidQuery(f'syntax error in tsquery: "{text}"')
            tokens.append((match.group("op"), ""))
        elif match.group("quoted"):
            word = re.sub(r"''|\\(.)", lambda m: m.group(1) or "'", match.group("quoted")[1:-1])
            tokens.append(("word" + flags, word))
        else:
            tokens.append(("word" + flags, match.group("word")))
    parser = _Parser(tokens, text, language)
    return parser.whole() if tokens else None


class _Parser:
    """Recursive descent: ``|`` binds weakest, then ``&``, ``<->``, ``!``."""

    def __init__(self, tokens: list[tuple[str, str]], text: str, language: str) -> None:
        self.tokens = deque(tokens)
        self.depth = 0
        self.fault = InvalidQuery(f'syntax error in tsquery: "{text}"')
        self.language = language

    def whole(self) -> Query | None:
        found = self.any_of()
        if self.tokens:
            raise self.fault
        return found

    def next_is(self, *kinds: str) -> bool:
        if self.tokens and self.tokens[0][0] in kinds:
            self.tokens.popleft()
            return True
        return False

    @contextmanager
    def inside(self) -> Iterator[None]:
        self.depth += 1
        if self.depth > DEEPEST:
            raise InvalidQuery(f"tsquery with more than {DEEPEST} levels of ( and !")
        yield
        self.depth -= 1

    def any_of(self) -> Query | None:
        parts = [self.every()]
        while self.next_is("|"):
            parts.append(self.every())
        left = [part for part in parts if part is not None]
        return AnyOf(tuple(left)) if len(left) > 1 else (left[0] if left else None)

    def every(self) -> Query | None:
        parts = [self.phrase()]
        while self.next_is("&"):
            parts.append(self.phrase())
        left = [part for part in parts if part is not None]
        return Every(tuple(left)) if len(left) > 1 else (left[0] if left else None)

    def phrase(self) -> Query | None:
        found = self.unary()
        while self.next_is("<->", "<1>"):
            following = self.unary()
            if isinstance(found, Words) and isinstance(following, Words) and not found.prefix:
                found = Words(found.words + following.words, following.prefix)
            elif found is not None and following is not None:
                raise self.fault
            else:
                found = found or following
        return found

    def unary(self) -> Query | None:
        if self.next_is("!"):
            with self.inside():
                part = self.unary()
            return Without(part) if part is not None else None
        if self.next_is("("):
            with self.inside():
                found = self.any_of()
            if not self.next_is(")"):
                raise self.fault
            return found
        if not self.tokens or not self.tokens[0][0].startswith("word"):
            raise self.fault
        kind, text = self.tokens.popleft()
        words = words_of(text)
        if self.language == "english" and "*" not in kind:
            words = [word for word in words if word not in _STOP_WORDS]
        return Words(tuple(words), "*" in kind) if words else None
