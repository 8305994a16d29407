"""What a visitor reads, in the visitor's language."""

from __future__ import annotations

import gettext
import subprocess
import sys
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from ckan.tests import factories

from ckanext.bigquery_datastore import config
from ckanext.bigquery_datastore.tests.dump.exporting import Place

REPOSITORY = Path(__file__).resolve().parents[3]
I18N = Path(__file__).resolve().parents[1] / "i18n"
TEMPLATE = I18N / "ckanext-bigquery_datastore.pot"
TRANSLATIONS = sorted(I18N.glob("*/LC_MESSAGES/*.po"))
HINT = "run `make messages`"

# Words that a language has as English does.
ALIKE = {
    "de": {"DataStore"},
    "es": {"DataStore", "Error", "Error:"},
    "fr": {"DataStore", "Formats", "Information", "Message", "Mode"},
}


def catalog(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file)


def strings(path: Path) -> set[str]:
    return {message.id for message in catalog(path) if message.id}


def placeholders(text: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_the_template_has_the_strings_of_the_code_and_no_other(tmp_path):
    found = tmp_path / "found.pot"
    pybabel = Path(sys.executable).with_name("pybabel")
    command = [pybabel, "-q", "extract", "-F", "babel.cfg", "-o", found, "."]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    assert strings(TEMPLATE) == strings(found) != set(), HINT


@pytest.mark.parametrize("path", TRANSLATIONS, ids=lambda path: path.parts[-3])
def test_a_translation_is_complete_and_compiled(path):
    said = {message.id: message.string for message in catalog(path) if message.id}
    assert set(said) == strings(TEMPLATE), HINT
    with path.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for text, translated in said.items():
        if isinstance(text, tuple):
            for number, form in enumerate(translated):
                assert compiled.ngettext(*text, number + 1) == form, HINT
                assert form and placeholders(form) == placeholders(text[number])
        else:
            assert compiled.gettext(text) == translated, HINT
            assert translated and placeholders(translated) == placeholders(text)
            assert translated != text or text in ALIKE[path.parts[-3]]


@pytest.mark.usefixtures("non_clean_db", "datastore", "with_plugins")
@pytest.mark.parametrize(
    ("language", "waiting", "failed"),
    [
        ("de", "Die Tabelle wird exportiert", "Der Download hat nicht geklappt"),
        ("fr", "La table est en cours d", "Le téléchargement a échoué"),
        ("es", "La tabla se está exportando", "La descarga no ha funcionado"),
    ],
)
def test_pages_speak_the_visitors_language(app, monkeypatch, language, waiting, failed):
    resource = factories.Resource()
    place = Place(config.dataset(), config.export_bucket())
    place.fill(resource["id"], [{"name": "one"}], name="STRING")
    monkeypatch.setattr(config, "job_labels", lambda: {"emulator_run_seconds": "60"})
    address = f"/{language}/datastore/dump/{resource['id']}"
    browser = {"Accept": "text/html"}
    page = app.get(address, headers=browser, follow_redirects=False)
    assert (page.status_code, waiting in page.body) == (202, True)
    assert f"/{language}/datastore/dump/{resource['id']}/status" in page.body
    page = app.get(f"{address}?format=xls", headers=browser, follow_redirects=False)
    assert (page.status_code, failed in page.body) == (400, True)
