"""What the pages take from the repository itself: the options, and the architecture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
DECLARATION = REPOSITORY / "ckanext/bigquery_datastore/config_declaration.yaml"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its marks, ``{{ options }}`` and ``{{ architecture }}``, filled in."""
    for mark, filled in {"options": options, "architecture": architecture}.items():
        if (place := f"{{{{ {mark} }}}}") in markdown:
            markdown = markdown.replace(place, filled())
    return markdown


def options() -> str:
    """Each declared option: its key, default and example, and what it does."""
    found = []
    for group in yaml.safe_load(DECLARATION.read_text(encoding="utf-8"))["groups"]:
        for option in group["options"]:
            lines = [f"### `{option['key']}`", "", " ".join(option["description"].split()), ""]
            default = option.get("default", option.get("placeholder"))
            if default is not None:
                lines += [f"Default: `{_as_in_ini(default)}`", ""]
            lines += ["```ini", f"{option['key']} = {_as_in_ini(option['example'])}", "```", ""]
            found += lines
    return "\n".join(found)


def architecture() -> str:
    """ARCHITECTURE.md without its title; its links go to this site or nowhere."""
    text = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return re.sub(r"\A# .*\n", "", text)


def _as_in_ini(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
