"""Experiments of the paper: planned, trained once, resumed, and shown beside what was published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.colors import to_hex

import qcore.reproduce.runner as runner
from qcore import FLOAT, Architecture, BitWidths, DataMissing, InvalidInput, Network, Stage, get_task, override
from qcore.divergence import Divergence
from qcore.paper import Ordering
from qcore.reproduce import EXPERIMENTS, SCALES, Options, Plan, Results, Scale, get_experiment
from qcore.reproduce.comparison import TWO_BITS, W2A2, W2AF, WFA2, holds, verdict
from qcore.reproduce.depth_sweep import nearest_width
from qcore.reproduce.drawings import PAPER_CYCLE
from qcore.reproduce.estimate import stage_seconds, wall_seconds
from qcore.reproduce.experiment import TrainedStage, Variant, divergence_notes, with_epochs, with_policy
from qcore.reproduce.store import checkpoint_path, read_stage, write_stage
from qcore.reproduce.training_methods import with_method
from qcore.statistics import Interval, t_quantile
from qcore.training import CurvePoint, StageResult

DIGITS = get_task("digits")


class Told:
    """What a run said of its progress."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.shares: list[float] = []
        self.labels: list[str] = []

    def start(self, stages: int, stored: int, seconds: float, workers: int) -> None:
        self.started.append((stages, stored))

    def advance(self, share: float, seconds_left: float) -> None:
        assert seconds_left >= 0
        self.shares.append(share)

    def trained(self, label: str, result: TrainedStage) -> None:
        self.labels.append(label)


def small_plan(seeds: tuple[int, ...] = (0,), float_epochs: int = 1) -> Plan:
    recipe = with_epochs(DIGITS.recipe("short"), float_epochs, 1)
    variants = (Variant("small", Architecture("basic", 8, 3), recipe, (W2A2,)),)
    return Plan("smoke", DIGITS, variants, seeds)


def test_every_figure_and_table_of_the_paper_is_there() -> None:
    expected = {f"figure-{n}" for n in range(1, 13)} | {f"table-{n}" for n in range(1, 6)} | {"lsq-comparison"}

    assert set(EXPERIMENTS) == expected
    assert all(experiment.name == name for name, experiment in EXPERIMENTS.items())


def test_an_unknown_experiment_is_refused_with_those_there_are_in_the_papers_order() -> None:
    with pytest.raises(InvalidInput, match="figure-13") as raised:
        get_experiment("figure-13")

    figures, tables = [f"figure-{n}" for n in range(1, 13)], [f"table-{n}" for n in range(1, 6)]
    assert raised.value.remedy == f"use one of {', '.join([*figures, *tables, 'lsq-comparison'])}"


def test_layer_policies_share_what_they_do_not_change() -> None:
    plan = get_experiment("figure-2").plan("cpu", Options())

    stages = plan.stages()
    assert len(plan.variants) == 6
    assert plan.seeds == (0, 1, 2)
    # Float and WFA2 read no policy; W2AF and W2A2 do.
    assert len(stages) == 3 * 3 * (1 + 2 + 1 + 2)
    assert stages[0].bit_widths.is_float


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("scale", SCALES)
def test_no_two_stages_have_one_label(name: str, scale: Scale) -> None:
    plan = get_experiment(name).plan(scale, Options())

    labels = [plan.label(stage) for stage in plan.stages()]

    assert len(set(labels)) == len(labels)


def test_a_label_names_the_conditions_of_stages_that_not_all_share() -> None:
    plan = get_experiment("table-4").plan("smoke", Options(seeds=(0,)))

    of_float, *quantized = (plan.label(stage) for stage in plan.stages())

    assert of_float == "basic-L14-D3 float on digits, seed 0"
    conditions = ("retrain", "L_Lip", "CLR", "L_Lip + CLR", "retrain longer")
    assert quantized == [f"basic-L14-D3 W2A2 on digits, seed 0 ({each})" for each in conditions]


