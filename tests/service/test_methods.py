"""Methods that a path does not have."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/search", "GET", {"POST"}),
        ("/searches", "POST", {"GET"}),
        ("/searches/1", "PATCH", {"GET", "DELETE"}),
        ("/searches/1", "OPTIONS", {"GET", "DELETE"}),
        ("/metrics", "DELETE", {"GET"}),
    ],
)
def test_an_answer_names_all_methods_of_the_path(
    embedded_client: TestClient, path: str, method: str, allowed: set[str]
) -> None:
    answer = embedded_client.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert all(each in answer.json()["detail"] for each in allowed)
