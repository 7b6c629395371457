"""API keys as their holders have them: made, digested, read from a file."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import TYPE_CHECKING

from qcore import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX = "qr_"
_RANDOM_BYTES = 32
_HINT_CHARACTERS = 7
_USABLE = re.compile(r"[\x21-\x7e]+")


def new_key() -> str:
    """A key of 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def new_token() -> str:
    """What a browser that signed in is known by; as random as a key."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


def digest_of(key: str) -> str:
    """SHA-256, in hexadecimal. What is as random as a key needs no slow hash: nobody can go through all of them."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def hint_of(key: str) -> str:
    """A key's beginning, by which people tell it from others; 24 of its 256 bits."""
    return key[:_HINT_CHARACTERS]


def checked_key(field: str, key: str) -> str:
    """A key that can stand in a header, without the space around it.

    Raises:
        InvalidInput: naming the field, and not the key.
    """
    stripped = key.strip()
    if not _USABLE.fullmatch(stripped):
        raise InvalidInput(field, "(hidden)", "is no API key", "give one that `quantrank keys create` printed")
    return stripped


def read_key_file(field: str, path: Path) -> str:
    """The key that is all of a file.

    Raises:
        InvalidInput: when it cannot be read, or holds something else.
    """
    return checked_key(field, _read(field, path, "a key"))


def read_password_file(field: str, path: Path) -> str:
    """The password that is a file's one line.

    Raises:
        InvalidInput: when it cannot be read, or holds none.
    """
    password = _read(field, path, "a password").rstrip("\r\n")
    if not password or "\n" in password:
        problem = "holds more than one line" if password else "holds no password"
        raise InvalidInput(field, str(path), problem, "write the password there, and nothing else")
    return password


def _read(field: str, path: Path, what: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InvalidInput(field, str(path), f"cannot be read ({reason})", f"name a file that holds {what}") from None
