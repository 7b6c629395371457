"""``quantrank reproduce``."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcore import InvalidInput
from qcore.devices import usable_cores
from qcore.reproduce import POLICIES, Options, Results, get_experiment
from qcore.reproduce.experiment import check_options, divergence_notes, recipe_notes
from qcore.statistics import Interval
from service.durations import duration
from service.output import print_json, print_table, progress_bar
from service.settings import load_settings

if TYPE_CHECKING:
    from argparse import Namespace

    from qcore.reproduce import Experiment, Report
    from qcore.reproduce.experiment import Cell, TrainedStage, Verdict

_PICTURES = (".png", ".svg")


def run(arguments: Namespace) -> int:
    """Runs an experiment of the paper and prints what was measured beside what was published."""
    experiment = get_experiment(arguments.experiment)
    options = Options(_given(arguments.seeds), _given(arguments.policy))
    for policy in options.policies or ():
        if policy not in POLICIES:
            raise InvalidInput("policy", policy, "is not known", f"use some of {', '.join(POLICIES)}")
    check_options(experiment, options)
    cores = usable_cores()
    if arguments.workers is not None and not 1 <= arguments.workers <= cores:
        remedy = f"use 1 to {cores}, the cores that are usable here"
        raise InvalidInput("workers", arguments.workers, "is out of range", remedy)
    output = _usable_output(arguments.output, experiment)
    plan = experiment.plan(arguments.scale, options)
    settings = load_settings()
    results = Results(plan)
    missing: InvalidInput | None = None
    if plan.variants:
        from qcore.reproduce.runner import run as train

        try:
            with _Shown(experiment.title) as shown:
                folder = settings.home.absolute() / "reproduce"
                results = train(plan, folder, settings.data_root, arguments.workers or cores, shown)
        except InvalidInput as error:
            if not experiment.reports_untrained:
                raise
            missing = error
    report = experiment.report(results)
    report = replace(report, notes=(*report.notes, *recipe_notes(results.plan), *divergence_notes(results)))
    if arguments.json:
        print_json(_as_json(experiment, results, report))
    else:
        _print(experiment, plan.scale, report)
    if missing is not None:
        raise missing
    if output is not None:
        assert experiment.draw is not None
        experiment.draw(results).savefig(output)
        print(f"drawn: {output}", file=sys.stderr)
    return 0


def _given(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _usable_output(text: str | None, experiment: Experiment) -> Path | None:
    if text is None:
        return None
    output = Path(text)
    if experiment.draw is None:
        raise InvalidInput("output", text, f"cannot be: {experiment.name} has no picture", "leave --output out")
    if output.suffix not in _PICTURES:
        raise InvalidInput("output", text, "is no kind of picture", f"use a name that ends in {' or '.join(_PICTURES)}")
    if not output.absolute().parent.is_dir():
        raise InvalidInput("output", text, "is in no folder that exists", "make the folder first")
    return output


class _Shown:
    """Progress on standard error: a bar on a terminal, a line per trained stage elsewhere."""

    def __init__(self, title: str) -> None:
        self._title, self._bar, self._left = title, progress_bar("stages"), ""
        self._done = self._stages = 0

    def __enter__(self) -> _Shown:
        self._bar.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._bar.__exit__(*details)

    def start(self, stages: int, stored: int, seconds: float, workers: int) -> None:
        self._stages, self._done = stages, stored
        todo = f"{stages} stages, {stored} of them stored already"
        print(f"{self._title}: {todo}; about {duration(seconds)} on {workers} CPU processes", file=sys.stderr)
        self._task = self._bar.add_task("training", total=stages, completed=stored)

    def advance(self, share: float, seconds_left: float) -> None:
        self._left = f"about {duration(seconds_left)} left"
        self._bar.update(self._task, description=f"{share:.0%}, {self._left}")

    def trained(self, label: str, result: TrainedStage) -> None:
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        ended = "diverged" if result.test_accuracy is None else f"{result.test_accuracy:.2f} %"
        if not self._bar.console.is_terminal:
            print(f"{self._done}/{self._stages} {label}: {ended}; {self._left}", file=sys.stderr)


def _print(experiment: Experiment, scale: str, report: Report) -> None:
    for table in report.tables:
        print_table(table.title, table.columns, [[_text(cell) for cell in row] for row in table.rows])
    if report.verdicts:
        print_table(
            "What the paper says, and whether it holds here",
            ["statement", "holds", "seeds", "measured", "paper"],
            [
                [each.statement, "yes" if each.holds else "no", _seeds(each), each.measured or "", each.published or ""]
                for each in report.verdicts
            ],
        )
    for note in (f"{experiment.name} at scale {scale}.", *report.notes):
        print(note)


def _seeds(verdict: Verdict) -> str:
    return "" if verdict.seeds is None else f"{verdict.seeds_that_hold} of {verdict.seeds}"


def _text(cell: Cell) -> str:
    match cell:
        case None:
            return "–"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:.2f}"
        case _:
            return str(cell)


def _as_json(experiment: Experiment, results: Results, report: Report) -> dict[str, Any]:
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "scale": results.plan.scale,
        "task": results.plan.task.name,
        "seeds": list(results.plan.seeds),
        "stages": _stages(results),
        "tables": [
            {
                "title": table.title,
                "rows": [
                    {
                        column: asdict(cell) if isinstance(cell, Interval) else cell
                        for column, cell in zip(table.columns, row, strict=True)
                    }
                    for row in table.rows
                ],
            }
            for table in report.tables
        ],
        "verdicts": [asdict(each) for each in report.verdicts],
        "notes": list(report.notes),
    }


def _stages(results: Results) -> list[dict[str, Any]]:
    from qcore import FLOAT

    found = []
    for variant in results.plan.variants:
        for seed in results.plan.seeds:
            for bits in (FLOAT, *variant.bit_widths):
                trained = results.trained_stage(variant, bits, seed)
                if trained is None:
                    continue
                recipe = results.plan.stage(variant, bits, seed).recipe
                found.append(
                    {
                        "network": variant.network,
                        "architecture": variant.architecture.name,
                        "condition": variant.condition,
                        "recipe": recipe.name,
                        "recipe_hash": recipe.hash(),
                        "recipe_settings": recipe.model_dump(mode="json", exclude={"name"}),
                        "seed": seed,
                        "bit_widths": str(bits),
                        "status": trained.status,
                        "test_accuracy": trained.test_accuracy,
                        "divergence": trained.divergence,
                        "train_seconds": round(trained.train_seconds, 3),
                        "key": trained.key,
                    }
                )
    return found
