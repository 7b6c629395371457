"""Some hundreds of Schemathesis' cases; ``make fuzz`` runs ten thousand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz" / "run.py"


@pytest.mark.slow
def test_schemathesis_finds_no_fault_and_no_answer_that_is_not_described() -> None:
    ended = subprocess.run(
        [sys.executable, str(FUZZ), "--cases", "1", "--examples", "10", "--phases", "examples,fuzzing,stateful"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
    assert int(ended.stdout.rsplit(" cases, nothing found", 1)[0].rsplit("\n", 1)[1]) >= 200
