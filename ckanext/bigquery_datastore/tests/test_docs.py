"""README and docs tell all there is, and nothing that is not there. Needs no running service."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from ckanext.bigquery_datastore import errors
from ckanext.bigquery_datastore.cli import bigquery
from ckanext.bigquery_datastore.config import ENVIRONMENT
from ckanext.bigquery_datastore.dump.formats import FORMATS
from ckanext.bigquery_datastore.logic.schema import dump_schema, dump_sql_schema

REPOSITORY = Path(__file__).resolve().parents[3]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DECLARATION = REPOSITORY / "ckanext/bigquery_datastore/config_declaration.yaml"

PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
# As a reader sees them: the options are filled in.
filled = runpy.run_path(str(REPOSITORY / "docs/hooks.py"))["on_page_markdown"]
DOCUMENTATION = "\n".join([README, *(filled(page.read_text(encoding="utf-8")) for page in PAGES)])

ERRORS = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.BigQueryDatastoreError)
]

# What a schema has for itself.
NOT_FOR_PEOPLE = {"__before", "__junk"}

PROGRAMS = {"ckan", "pip", "make", "curl", "gcloud", "bq", "CKAN_INI=/etc/ckan/default/ckan.ini"}
PROGRAMS |= {"READ=serviceAccount:ckan-read@my-project.iam.gserviceaccount.com"}
PROGRAMS |= {"WRITE=serviceAccount:ckan-write@my-project.iam.gserviceaccount.com"}

OPTIONS = [
    option["key"]
    for group in yaml.safe_load(DECLARATION.read_text(encoding="utf-8"))["groups"]
    for option in group["options"]
]


def command_lines() -> Iterator[str]:
    """The lines of all blocks that are for a shell, continued ones as one."""
    for indent, block in re.findall(r"^( *)```sh\n(.*?)^ *```", DOCUMENTATION, re.DOTALL | re.M):
        lines = block.replace("\\\n", " ").splitlines()
        yield from (line.removeprefix(indent).strip() for line in lines)


OUR_COMMANDS = sorted(
    {
        found[1]
        for line in [*command_lines(), *re.findall(r"`(ckan bigquery [^`\n]+)`", DOCUMENTATION)]
        if (found := re.match(r"ckan bigquery (\w+( .*)?)$", line.partition(" #")[0].strip()))
    }
)

ARCHITECTURE = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
PACKAGE = REPOSITORY / "ckanext/bigquery_datastore"
MODULES = sorted(
    file.relative_to(PACKAGE)
    for file in PACKAGE.rglob("*.py")
    if file.name != "__init__.py" and "tests" not in file.parts
)
TARGETS = re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_documented(option: str) -> None:
    assert f"`{option}`" in DOCUMENTATION


@pytest.mark.parametrize("name", sorted(ENVIRONMENT.values()))
def test_every_environment_variable_is_documented(name: str) -> None:
    assert name in DOCUMENTATION


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_is_documented(name: str) -> None:
    assert f"`{name}`" in DOCUMENTATION


@pytest.mark.parametrize("name", sorted(bigquery.commands))
def test_every_command_is_documented(name: str) -> None:
    assert f"ckan bigquery {name}" in DOCUMENTATION


@pytest.mark.parametrize("name", sorted({*dump_schema(), *dump_sql_schema()} - NOT_FOR_PEOPLE))
def test_every_parameter_of_a_download_is_documented(name: str) -> None:
    assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", DOCUMENTATION)


@pytest.mark.parametrize("status", sorted({error.status for error in ERRORS} - {500}))
def test_every_status_of_a_refusal_is_documented(status: int) -> None:
    assert re.search(rf"^\| .*\b{status}\b", DOCUMENTATION, re.MULTILINE)


@pytest.mark.parametrize("target", ["demo", "test", "stack", "stop", "check"])
def test_every_make_target_that_people_need_is_in_the_readme(target: str) -> None:
    assert f"make {target}" in README


def test_no_make_target_is_named_that_is_not_there() -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(code_in(DOCUMENTATION))))
    assert named - set(TARGETS) == set()


def test_no_option_is_named_that_is_not_there() -> None:
    # What has a colon behind it is an application for a server.
    named = set(re.findall(r"ckanext\.bigquery_datastore\.[a-z_]+\b(?!:)", DOCUMENTATION))
    assert named - set(OPTIONS) - {"ckanext.bigquery_datastore.asgi"} == set()


def test_no_command_is_named_that_is_not_there() -> None:
    named = set(re.findall(r"\bckan bigquery ([a-z]+)", DOCUMENTATION))
    assert named - set(bigquery.commands) == set()


@pytest.mark.parametrize("line", OUR_COMMANDS)
def test_every_command_line_of_ours_is_one_that_click_takes(line: str) -> None:
    name, *arguments = shlex.split(line)
    context = click.Context(bigquery.commands[name], info_name=name, resilient_parsing=True)
    _, left, _ = bigquery.commands[name].make_parser(context).parse_args(arguments)
    assert left == []


def test_every_other_command_line_is_of_a_program_that_we_mean() -> None:
    """Google's, and those of an operator's own machine; ``curl`` is asked in test_api_clients."""
    programs = {shlex.split(line, comments=True)[0] for line in command_lines() if line}
    assert programs - PROGRAMS == set()


def test_no_link_goes_to_a_file_that_is_not_there() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def code_in(markdown: str) -> list[str]:
    """Fenced blocks and inline code."""
    return re.findall(r"```.*?```|`[^`\n]+`", markdown, re.DOTALL)


def test_the_nginx_configuration_of_the_docs_is_the_one_that_is_tested() -> None:
    tested = (REPOSITORY / "ckanext/bigquery_datastore/tests/dump/nginx.conf").read_text()
    lines = tested.split("# README: begin\n")[1].split("# README: end")[0].strip().splitlines()
    shown = re.findall(r"```nginx\n(.*?)```", DOCUMENTATION, re.DOTALL)[0].strip().splitlines()
    assert [line.strip() for line in shown] == [line.strip() for line in lines]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_is_in_its_room_of_the_architecture(module: Path) -> None:
    assert module.stem in rooms().get(f"{module.parent}/", ())


def test_the_architecture_names_no_module_that_is_not_there() -> None:
    named = {Path(room, f"{name}.py") for room, names in rooms().items() for name in names}
    assert named - set(MODULES) == set()


def rooms() -> dict[str, list[str]]:
    """The modules that ARCHITECTURE.md names, by their folder."""
    found = {}
    for line in ARCHITECTURE.partition("## The rooms")[2].splitlines():
        if row := re.fullmatch(r"\| `([\w/.]+)` \| (.*?) \| (.*) \|", line):
            found[row[1]] = re.findall(r"`(\w+)`", row[2])
    return found
