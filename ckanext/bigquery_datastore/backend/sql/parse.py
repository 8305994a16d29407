"""Reading a query from outside: as PostgreSQL, or, with a backtick in it, as GoogleSQL. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from ckanext.bigquery_datastore.backend.sql.rules import NotAllowed
from ckanext.bigquery_datastore.errors import Invalid

# How large a query may be: reading and writing one takes time in proportion to its tokens, of which
# ten thousand are a second, and more than that to the outputs of a SELECT.
LONGEST = 100_000
MOST_TOKENS = 10_000
#: PostgreSQL's own (MaxTupleAttributeNumber): https://www.postgresql.org/docs/current/limits.html
MOST_OUTPUTS = 1664

#: How sqlglot's builders of functions stumble over too few arguments, or too many.
STUMBLES = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class PostgreSQL(Postgres):
    """sqlglot's PostgreSQL, whose functions keep their names and all of their arguments.

    sqlglot makes them into nodes of its own, in which some of it is lost: the time zone of
    ``date_trunc``, say. Left are those that have a syntax of their own.
    """

    class Parser(Postgres.Parser):
        FUNCTIONS: ClassVar = {}
        FUNCTION_PARSERS: ClassVar = {
            name: Postgres.Parser.FUNCTION_PARSERS[name]
            for name in ("CAST", "EXTRACT", "POSITION", "SUBSTRING", "TRIM")
        }


@dataclass(frozen=True)
class Parsed:
    """The tree of a text, in the language that it is written in."""

    query: exp.Query
    is_postgresql: bool


def parse(text: str) -> Parsed:
    if not isinstance(text, str) or not text.strip():
        raise Invalid({"sql": ["Missing value"]})
    if len(text) > LONGEST or "\0" in text:
        raise Invalid({"query": ["The query is too long"]})
    dialect = "bigquery" if "`" in text else PostgreSQL
    try:
        # Half of the time goes into the tokens, which are needed below: they are made once.
        reader = Dialect.get_or_raise(dialect)
        tokens = reader.tokenize(text)
        if len(tokens) > MOST_TOKENS:
            raise Invalid({"query": ["The query is too long"]})
        statements = [found for found in reader.parser().parse(tokens, text) if found]
    except SqlglotError as err:
        raise Invalid({"query": [_syntax_error(err)]}) from err
    except STUMBLES as err:
        raise Invalid({"query": ["A function is called with the wrong arguments"]}) from err
    except RecursionError as err:
        raise Invalid({"query": ["The query is nested too deeply"]}) from err
    if len(statements) != 1:
        raise Invalid({"query": ["Query is not a single statement"]})
    query = statements[0]
    if not isinstance(query, exp.Query) or isinstance(query, exp.Table):
        raise Invalid({"query": ["Query is not a SELECT statement"]})
    if any(len(select.expressions) > MOST_OUTPUTS for select in query.find_all(exp.Select)):
        sentence = f"target lists can have at most {MOST_OUTPUTS} entries"
        raise Invalid({"query": [sentence]})
    # A quoted name keeps its case in PostgreSQL: "CoUnT" is not count.
    for token, following in pairwise(tokens):
        quoted = token.token_type is TokenType.IDENTIFIER and token.text != token.text.lower()
        if quoted and following.token_type is TokenType.L_PAREN:
            raise NotAllowed(f"Not authorized to call function {token.text}")
    if dialect is PostgreSQL:
        _fold_case(query)
        for text_ in list(query.find_all(exp.RawString)):  # $$text$$
            text_.replace(exp.Literal.string(text_.name))
    return Parsed(query, dialect is PostgreSQL)


def _syntax_error(err: SqlglotError) -> str:
    details = getattr(err, "errors", None) or [{}]
    near = details[0].get("highlight")
    return f'syntax error at or near "{near}"' if near else "syntax error"


def _fold_case(query: exp.Expr) -> None:
    for identifier in query.find_all(exp.Identifier):
        if not identifier.args.get("quoted"):
            identifier.set("this", identifier.this.lower())