def test_residual_figures_share_weight_quantized_stages_and_nothing_else_at_two_bits() -> None:
    keys = {}
    for name in ("figure-3", "figure-10"):
        plan = get_experiment(name).plan("cpu", Options())
        deep = [stage for stage in plan.stages() if stage.architecture.name == "residual-L8-D128"]
        keys[name] = {bits: {s.key for s in deep if s.bit_widths == bits} for bits in (FLOAT, W2AF, WFA2, W2A2)}

    assert keys["figure-3"][FLOAT] == keys["figure-10"][FLOAT]
    assert keys["figure-3"][W2AF] == keys["figure-10"][W2AF]
    assert not keys["figure-3"][W2A2] & keys["figure-10"][W2A2]


def test_policies_and_seeds_are_the_callers_to_choose() -> None:
    plan = get_experiment("figure-3").plan("smoke", Options(seeds=(7,), policies=("8",)))

    bits = {variant.recipe.retraining.quantizers.first_last_weight_bits for variant in plan.variants}
    assert (plan.seeds, bits) == ((7,), {8})


def test_figure_8_at_paper_scale_is_table_5() -> None:
    plan = get_experiment("figure-8").plan("paper", Options())

    names = [variant.architecture.name for variant in plan.variants]
    assert (plan.task.name, len(names), names[1]) == ("cifar10", 17, "basic-L14-D40")
    assert (
        get_experiment("table-5").plan("cpu", Options()).stages()
        == get_experiment("figure-8").plan("cpu", Options()).stages()
    )


def test_figure_8_compares_networks_of_nearly_equal_size() -> None:
    task = get_task("fashion-mnist-14")
    plan = get_experiment("figure-8").plan("cpu", Options())

    for block in ("basic", "preact", "depthwise"):
        assert sum(variant.architecture.block == block for variant in plan.variants) >= 5
    for variant in plan.variants:
        chosen = variant.architecture
        assert chosen == nearest_width(task, chosen.block, chosen.depth, 40_000)


def test_table_4_follows_section_5_4() -> None:
    recipe = get_task("cifar10").recipe("paper")

    both = with_method(recipe, "L_Lip + CLR", cycles=5).retraining

    assert both.lipschitz_scale == 1e-4
    assert both.cyclic is not None
    assert (both.cyclic.epochs, both.cyclic.base_learning_rate) == (40, pytest.approx(1e-3))
    assert with_method(recipe, "retrain", cycles=5) == recipe


def test_the_cycle_is_the_papers() -> None:
    from qcore.learning_rate import CYCLE

    assert pytest.approx(CYCLE) == PAPER_CYCLE


def test_shortened_recipes_keep_their_shape() -> None:
    short = with_epochs(get_task("cifar10").recipe("paper"), 20, 10)

    assert short.float_part.schedule.milestones == (10, 15)
    assert short.retraining.schedule.milestones == (5, 8)


def test_policies_name_the_bits_of_first_and_last_layer() -> None:
    recipe = DIGITS.recipe("short")

    found = [with_policy(recipe, name).retraining.quantizers.first_last_weight_bits for name in ("float", "8", "same")]

    assert found == [None, 8, "same"]


def test_stages_are_trained_once_and_figures_share_them(tmp_path: Path) -> None:
    first, again, more = Told(), Told(), Told()

    results = runner.run(small_plan(), tmp_path, tmp_path, 1, first)
    repeated = runner.run(small_plan(), tmp_path, tmp_path, 1, again)
    runner.run(small_plan((0, 1)), tmp_path, tmp_path, 1, more)

    assert (first.started, again.started, more.started) == ([(2, 0)], [(2, 2)], [(4, 2)])
    assert first.shares[-1] == pytest.approx(1)
    assert again.labels == []
    assert repeated.trained == results.trained
    assert all(0 <= each.test_accuracy <= 100 for each in results.trained.values() if each.test_accuracy is not None)


