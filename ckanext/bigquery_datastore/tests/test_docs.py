"""The README tells all there is, and nothing that is not there. Needs no running service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ckanext.bigquery_datastore.cli import bigquery
from ckanext.bigquery_datastore.config import ENVIRONMENT
from ckanext.bigquery_datastore.dump.formats import FORMATS

REPOSITORY = Path(__file__).resolve().parents[3]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DECLARATION = REPOSITORY / "ckanext/bigquery_datastore/config_declaration.yaml"

OPTIONS = [
    option["key"]
    for group in yaml.safe_load(DECLARATION.read_text(encoding="utf-8"))["groups"]
    for option in group["options"]
]
ARCHITECTURE = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
PACKAGE = REPOSITORY / "ckanext/bigquery_datastore"
MODULES = sorted(
    file.relative_to(PACKAGE)
    for file in PACKAGE.rglob("*.py")
    if file.name != "__init__.py" and "tests" not in file.parts
)
TARGETS = re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_in_the_readme(option: str) -> None:
    assert f"`{option}`" in README


@pytest.mark.parametrize("name", sorted(ENVIRONMENT.values()))
def test_every_environment_variable_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", sorted(bigquery.commands))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"ckan bigquery {name}" in README


@pytest.mark.parametrize("target", ["demo", "test", "stack", "stop", "check"])
def test_every_make_target_that_people_need_is_in_the_readme(target: str) -> None:
    assert f"make {target}" in README


def test_the_readme_names_no_make_target_that_is_not_there() -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(code_in(README))))
    assert named - set(TARGETS) == set()


def test_the_readme_names_no_option_that_is_not_there() -> None:
    # What has a colon behind it is an application for a server.
    named = set(re.findall(r"ckanext\.bigquery_datastore\.[a-z_]+\b(?!:)", README))
    assert named - set(OPTIONS) == set()


def test_the_readme_names_no_command_that_is_not_there() -> None:
    named = set(re.findall(r"\bckan bigquery ([a-z]+)", README))
    assert named - set(bigquery.commands) == set()


def test_the_readme_links_to_no_file_that_is_not_there() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def code_in(markdown: str) -> list[str]:
    """Fenced blocks and inline code."""
    return re.findall(r"```.*?```|`[^`\n]+`", markdown, re.DOTALL)


def test_the_nginx_configuration_of_the_readme_is_the_one_that_is_tested() -> None:
    tested = (REPOSITORY / "ckanext/bigquery_datastore/tests/dump/nginx.conf").read_text()
    lines = tested.split("# README: begin\n")[1].split("# README: end")[0].strip().splitlines()
    shown = re.findall(r"```nginx\n(.*?)```", README, re.DOTALL)[0].strip().splitlines()
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
