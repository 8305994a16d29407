"""The menu of formats: what each is for, in words, and the address that gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ckan import plugins as p
from ckan.plugins import toolkit as tk
from ckanext.datastore import interfaces

from ckanext.bigquery_datastore import downloads
from ckanext.bigquery_datastore.backend.table.lookup import TABLES
from ckanext.bigquery_datastore.dump.formats import FORMATS, Format

# What people want the file for: the groups of the menu, in their order.
_SPREADSHEET, _TOOLS, _WEB, _MORE = "spreadsheet", "tools", "web", "more"


@dataclass(frozen=True)
class Item:
    """One format: ``name`` is the parameter's value, ``words`` say what it is good for."""

    name: str
    title: str
    words: str
    url: str


@dataclass(frozen=True)
class Group:
    """Formats that serve the same purpose."""

    name: str
    title: str
    items: tuple[Item, ...]


def groups(resource_id: str) -> list[Group]:
    """The formats of a resource by their use, in the visitor's language. Asks nothing of Google."""
    titles = {
        _SPREADSHEET: tk._("For a spreadsheet"),
        _TOOLS: tk._("For data tools"),
        _WEB: tk._("For the web and programs"),
        _MORE: tk._("More formats"),
    }
    basename, words, others = downloads.basename_of(resource_id), _words(), of_plugins()
    by_use: dict[str, list[Item]] = {use: [] for use in titles}
    order = list(words)
    offered = downloads.formats_of(TABLES.peek(resource_id))
    offered.sort(key=lambda row: order.index(row.name) if row.name in words else len(order))
    for format_ in offered:
        if format_.name not in others:
            use, text = words.get(format_.name, (_MORE, ""))
            url = address(resource_id, basename, format_, bom=format_.bom)
            by_use[use].append(Item(format_.name, format_.title, text, url))
    for name, row in others.items():
        if row is not None:
            url = tk.h.url_for("datastore.dump", resource_id=resource_id, format=name)
            by_use[_MORE].append(Item(name, str(row.get("label") or name), "", url))
    return [Group(use, titles[use], tuple(items)) for use, items in by_use.items() if items]


def address(
    resource_id: str, basename: str, format_: Format, *, bom: bool = False, qualified: bool = False
) -> str:
    """The address of a whole table as a file with a name.

    ``qualified``: with the site's own, in no language, for programs.
    """
    outside = {"qualified": True, "locale": "default"} if qualified else {}
    url = tk.h.url_for(
        "bigquery_datastore.download_named",
        resource_id=resource_id,
        name=f"{basename}.{format_.extension}",
        **({"bom": True} if bom else {}),
        **outside,
    )
    # What a shell or another language may take for its own; Werkzeug leaves it as it is.
    for char in "'!$()*;":
        url = url.replace(char, f"%{ord(char):02X}")
    return url


def of_plugins() -> dict[str, Mapping[str, Any] | None]:
    """The formats that other plugins bring, which core's view writes; None: one is taken away.

    https://github.com/ckan/ckan/pull/9345, which no released CKAN has: 2.12 neither.
    """
    found: dict[str, Mapping[str, Any] | None] = {}
    for plugin in _implementations():
        found.update(plugin.register_dump_formats())
    return {name: row for name, row in found.items() if row is None or name not in FORMATS}


def _implementations() -> list[Any]:
    interface = getattr(interfaces, "IDatastoreDump", None)
    return list(p.PluginImplementations(interface)) if interface else []


def _words() -> dict[str, tuple[str, str]]:
    """What each format is for, and how it is told; in the order of the menu."""
    return {
        "csv": (_SPREADSHEET, tk._("Opens in Excel, LibreOffice and Google Sheets.")),
        "tsv": (_SPREADSHEET, tk._("The same with tabs, to be pasted into a sheet.")),
        "parquet": (_TOOLS, tk._("Small and fast, with types: pandas, R, DuckDB, Spark.")),
        "csv.gz": (_TOOLS, tk._("CSV, much smaller; most tools read it as it is.")),
        "tsv.gz": (_TOOLS, tk._("TSV, much smaller.")),
        "ndjson": (_TOOLS, tk._("One JSON object a line, to be read row by row.")),
        "ndjson.gz": (_TOOLS, tk._("The same, much smaller.")),
        "json": (_WEB, tk._("One document, for scripts and web pages.")),
        "xml": (_WEB, tk._("One document, for programs that want XML.")),
        "geojson": (_WEB, tk._("Places on a map, as web maps and QGIS read them.")),
        "geojsonl": (_WEB, tk._("One place a line, for maps with many of them.")),
    }