@pytest.mark.slow
def test_processes_get_what_one_process_gets(tmp_path: Path) -> None:
    plan = small_plan((0, 1))

    alone = runner.run(plan, tmp_path / "alone", tmp_path, 1, Told())
    shared = runner.run(plan, tmp_path / "shared", tmp_path, 2, told := Told())

    def found(results: Results) -> dict[str, float | None]:
        return {key: each.test_accuracy for key, each in results.trained.items()}

    assert found(shared) == found(alone)
    assert len(told.labels) == 4
    assert told.shares == sorted(told.shares)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan(float_epochs=3)
    whole = runner.run(plan, tmp_path / "whole", tmp_path, 1, Told())
    epochs: list[int] = []
    tracked = runner._Tracker.epoch

    def interrupt(tracker: runner._Tracker, key: str, point: CurvePoint | None = None) -> None:
        assert point is not None
        epochs.append(point.epoch)
        if epochs == [1, 2, 3]:
            raise KeyboardInterrupt
        tracked(tracker, key, point)

    monkeypatch.setattr(runner._Tracker, "epoch", interrupt)
    folder = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        runner.run(plan, folder, tmp_path, 1, Told())
    (float_stage, _) = whole.plan.stages()
    assert checkpoint_path(folder, float_stage).exists()

    resumed = runner.run(plan, folder, tmp_path, 1, Told())

    assert epochs == [1, 2, 3, 3, 1]  # the third epoch was not checkpointed yet; then W2A2's only one
    assert not checkpoint_path(folder, float_stage).exists()
    for stage in whole.plan.stages():
        one, other = resumed.trained[stage.key], whole.trained[stage.key]
        assert (one.test_accuracy, one.status) == (other.test_accuracy, other.status)


def test_a_damaged_file_is_trained_again(tmp_path: Path) -> None:
    plan = small_plan()
    results = runner.run(plan, tmp_path, tmp_path, 1, Told())
    quantized = results.trained[results.plan.stages()[1].key]
    quantized.path.write_bytes(quantized.path.read_bytes()[:100])

    again = runner.run(plan, tmp_path, tmp_path, 1, told := Told())

    assert told.started == [(2, 1)]
    assert again.trained[quantized.key].test_accuracy == quantized.test_accuracy


def test_where_the_float_stage_diverges_nothing_is_retrained(tmp_path: Path) -> None:
    plan = small_plan()
    wild = override(plan.variants[0].recipe, {"float_part": {"schedule": {"learning_rate": 10.0, "momentum": 0.99}}})
    hopeless = with_epochs(wild, 12, 1)
    architecture = Architecture("preact", 56, 3)
    plan = replace(plan, variants=(replace(plan.variants[0], recipe=hopeless, architecture=architecture),))
    float_stage, quantized = plan.stages()

    diverged = TrainedStage(float_stage.key, "diverged", None, None, 1.0, tmp_path)
    queue = runner._Queue(plan, tmp_path)
    assert queue.take() == float_stage
    runner._Tracker(queue, told := Told()).end(float_stage, diverged)

    assert queue.take() is None
    assert queue.trained[quantized.key].status == "diverged"
    assert len(told.labels) == 2


def test_a_run_again_skips_what_would_start_from_a_diverged_float_stage(tmp_path: Path) -> None:
    plan = small_plan()
    float_stage, quantized = plan.stages()
    where = Divergence(3, "stem_conv", "gradient")
    write_stage(tmp_path, float_stage, StageResult("diverged", None, None, (), 1.0, {}, where), {})
    for _ in range(2):
        queue = runner._Queue(plan, tmp_path)
        assert queue.take() is None
        assert queue.trained[float_stage.key].divergence == "gradient of stem_conv not finite at step 3"
        assert queue.trained[quantized.key].status == "diverged"
        write_stage(tmp_path, quantized, StageResult("done", 50.0, 50.0, (), 1.0, {}), {})  # by an earlier release


