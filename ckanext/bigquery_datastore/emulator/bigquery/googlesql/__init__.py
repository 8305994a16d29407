"""Google's own SQL before DuckDB sees a statement: what GoogleSQL refuses, BigQuery refuses.

GoogleSQL (https://github.com/google/googlesql) is the parser and analyzer that BigQuery is built
on; the package ``zetasql`` brings it as WebAssembly.

| module | what is in it |
|---|---|
| wasm | the module, compiled once and kept; one call at a time |
| language | what of the language BigQuery has |
| catalog | types, tables and parameters as the analyzer wants them |
| functions | functions that BigQuery has and the open source has not |
| reads | of which tables a statement reads which columns and rows |
| rules | what BigQuery refuses beside the analyzer |
| shapes | statements that differ in random names alone |
| judge | one statement, refused or not |
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .judge import Judge

_MISSING = """\
GoogleSQL is not installed ({name} is not there): statements that BigQuery would refuse may
run here. pip install "ckanext-bigquery-datastore[emulator]" brings it.
"""


def judge_or_none() -> Judge | None:
    """The judge of every statement; None, and a word on stderr, where its package is missing."""
    try:
        from .judge import Judge
        from .wasm import Service
    except ImportError as error:
        sys.stderr.write(_MISSING.format(name=error.name))
        return None
    return Judge(Service())
