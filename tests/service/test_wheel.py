"""A built wheel, installed outside the checkout, works: it carries migrations and page files."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``quantrank`` command of a fresh environment; what it depends on is borrowed from this one's."""
    folder = tmp_path_factory.mktemp("wheel")
    run = [sys.executable, "-m"]
    subprocess.run([*run, "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)], check=True)
    subprocess.run([*run, "venv", str(folder / "venv")], check=True)
    python = folder / "venv/bin/python"
    (wheel,) = folder.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")})
    # A path file in a path file's folder is not read, so the checkout's editable install stays out.
    (Path(packages) / "borrowed.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "venv/bin/quantrank"


def test_it_is_the_installed_package_that_runs(installed: Path, tmp_path: Path) -> None:
    script = (
        "import qcore, searcher, service; print(qcore.__file__, searcher.__file__, service.__file__)\n"
        "from qcore.kernels import kernels_of; assert kernels_of('fused')\n"  # from sources that the wheel has to carry
        "import torch; from qcore.provenance import provenance; print(provenance(torch.device('cpu'))['revision'])"
    )
    found = subprocess.run(
        [installed.parent / "python", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "QUANTRANK_REVISION": "0ddba11"},  # as an image is told, whose code is no checkout
        capture_output=True,
        text=True,
        check=True,
    )

    assert str(CHECKOUT) not in found.stdout
    assert found.stdout.splitlines()[-1] == "0ddba11"


def test_it_serves_the_page_on_a_database_it_made(installed: Path, tmp_path: Path) -> None:
    import httpx

    environment = {**os.environ, "QUANTRANK_HOME": str(tmp_path / "home")}
    upgraded = subprocess.run(
        [installed, "db", "upgrade", "--json"], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    assert json.loads(upgraded.stdout)["revision"]
    command = [installed, "serve", "--port", "0", "--workers", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split("ready at ")[1].strip()
        page, style = httpx.get(url), httpx.get(f"{url}/static/style.css")
        posted = httpx.post(f"{url}/search", json={"task": "digits", "parameter_budget": 20_000})
        server.terminate()

    assert (page.status_code, style.status_code, posted.status_code) == (200, 200, 201)