def test_quantized_stages_wait_for_their_float_stage_and_long_ones_come_first(tmp_path: Path) -> None:
    recipe = with_epochs(DIGITS.recipe("short"), 1, 1)
    variants = [Variant(name, Architecture.parse(name), recipe, TWO_BITS) for name in ("basic-L8-D3", "basic-L20-D16")]
    plan = Plan("smoke", DIGITS, tuple(variants), (0,))
    queue = runner._Queue(plan, tmp_path)

    first, second, third = queue.take(), queue.take(), queue.take()

    assert first is not None
    assert second is not None
    assert [first.architecture.name, second.architecture.name] == ["basic-L20-D16", "basic-L8-D3"]
    assert first.bit_widths.is_float
    assert second.bit_widths.is_float
    assert third is None


def test_missing_data_are_said_before_anything_is_trained(tmp_path: Path) -> None:
    plan = get_experiment("figure-8").plan("paper", Options())
    told = Told()

    with pytest.raises(DataMissing, match="cifar-10-batches-bin"):
        runner.run(plan, tmp_path / "store", tmp_path, 1, told)

    assert told.started == [(17 * 4, 0)]
    assert told.labels == []
    assert not list((tmp_path / "store").iterdir())  # it was made, to see that it can be written, and holds nothing


@pytest.mark.parametrize("name", ["figure-5", "figure-12", "table-2", "table-3"])
def test_a_scale_that_trains_nothing_says_so_before_hours_and_missing_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_stage: Stage) -> float:
        raise AssertionError("estimated")

    monkeypatch.setattr(runner, "stage_seconds", fail)
    told = Told()

    with pytest.raises(InvalidInput, match="scale: 'cpu' is none to train on voc2012 at; use --scale paper"):
        runner.run(get_experiment(name).plan("cpu", Options()), tmp_path, tmp_path, 1, told)

    assert told.started == []


def test_a_scale_that_trains_nothing_shows_what_is_stored(tmp_path: Path) -> None:
    trained = runner.run(small_plan(), tmp_path, tmp_path, 1, Told()).trained

    assert runner.run(replace(small_plan(), trains=False), tmp_path, tmp_path, 1, Told()).trained == trained


def test_longer_and_larger_training_is_estimated_longer() -> None:
    recipe = with_epochs(DIGITS.recipe("short"), 10, 10)
    stage = Stage(DIGITS, Architecture("basic", 8, 8), recipe, 0)

    seconds = stage_seconds(stage)

    assert seconds > 0
    longer = replace(stage, recipe=with_epochs(DIGITS.recipe("short"), 30, 10))
    assert stage_seconds(longer) == pytest.approx(3 * seconds)
    large = Stage(get_task("cifar10"), Architecture("basic", 20, 160), get_task("cifar10").recipe("paper"), 0)
    assert stage_seconds(large) > 3600


def test_processes_take_the_next_run_when_free() -> None:
    assert wall_seconds([4.0, 3.0, 3.0], 2) == 6.0
    assert wall_seconds([], 2) == 0.0


def fake_results(accuracies: dict[str, dict[BitWidths, list[float]]]) -> tuple[Results, dict[str, Variant]]:
    """Results by network and bit widths, a value a seed."""
    recipe = DIGITS.recipe("short")
    variants = {
        name: Variant(name, Architecture("basic", 8, 3 + index), recipe, TWO_BITS)
        for index, name in enumerate(accuracies)
    }
    seeds = range(len(next(iter(next(iter(accuracies.values())).values()))))
    plan = Plan("smoke", DIGITS, tuple(variants.values()), tuple(seeds))
    trained = {}
    for name, by_bits in accuracies.items():
        for bits, values in by_bits.items():
            for seed, value in zip(seeds, values, strict=True):
                key = plan.stage(variants[name], bits, seed).key
                trained[key] = TrainedStage(key, "done", value, None, 0.0, Path())
    return Results(plan, trained), variants


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"wide": 3.0, "deep": 2.5, "small": 1.0}, True),
        ({"wide": 2.5, "deep": 3.0, "small": 1.0}, True),  # one group has no order of its own
        ({"wide": 3.0, "deep": 1.0, "small": 1.0}, False),  # equal is not above
        ({"wide": 3.0, "deep": 0.5, "small": 1.0}, False),
    ],
)
def test_an_order_holds_if_every_better_network_is_above_every_worse(values: dict[str, float], expected: bool) -> None:
    assert holds(Ordering("W2AF", (("wide", "deep"), ("small",)), "here"), values) is expected


