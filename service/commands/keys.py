"""``quantrank keys``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from qcore import InvalidInput
from searcher.allowances import ALLOWANCES
from searcher.api_keys import add_key, list_keys, revoke_key
from searcher.database import described
from searcher.schema import require_current, upgrade
from service.access.bootstrap import BOOTSTRAP_NAME
from service.access.roles import Role
from service.access.secrets import digest_of, hint_of, new_key
from service.output import print_json, print_table
from service.schemas.values import to_datetime
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace

    from searcher.database import Database
    from searcher.tables import ApiKey

_MOST_NAME_CHARACTERS = 64
_MOST_ID = 2**63 - 1
_NONE = "–"


def run(arguments: Namespace) -> int:
    """Makes, lists and revokes API keys, where the server's database is."""
    database = load_settings().open_database()
    if database.embedded:
        upgrade(database)  # there may have been no server yet
    else:
        require_current(database)
    action = {"create": _create, "list": _list, "revoke": _revoke}[arguments.action]
    action(arguments, database)
    return 0


def _create(arguments: Namespace, database: Database) -> None:
    name, role = arguments.name, Role(arguments.role)
    _check_name(name)
    allowances = {each: getattr(arguments, each) for each in ALLOWANCES}
    for each, most in ALLOWANCES.items():
        if allowances[each] is not None and not 1 <= allowances[each] <= most:
            raise InvalidInput(each, allowances[each], "is out of range", f"use 1 to {most}, or leave it out")
    key = new_key()
    with database.write() as session:
        if any(each.name == name and each.revoked_at is None for each in list_keys(session)):
            raise InvalidInput("name", name, "is another key's", "choose another, or revoke that one first")
        made = add_key(session, name, role, digest_of(key), hint_of(key), **allowances)
    if arguments.json:
        print_json({**_shown(made), "key": key})
        return
    print(f"Key {made.id}, {name}, may {role}. It is shown this once: only its digest is stored.", file=sys.stderr)
    print(key)


def _list(arguments: Namespace, database: Database) -> None:
    with database.read() as session:
        found = [_shown(key) for key in list_keys(session)]
    if arguments.json:
        print_json(found)
    elif not found:
        print(f"{described(database.url)} has no keys. `quantrank keys create NAME` makes one.")
    else:
        columns = ["number", "name", "role", "limits", "begins with", "created (UTC)", "last used", "revoked"]
        print_table("API keys", columns, [_row(each) for each in found])


def _revoke(arguments: Namespace, database: Database) -> None:
    number = min(arguments.number, _MOST_ID)
    with database.write() as session:
        revoked = revoke_key(session, number) if number > 0 else None
    if revoked is None:
        raise InvalidInput("key", arguments.number, "does not exist", "`quantrank keys list` shows those that do")
    if arguments.json:
        print_json(_shown(revoked))
    else:
        print(f"Key {revoked.id}, {revoked.name}, lets nobody in any more.")


def _check_name(name: str) -> None:
    if not name.strip() or not name.isprintable() or len(name) > _MOST_NAME_CHARACTERS:
        remedy = f"use 1 to {_MOST_NAME_CHARACTERS} printable characters, e.g. the holder's name"
        raise InvalidInput("name", name[:_MOST_NAME_CHARACTERS], "is no name for a key", remedy)
    if name == BOOTSTRAP_NAME:
        raise InvalidInput("name", name, "is kept for the key of QUANTRANK_BOOTSTRAP_KEY_FILE", "choose another")


def _shown(key: ApiKey) -> dict[str, Any]:
    times = {"created_at": key.created_at, "last_used_at": key.last_used_at, "revoked_at": key.revoked_at}
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "hint": key.hint,
        **{each: getattr(key, each) for each in ALLOWANCES},
        **{
            name: None if time is None else to_datetime(time).isoformat(timespec="seconds")
            for name, time in times.items()
        },
    }


def _row(key: dict[str, Any]) -> list[str]:
    times = [
        _NONE if key[name] is None else key[name][:16].replace("T", " ")
        for name in ("created_at", "last_used_at", "revoked_at")
    ]
    limits = [f"{each.removeprefix('max_')} {key[each]:,}" for each in ALLOWANCES if key[each] is not None]
    return [str(key["id"]), key["name"], key["role"], ", ".join(limits) or _NONE, f"{key['hint']}…", *times]
