"""The command line, as others script against it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.cli import main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "ARTIFACTS", "DATASETS", "URL", "LEASE_SECONDS"):
        monkeypatch.delenv(f"QUANTRANK_{name}", raising=False)
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def test_describe_prints_the_costs(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "describe", "basic-L14-D40", "--task", "cifar10")

    assert found["architecture"] == "basic-L14-D40"
    assert found["parameters"] == 1_087_090
    assert found["state_values"] == 1_089_890
    assert found["blocks_per_group"] == [2, 2, 2]
    assert {"macs", "bit_operations", "model_bytes"} <= found.keys()
    assert "W2A2" in found["bit_operations"]
    assert found["model_bytes"]["float"] == 4 * found["parameters"]


def test_describe_prints_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "plain-L6-D128", "--task", "rings"]) == 0

    assert "66,690" in capsys.readouterr().out


def test_candidates_are_the_widest_within_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "candidates", "--task", "cifar10", "--parameter-budget", "1100000")

    names = {each["architecture"] for each in found}
    assert {"basic-L14-D40", "preact-L20-D32", "depthwise-L38-D32"} <= names
    assert all(each["parameters"] <= 1_100_000 for each in found)
    assert len({(each["block"], each["depth"]) for each in found}) == len(found) == 21


def test_candidates_are_within_budgets_of_bytes_and_bit_operations(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["candidates", "--task", "digits", "--bit-widths", "W4A4,W2A2"]
    budgets = ["--model-bytes-budget", "8192", "--bit-operations-budget", "1800000"]
    found = printed(capsys, *arguments, *budgets)
    larger = printed(capsys, *arguments, *budgets[:2])

    assert all(each["model_bytes"]["W4A4"] <= 8192 for each in [*found, *larger])
    assert all(each["bit_operations"]["W4A4"] <= 1_800_000 for each in found)
    assert any(each["bit_operations"]["W4A4"] > 1_800_000 for each in larger)
    assert main([*arguments, *budgets]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Candidates for digits within 8 KiB and 1.8 million bit operations at W4A4\n")
    costs = found[0]["parameters"], found[0]["bit_operations"]["W4A4"], found[0]["model_bytes"]["W4A4"]
    assert all(f"{cost:,}" in shown for cost in costs)


def test_costs_are_those_of_the_recipes_quantizers_as_in_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    at_8_bits = json.dumps({"retraining": {"quantizers": {"first_last_weight_bits": 8}}})
    budget = ["candidates", "--task", "rings", "--blocks", "plain", "--depths", "4", "--model-bytes-budget", "4000"]
    (own,) = printed(capsys, *budget)
    (other,) = printed(capsys, *budget, "--recipe", at_8_bits)

    assert own["width"] < other["width"]
    described = ["describe", other["architecture"], "--task", "rings"]
    assert printed(capsys, *described, "--recipe", at_8_bits)["model_bytes"] == other["model_bytes"]
    assert printed(capsys, *described)["model_bytes"]["W2A2"] > 4000


def test_a_search_without_a_budget_is_refused_before_a_server_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "search", "--task", "digits")
    assert told.startswith("quantrank: parameter_budget is missing")
    assert "model_bytes_budget and bit_operations_budget" in told


def test_describe_takes_aliases_and_prints_the_canonical_name(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "describe", "resnet20-x2", "--task", "cifar10")
    assert found == printed(capsys, "describe", "basic-L20-D32", "--task", "cifar10")
    assert found["architecture"] == "basic-L20-D32"


def test_candidates_are_the_named_architectures(capsys: pytest.CaptureFixture[str]) -> None:
    names = "mobilenetv2-x0.5,resnet20"
    found = printed(
        capsys, "candidates", "--task", "cifar10", "--parameter-budget", "1000000", "--architectures", names
    )
    assert [each["architecture"] for each in found] == ["mobilenetv2-x0.5", "basic-L20-D16"]


def test_evaluate_trains_mobilenetv2(capsys: pytest.CaptureFixture[str]) -> None:
    schedule = {"schedule": {"epochs": 1, "warmup_epochs": 0}}
    recipe = json.dumps({"float_part": {**schedule, "batch_size": 512}, "retraining": schedule})
    arguments = ["--task", "digits", "--bit-widths", "W2A2", "--recipe", recipe]
    found = printed(capsys, "evaluate", "mobilenetv2-x0.05", *arguments)
    assert [stage["status"] for stage in found["stages"]] == ["done", "done"]


def test_evaluate_says_where_a_stage_broke(capsys: pytest.CaptureFixture[str]) -> None:
    schedule = {"epochs": 2, "optimizer": "sgd", "learning_rate": 10, "decay": "steps", "weight_decay": 1}
    recipe = json.dumps({"float_part": {"schedule": {**schedule, "warmup_epochs": 0}, "batch_size": 16}})
    arguments = ["evaluate", "basic-L8-D3", "--task", "digits", "--bit-widths", "W2A2", "--recipe", recipe]
    told = printed(capsys, *arguments)
    (stage,) = told["stages"]
    assert stage["status"] == "diverged"
    assert stage["divergence"]["step"] >= 0
    assert told["recipe_settings"]["float_part"]["batch_size"] == 16
    assert main(arguments) == 0
    shown, broke = capsys.readouterr().out, stage["divergence"]
    assert f"float diverged: {broke['quantity']} of {broke['layer']} not finite at step {broke['step']}" in shown
    assert "short*: float_part.schedule.epochs = 2, " in shown
    assert ", float_part.schedule.decay = steps, " in shown


def test_evaluate_prints_accuracies_per_stage(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = json.dumps({"float_part": {"schedule": {"epochs": 2}}, "retraining": {"schedule": {"epochs": 2}}})
    arguments = ["evaluate", "basic-L8-D4", "--task", "digits", "--bit-widths", "W2A2,WFA4", "--recipe", recipe]

    found = printed(capsys, *arguments)
    again = printed(capsys, *arguments, "--seed", "0")
    other = printed(capsys, *arguments, "--seed", "1")

    assert list(found["accuracies"]) == ["float", "W2A2", "WFA4"]
    assert all(0 <= accuracy <= 100 for accuracy in found["accuracies"].values())
    assert found["accuracies"] == again["accuracies"]
    assert found["accuracies"] != other["accuracies"]
    assert [stage["epochs"] for stage in found["stages"]] == [2, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["describe", "basic-L15-D40", "--task", "cifar10"], "L14"),
        (["describe", "basic", "--task", "cifar10"], "basic-L<depth>-D<width>"),
        (["describe", "L8", "--task", "cifar10"], "<block>-L<depth>-D<width>"),
        (["describe", "plain-L3-D8", "--task", "cifar10"], "basic, preact, depthwise"),
        (["describe", "resnet34", "--task", "cifar10"], "basic, preact, depthwise"),
        (["describe", "resnet21", "--task", "cifar10"], "resnet44-x1.1"),
        (["describe", "mobilenetv2-x0.50", "--task", "cifar10"], "use mobilenetv2-x0.5"),
        (["candidates", "--task", "digits", "--parameter-budget", "9", "--architectures", "resnet20"], "resnet20"),
        (["describe", "basic-L8-D8", "--task", "mnist"], "digits"),
        (["describe", "basic-L8-D8", "--task", "digits", "--bit-widths", "W1A1"], "2 to 8 bits"),
        (["candidates", "--task", "digits", "--parameter-budget", "0"], "parameter_budget"),
        (["candidates", "--task", "digits", "--parameter-budget", "9"], "use at least"),
        (["candidates", "--task", "digits", "--model-bytes-budget", "9"], "use at least 1432"),
        (["candidates", "--task", "digits", "--bit-operations-budget", "-9"], "bit_operations_budget"),
        (["candidates", "--task", "digits"], "give at least one"),
        (["evaluate", "basic-L8-D8", "--task", "cifar10"], "data_batch_1"),
        (["evaluate", "basic-L8-D8", "--task", "digits", "--seed", "-1"], "seed"),
        (["evaluate", "basic-L8-D8", "--task", "digits", "--recipe", "fast"], "short"),
        (["evaluate", "basic-L8-D8", "--task", "digits", "--device", "tpu"], "cpu, cuda"),
        (["evaluate", "basic-L8-D8", "--task", "digits", "--device", "cuda:99"], "--device cpu"),
        (["serve", "--workers", "-1"], "workers"),
        (["serve", "--host", "203.0.113.1"], "--port"),
        (["leaderboard", "--task", "digits", "--url", "localhost:1"], "http://"),
        (["leaderboard", "--task", "digits", "--url", "http://host:port"], "http://"),
        (["evaluate", "basic-L8-D8", "--task", "digits", "--threads", "9999"], "cores"),
        (["serve", "--device", "cuda:99"], "--device cpu"),
    ],
)
def test_unusable_input_ends_with_status_2_and_the_remedy(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert told in refused(capsys, *arguments)


@pytest.mark.parametrize("option", ["--depths=8,x", "--recipe={", '--recipe={"float_part": NaN}', "--seeds="])
def test_an_option_of_the_wrong_form_is_named(capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["search", "--task", "digits", "--parameter-budget", "9", option])

    assert option.split("=")[0] in capsys.readouterr().err


def test_no_server_at_the_url_is_a_failure_that_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "--task", "digits", "--url", "http://127.0.0.1:9"]) == 1

    assert "does not answer" in capsys.readouterr().err


def test_an_unreachable_database_is_named_without_its_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTRANK_DATABASE_URL", "postgresql://user:secret@127.0.0.1:9/quantrank")

    told = refused(capsys, "worker")

    assert "QUANTRANK_DATABASE_URL" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("name", "value"), [("LEASE_SECONDS", "soon"), ("PORT", "70000"), ("DATABASE_URL", "mysql://host/database")]
)
def test_an_unusable_setting_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"QUANTRANK_{name}", value)

    assert f"QUANTRANK_{name}" in refused(capsys, "db", "upgrade")


@pytest.mark.parametrize("command", [["serve"], ["leaderboard", "--task", "digits"], ["db", "upgrade"]])
def test_an_unusable_home_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QUANTRANK_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("QUANTRANK_PORT", "9")

    assert "QUANTRANK_HOME" in refused(capsys, *command)


def test_db_upgrade_makes_the_tables(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    first = printed(capsys, "db", "upgrade")

    assert printed(capsys, "db", "upgrade") == first
    assert (home / "quantrank.db").is_file()


def test_a_worker_refuses_a_database_without_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert "quantrank db upgrade" in refused(capsys, "worker")


IMPORTS = """
import sys
import service.cli
{action}
heavy = {{"torch", "torchvision", "ray", "optuna", "sklearn", "scipy", "fsspec"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "action",
    [
        "",
        "service.cli._parser().format_help()",
        "assert service.cli.main(['describe', 'basic-L8-D8', '--task', 'digits']) == 0",
        "assert service.cli.main(['candidates', '--task', 'rings', '--parameter-budget', '90000']) == 0",
        "import service.commands.serve, service.commands.worker, service.commands.search, service.commands.leaderboard",
        "import service.commands.export, service.commands.gc, service.commands.ray",
    ],
)
def test_torch_and_engines_are_not_imported_until_a_computation_needs_them(action: str) -> None:
    program = IMPORTS.format(action=action)
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