def test_a_verdict_counts_the_seeds_in_which_the_order_holds() -> None:
    results, variants = fake_results(
        {"wide": {FLOAT: [99, 99, 99], W2A2: [90, 80, 95]}, "deep": {FLOAT: [99, 99, 90], W2A2: [85, 81, 85]}}
    )

    above = verdict(Ordering("W2A2", (("wide",), ("deep",)), "3.2"), results, variants)
    drop = verdict(Ordering("drop_W2A2", (("deep",), ("wide",)), "5.2"), results, variants)

    assert above is not None
    assert (above.holds, above.seeds_that_hold, above.seeds) == (True, 2, 3)
    assert drop is not None
    assert (drop.holds, drop.seeds_that_hold) == (True, 2)


def test_orders_are_judged_among_the_networks_that_were_run() -> None:
    results, variants = fake_results({"x1": {W2A2: [80]}, "x2": {W2A2: [85]}})

    partial = verdict(Ordering("W2A2", (("x10",), ("x2",), ("x1",)), "5.2"), results, variants)
    alone = verdict(Ordering("W2A2", (("x10",), ("x2",)), "5.2"), results, variants)

    assert partial is not None
    assert partial.statement == "W2A2: x2 above x1"
    assert alone is None


def test_the_map_shows_what_a_network_predicts_where() -> None:
    from qcore.reproduce.pictures import predicted_map

    network = Network(Architecture("plain", 3, 3).layers(get_task("rings")))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        # class 1 where x + y > 0.5
        network.get_parameter("linear1.weight")[0] = torch.tensor([1.0, 1.0])
        network.get_parameter("linear1.bias")[0] = -0.5
        network.get_parameter("linear2.weight")[0, 0] = 1.0
        network.get_parameter("classifier.weight")[1, 0] = 1.0

    found = predicted_map(network, (0.0, 1.0, 0.0, 1.0), 10)

    assert found.shape == (10, 10)
    assert found[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]  # y = 0.05: class 1 from x = 0.55 on
    assert found[:, 0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert found[9].all()


def test_a_stage_that_is_not_stored_is_none(tmp_path: Path) -> None:
    assert read_stage(tmp_path, small_plan().stages()[0]) is None


def made_up(name: str, scale: Scale = "cpu") -> Results:
    """Results of an experiment whose accuracies are made up: the deeper and the fewer bits, the worse."""
    plan = get_experiment(name).plan(scale, Options())
    trained = {}
    for stage in plan.stages():
        lost = stage.architecture.depth * (32 - (stage.bit_widths.activation or 32)) / 100
        accuracy = 95 + stage.architecture.depth / 100 - lost + stage.seed / 10
        trained[stage.key] = TrainedStage(stage.key, "done", accuracy, None, 0.0, Path())
    return Results(plan, trained)


@pytest.mark.parametrize("name", ["figure-8", "table-5", "figure-6", "table-4", "lsq-comparison"])
def test_sweeps_are_reported_and_drawn(name: str, tmp_path: Path) -> None:
    results = made_up(name)
    experiment = get_experiment(name)

    report = experiment.report(results)
    assert experiment.draw is not None
    experiment.draw(results).savefig(tmp_path / "picture.png")

    assert report.tables
    assert all(len(row) == len(table.columns) for table in report.tables for row in table.rows)


@pytest.mark.parametrize("name", ["figure-6", "figure-7", "figure-8"])
def test_every_line_of_a_panel_has_its_own_color(name: str) -> None:
    experiment = get_experiment(name)
    assert experiment.draw is not None

    for panel in experiment.draw(made_up(name)).axes:
        handles, labels = panel.get_legend_handles_labels()
        colors = [to_hex(handle[0].get_color()) for handle in handles]
        assert len(labels) >= 4
        assert len(set(colors)) == len(labels), dict(zip(labels, colors, strict=True))


def test_what_diverged_is_noted_with_where_it_broke() -> None:
    results = made_up("lsq-comparison")
    assert divergence_notes(results) == ()
    stage = results.plan.stages()[1]
    broke = TrainedStage(stage.key, "diverged", None, None, 0.0, Path(), "loss not finite at step 7")
    results.trained[stage.key] = broke
    assert divergence_notes(results) == (
        "1 of 15 stages diverged and are in no mean:",
        f"{stage.label} (L2 + PACT): loss not finite at step 7",
    )


@pytest.mark.parametrize("name", ["figure-2", "figure-6", "figure-7", "figure-8", "table-4", "lsq-comparison"])
def test_a_block_kind_whose_retrainings_all_diverged_is_reported(name: str) -> None:
    results = made_up(name)
    block = results.plan.variants[0].architecture.block
    for stage in results.plan.stages():
        if stage.architecture.block == block and not stage.bit_widths.is_float:
            results.trained[stage.key] = TrainedStage(stage.key, "diverged", None, None, 0.0, Path())

    report = get_experiment(name).report(results)

    assert "diverged" in {cell for table in report.tables for row in table.rows for cell in row}


def test_figure_8_says_how_float_and_quantized_orders_differ() -> None:
    report = get_experiment("figure-8").report(made_up("figure-8"))

    found = {verdict.statement: verdict for verdict in report.verdicts}
    statement = "another seed's W2A2 order predicts the W2A2 order better than its float order does"
    order = found[f"{statement}, basic blocks (our own measure, not the paper's: Kendall's tau)"]
    assert (order.holds, order.published) == (True, "tau -0.20")
    assert order.measured == "tau -1.00 of means; between seeds float -1.00, W2A2 +1.00"
    grows = found["the drop grows with depth, preact blocks (Kendall's tau)"]
    assert (grows.holds, grows.measured, grows.published) == (True, "tau +1.00", "tau +1.00")
    best = found["the best depth at W2A2 is below float's, depthwise blocks"]
    assert (best.holds, best.measured, best.published) == (True, "L11 and L47", "L38 and L110")


def test_figure_8_pools_variance_over_networks() -> None:
    results = made_up("figure-8")

    table = get_experiment("figure-8").report(results).tables[0]

    intervals = [row[table.columns.index("W2A2")] for row in table.rows]
    reaches = {round(each.half_width or 0, 9) for each in intervals if isinstance(each, Interval)}
    assert len(intervals) == 5
    # Every network's seeds are 0.1 apart: the variance is 0.01 on 15 networks x 2 degrees of freedom.
    assert reaches == {round(t_quantile(0.975, 30) * 0.1 / 3**0.5, 9)}


def test_at_paper_scale_published_values_stand_beside_measured_ones() -> None:
    table = get_experiment("table-5").report(made_up("table-5", "paper")).tables[0]

    assert table.rows[1][table.columns.index("W2A2 paper")] == 93.11


def test_figure_6_judges_widths_by_their_drop() -> None:
    report = get_experiment("figure-6").report(made_up("figure-6"))

    deeper = next(each for each in report.verdicts if each.statement == "WFA2: ResNet20 above ResNet44")
    assert (deeper.holds, deeper.seeds_that_hold, deeper.seeds) == (True, 3, 3)
