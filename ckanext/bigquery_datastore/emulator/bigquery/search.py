"""SEARCH and CONTAINS_SUBSTR, for a text, a list of columns or a whole row.

SEARCH follows BigQuery's page "Search functions" for plain terms with the LOG_ANALYZER:
text and query are cut at its delimiters and compared without regard to case; every term
must be found, in any order. A phrase in double quotes must be found as it stands; what is
between backticks is one term. OR, NOT and parentheses are not emulated.
NO_OP_ANALYZER compares the whole text.
"""

from __future__ import annotations

from sqlglot import exp

_DELIMITERS = r"[\s\[\]<>(){}|!;,''\"*&?+/:=@.\-$%\\_]+"
_QUOTED = r"\"[^\"]*\""
_BACKTICKED = "`[^`]*`"

MACROS = (
    # The texts in a value: itself, or those of a row's or list's members.
    "emu_texts(x) AS CASE "
    "WHEN typeof(x) LIKE 'STRUCT%' OR typeof(x) LIKE '%[]' THEN list_filter(list_transform("
    "CASE WHEN typeof(x) LIKE '%[]' THEN json_extract(to_json(x), '$[*]') "
    "ELSE json_extract(to_json(x), '$.*') END, "
    "lambda v: CASE WHEN json_type(v) = 'VARCHAR' THEN v ->> '$' ELSE CAST(v AS VARCHAR) END), "
    "lambda v: v IS NOT NULL AND v <> 'null') "
    "ELSE [CAST(x AS VARCHAR)] END",
    f"emu_tokens(t) AS list_filter(regexp_split_to_array(lower(t), '{_DELIMITERS}'), "
    "lambda w: w <> '')",
    "emu_spaced(t) AS ' ' || array_to_string(emu_tokens(t), ' ') || ' '",
    f"emu_terms(q) AS emu_tokens(regexp_replace(regexp_replace(q, '{_QUOTED}', ' ', 'g'), "
    f"'{_BACKTICKED}', ' ', 'g'))",
    f"emu_phrases(q) AS list_concat(regexp_extract_all(q, '{_QUOTED}'), "
    f"regexp_extract_all(q, '{_BACKTICKED}'))",
    "emu_found(t, q) AS list_has_all(emu_tokens(t), emu_terms(q)) "
    "AND len(list_filter(emu_phrases(q), "
    "lambda p: NOT contains(emu_spaced(t), emu_spaced(trim(p, '\"`'))))) = 0",
    "emu_search(x, q) AS CASE WHEN x IS NULL OR q IS NULL THEN NULL "
    "ELSE emu_found(array_to_string(emu_texts(x), ' ; '), q) END",
    "emu_search_whole(x, q) AS CASE WHEN x IS NULL OR q IS NULL THEN NULL "
    "ELSE list_contains(emu_texts(x), q) END",
    "emu_contains(x, q) AS CASE WHEN x IS NULL OR q IS NULL THEN NULL "
    "ELSE len(list_filter(emu_texts(x), "
    "lambda v: contains(lower(v), lower(CAST(q AS VARCHAR))))) > 0 END",
)


def search_call(node: exp.Anonymous) -> exp.Anonymous | None:
    """The call of a macro of ours for a call of SEARCH; None for any other function."""
    if node.name.upper() != "SEARCH" or len(node.expressions) < 2:
        return None
    searched, query, *options = node.expressions
    if isinstance(searched, exp.Tuple):
        searched = exp.Struct(
            expressions=[
                exp.PropertyEQ(this=exp.to_identifier(f"c{index}"), expression=column.copy())
                for index, column in enumerate(searched.expressions)
            ]
        )
    whole = any("NO_OP_ANALYZER" in option.sql() for option in options)
    name = "emu_search_whole" if whole else "emu_search"
    return exp.Anonymous(this=name, expressions=[searched.copy(), query.copy()])
