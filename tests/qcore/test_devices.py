"""What a process takes of the host it is on."""

from __future__ import annotations

import pytest

from qcore import devices
from qcore.devices import default_loader_processes, take_share


@pytest.fixture(autouse=True)
def _alone_on_twelve_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_share_of_cores", None)
    monkeypatch.setattr(devices, "usable_cores", lambda: 12)


@pytest.mark.parametrize(("share", "expected"), [(None, 8), (12, 8), (3, 3), (1, 1), (0, 1)])
def test_beside_a_gpu_a_process_has_as_many_decode_as_its_share_of_the_cores_allows(
    share: int | None, expected: int
) -> None:
    if share is not None:
        take_share(share)
    assert default_loader_processes("cuda") == expected
    assert default_loader_processes("cpu") == 0
