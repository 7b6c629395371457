"""Which files of the store nothing needs any more, and removing them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from qcore import InvalidInput
from searcher.artifacts import checkpoint_file, network_file
from searcher.database import described
from searcher.leaderboard import stages_of_best
from searcher.situation import OPEN
from searcher.tables import Evaluation, Stage

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from searcher.artifacts import Artifacts
    from searcher.database import Database

GRACE_SECONDS = 3600.0
"""What is younger stays: a network is written before the result that refers to it is committed."""

_KINDS = {
    "checkpoints": re.compile(r"checkpoints/[0-9a-f]{64}\.(checkpoint|safetensors)"),
    "networks": re.compile(r"networks/([0-9a-f]{2}/)?[0-9a-f]{64}\.safetensors"),
    "leftovers": re.compile(r"(checkpoints|networks)/([0-9a-f]{2}/)?\.[0-9a-f]{64}\.[a-z]+\.[0-9a-f]{16}"),
}
"""What quantrank writes, earlier releases included, and what writing leaves that was cut short. Other files stay."""


@dataclass(frozen=True)
class Garbage:
    """A file that nothing needs."""

    name: str
    """Below the store's root."""
    kind: str
    """checkpoints, networks or leftovers"""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class _Needs:
    known: frozenset[str]
    """Files that some stage has or had."""
    needed: frozenset[str]


def collect_garbage(
    database: Database,
    artifacts: Artifacts,
    *,
    older_than_seconds: float,
    keep_top: int | None = None,
    dry_run: bool = False,
) -> list[Garbage]:
    """Removes what no stage needs and was written long enough ago; returns it. Workers may run beside it, and others
    who collect: what somebody writes meanwhile stays, and what is removed is said by who removed it.

    A checkpoint is needed while its stage is pending or its evaluation open; a network while a stage refers to it and,
    with ``keep_top``, ranks so high, or is the float stage of an open evaluation.

    Raises:
        InvalidInput: when the store is not this database's, or cannot be read or written.
    """
    # Listed before the database is asked: a result committed in between has its network counted as needed.
    found = [
        Garbage(file.name, kind, file.size)
        for file in artifacts.files()
        for kind, pattern in _KINDS.items()
        if pattern.fullmatch(file.name)
    ]
    with database.read() as session:
        needs = _needs(session, keep_top)
    named = [file for file in found if file.kind != "leftovers"]
    if named and not any(file.name in needs.known for file in named):
        problem = f"holds {len(named)} files of which {described(database.url)} knows none"
        remedy = "set QUANTRANK_DATABASE_URL (or _HOME) to the database of the workers that wrote them"
        raise InvalidInput("QUANTRANK_ARTIFACTS", artifacts.location, problem, remedy)
    oldest, collects = max(older_than_seconds, GRACE_SECONDS), artifacts.is_old if dry_run else artifacts.remove_if_old
    return [file for file in found if file.name not in needs.needed and collects(file.name, oldest)]


def _needs(session: Session, keep_top: int | None) -> _Needs:
    best = None if keep_top is None else stages_of_best(session, keep_top)
    query = select(Stage.id, Stage.key, Stage.bit_widths, Stage.status, Stage.network_digest, Evaluation.status).join(
        Evaluation, Evaluation.id == Stage.evaluation_id
    )
    known, needed = set(), set()
    for stage_id, key, bit_widths, status, digest, evaluation_status in session.execute(query):
        is_pending, is_open = status == "pending", evaluation_status in OPEN
        checkpoint, network = checkpoint_file(key), network_file(key, digest)
        known |= {checkpoint, network}
        if is_pending or is_open:
            needed.add(checkpoint)
        if not is_pending and (best is None or stage_id in best or (is_open and bit_widths == "float")):
            needed.add(network)
    return _Needs(frozenset(known), frozenset(needed))
