"""An editor at work with Table Designer: every step is a form of a real site, posted as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import requests
from ckan.tests import factories, helpers
from lxml import html

PASSWORD = "correct horse"


class Editor:
    """A person who may edit one dataset, logged in to one or more sites of one database."""

    def __init__(self) -> None:
        user = factories.User(password=PASSWORD)
        owner = factories.Organization(users=[{"name": user["id"], "capacity": "editor"}])
        self.name = user["name"]
        self.dataset = factories.Dataset(owner_org=owner["id"])["name"]
        self.sessions: dict[str, requests.Session] = {}

    def at(self, site: Any) -> requests.Session:
        """This person's browser at a site, logged in."""
        if site.url not in self.sessions:
            session = self.sessions[site.url] = requests.Session()
            form = {"login": self.name, "password": PASSWORD}
            answer = session.post(f"{site.url}/user/login", data=form, timeout=120)
            assert "/dashboard" in answer.url, answer.text
        return self.sessions[site.url]

    def table(self, site: Any, name: str = "A table") -> Table:
        """A new resource, made by the button "Table Designer" of the resource form."""
        form = {"id": "", "name": name, "url": "", "url_type": "tabledesigner", "save": ""}
        answer = self.at(site).post(
            f"{site.url}/dataset/{self.dataset}/resource/new", data=form, timeout=120
        )
        assert answer.status_code == 200, _said(answer)
        found = helpers.call_action("package_show", id=self.dataset)["resources"][-1]
        assert (found["name"], found["url_type"]) == (name, "tabledesigner")
        return Table(self, site, found["id"])


class Table:
    """A Table Designer resource, as its editor has it before them."""

    def __init__(self, editor: Editor, site: Any, id: str) -> None:
        self.editor, self.site, self.id = editor, site, id

    def url(self, page: str) -> str:
        return f"{self.site.url}/dataset/{self.editor.dataset}/{page}"

    def get(self, page: str, **params: Any) -> Any:
        answer = self.editor.at(self.site).get(self.url(page), params=params, timeout=120)
        assert answer.status_code == 200, _said(answer)
        return html.fromstring(answer.text)

    def post(self, page: str, form: Mapping[str, Any], **params: Any) -> requests.Response:
        return self.editor.at(self.site).post(
            self.url(page), data=form, params=params, timeout=120, allow_redirects=False
        )

    # --- the data dictionary

    def design(self, *fields: Mapping[str, Any]) -> list[str]:
        """Save the data dictionary page with these fields; what it refuses, [] when it is saved."""
        form = {}
        for place, given in enumerate(fields, 1):
            info = given.get("info") or {"label": "", "notes": ""}
            form.update({f"info__{place}__{key}": value for key, value in info.items()})
            rest = {"tdpkreq": "", **{k: v for k, v in given.items() if k != "info"}}
            form.update({f"fields__{place}__{key}": value for key, value in rest.items()})
        answer = self.post(f"dictionary/{self.id}", form)
        if answer.status_code == 302:
            return []
        assert answer.status_code == 200, _said(answer)
        page = html.fromstring(answer.text)
        return [_text(item) for item in page.xpath(f"//*[{_has('error-explanation')}]//li")]

    def dictionary(self) -> dict[str, dict[str, str]]:
        """What a visitor reads in the data dictionary: for each field its entries."""
        found = {}
        for box in self.get(f"resource/{self.id}").xpath(f"//*[{_has('accordion-item')}]"):
            heading = _text(box.xpath(f".//*[{_has('accordion-header')}]")[0])
            # CKAN 2.11 writes no space behind the number.
            name = heading.partition(".")[2].strip()
            found[name] = _text(box).removeprefix(heading).strip()
        return found

    def form(self) -> dict[str, str]:
        """The data dictionary page as an editor finds it: each input's value by its name."""
        page = self.get(f"dictionary/{self.id}")
        return _inputs(page.xpath(f"//*[{_has('tabledesigner-fields-group')}]")[0])

    # --- rows

    def add(self, *values: str) -> dict[str, str]:
        """Fill in "Add row"; the errors shown, by the field they stand at, {} when it is saved."""
        return self._saved(f"tabledesigner/{self.id}/add-row", values)

    def edit(self, _id: int, *values: str) -> dict[str, str]:
        """Fill in "Edit row"; see ``add``."""
        return self._saved(f"tabledesigner/{self.id}/edit-row", values, _id=_id)

    def edited(self, _id: int) -> list[str]:
        """The values that "Edit row" offers."""
        page = self.get(f"tabledesigner/{self.id}/edit-row", _id=_id)
        form = _inputs(page.xpath("//form[contains(@action, 'edit-row')]")[0])
        return [value for name, value in form.items() if name.startswith("col__")]

    def delete(self, *ids: int) -> None:
        page = f"tabledesigner/{self.id}/delete-rows"
        assert len(self.get(page, _id=ids).xpath("//table/tbody/tr")) == len(ids)
        assert self.post(page, {}, _id=ids).status_code == 302

    def _saved(self, page: str, values: Sequence[str], **params: Any) -> dict[str, str]:
        form = {f"col__{place}__value": value for place, value in enumerate(values, 1)}
        answer = self.post(page, form, **params)
        if answer.status_code == 302:
            return {}
        assert answer.status_code == 200, _said(answer)
        found = {}
        for block in html.fromstring(answer.text).xpath(f"//*[{_has('error-block')}]"):
            label = block.xpath("ancestor::*[.//label][1]//label")[0]
            found[_text(label)] = _text(block)
        assert found, "refused, and not a word at any field"
        return found

    # --- the API

    def call(self, action: str, **data: Any) -> Any:
        """An action's result as the editor; where it is refused, the errors."""
        answer = self.editor.at(self.site).post(
            f"{self.site.url}/api/3/action/{action}", json=data, timeout=120
        )
        body = answer.json()
        return body["result"] if body["success"] else body["error"]

    def rows(self) -> list[dict[str, Any]]:
        return self.call("datastore_search", resource_id=self.id, sort="_id")["records"]

    def csv(self) -> str:
        answer = requests.get(f"{self.site.url}/datastore/dump/{self.id}", timeout=120)
        assert answer.status_code == 200, _said(answer)
        return answer.content.decode("utf-8")


def _has(name: str) -> str:
    """XPath for an element of a CSS class."""
    return f"contains(concat(' ', @class, ' '), ' {name} ')"


def _text(tag: Any) -> str:
    return " ".join(tag.text_content().split())


def _inputs(form: Any) -> dict[str, str]:
    return {
        tag.name: (tag.value or "").strip("\n")
        for tag in form.xpath(".//input | .//textarea | .//select")
        if tag.name
    }


def _said(answer: requests.Response) -> str:
    """The end of a page that was not expected: where the reason stands."""
    return f"{answer.status_code} {answer.url}: …{answer.text[-600:]}"
