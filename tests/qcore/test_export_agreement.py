"""Exported networks compute what qcore computes: every activation's codes, and every class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from exporting import (
    Computed,
    Exact,
    Inputs,
    by_onnx_runtime,
    by_packed_file,
    by_qcore,
    digits_test_images,
    digits_test_labels,
    exactly,
    inputs_for,
    random_network,
    trained_networks,
)

from qcore.export import TrainedNetwork

MOST_STEPS_FROM_A_BOUNDARY = 1e-4
"""What float32 leaves open of one layer's values, in its steps: closer to where two codes meet, either is right."""
MOST_RELATIVE_ERROR = 1e-4
"""Of logits, from equal codes: what float32 leaves open after some ten layers without codes."""

COMPUTED: dict[str, Callable[[TrainedNetwork, Inputs], Computed]] = {
    "qcore": by_qcore,
    "onnx": by_onnx_runtime,
    "packed": by_packed_file,
}
EXPORTED = {how: compute for how, compute in COMPUTED.items() if how != "qcore"}
computed = pytest.mark.parametrize("how", COMPUTED)
exported = pytest.mark.parametrize("how", EXPORTED)


def judged(trained: TrainedNetwork, inputs: Inputs, found: Computed) -> Exact:
    """Holds every layer to what the exact one makes of the codes that it read; gives what the exact ones made."""
    exact = exactly(trained, inputs, found.codes)
    assert list(found.codes) == list(exact.steps)
    assert np.isfinite(found.logits).all()
    for name, steps in exact.steps.items():
        beyond = np.abs(found.codes[name].reshape(steps.shape) - steps) - 0.5
        assert beyond.max() <= MOST_STEPS_FROM_A_BOUNDARY, f"{name}: {beyond.max():.2g} steps beyond a boundary"
    assert np.abs(found.logits.reshape(exact.logits.shape) - exact.logits).max() <= error_of(exact)
    return exact


def error_of(exact: Exact) -> float:
    return MOST_RELATIVE_ERROR * float(np.abs(exact.logits).max()) + 1e-30


def assert_agreement(trained: TrainedNetwork, inputs: Inputs, how: str) -> None:
    """Layer by layer from equal codes; and the classes of whole networks, unless codes on a boundary explain others.

    A code on a boundary may change any number of codes behind it, so whole networks differ by what their last codes
    say: their logits, computed exactly.
    """
    expected, found = by_qcore(trained, inputs), COMPUTED[how](trained, inputs)
    exact, exact_found = (judged(trained, inputs, each) for each in (expected, found))
    top = np.sort(exact.logits, 1)
    explained = 2 * (np.abs(exact_found.logits - exact.logits).max(1) + error_of(exact) + error_of(exact_found))
    sure = top[:, -1] - top[:, -2] > explained
    same = found.logits.argmax(1) == expected.logits.argmax(1)
    assert same.reshape(sure.shape)[sure].all()


@exported
@pytest.mark.parametrize(
    "name",
    ["basic-L8-D8", "preact-L8-D8", "depthwise-L11-D4", pytest.param("mobilenetv2-x0.3", marks=pytest.mark.slow)],
)
def test_trained_networks_agree_on_all_test_images_at_w2a2(name: str, how: str) -> None:
    trained = trained_networks(name, ("W2A2",))["W2A2"]
    images = digits_test_images()
    assert len(images) == 359
    assert_agreement(trained, images, how)


@exported
@pytest.mark.parametrize("name", ["basic-L8-D8", "preact-L8-D8", "depthwise-L11-D4"])
def test_exports_of_networks_that_learned_give_their_classes(name: str, how: str) -> None:
    """But for an image here or there with a code on a boundary."""
    trained, images, labels = trained_networks(name, ("W2A2",))["W2A2"], digits_test_images(), digits_test_labels()
    expected, found = (compute(trained, images).logits.argmax(1) for compute in (by_qcore, EXPORTED[how]))
    assert (found == expected).mean() > 0.95
    assert (found == labels).mean() > 0.5


@exported
@pytest.mark.parametrize("bits", ["float", "W2AF", "WFA2", "W8A8", "W3A5"])
@pytest.mark.parametrize("name", ["basic-L8-D5", "preact-L8-D5", "depthwise-L11-D3"])
def test_other_bit_widths_agree(name: str, bits: str, how: str) -> None:
    trained = random_network(name, bits)
    assert_agreement(trained, inputs_for(trained.description, 50), how)


@exported
@pytest.mark.parametrize("levels", ["symmetric", "twos_complement", "mid_rise"])
@pytest.mark.parametrize("step", ["l2", "learned"])
@pytest.mark.parametrize("first_last", [8, "same", None])
def test_every_level_set_and_every_kind_of_step_agrees(levels: str, step: str, first_last: object, how: str) -> None:
    trained = random_network(
        "preact-L8-D4",
        weight_levels=levels,
        weight_step=step,
        activation_step="learned" if step == "learned" else "pact",
        first_last_weight_bits=first_last,
    )
    assert_agreement(trained, inputs_for(trained.description, 50), how)


@exported
@pytest.mark.parametrize("shortcut_bits", [None, 2, 4])
def test_shortcuts_of_other_bits_agree(shortcut_bits: int | None, how: str) -> None:
    trained = random_network("depthwise-L11-D3", shortcut_bits=shortcut_bits)
    assert_agreement(trained, inputs_for(trained.description, 50), how)


@exported
@pytest.mark.parametrize("bits", ["W2A2", "WFA2", "W2AF", "float"])
@pytest.mark.parametrize("name", ["plain-L4-D20", "residual-L5-D20"])
def test_fully_connected_networks_agree_on_points(name: str, bits: str, how: str) -> None:
    trained = random_network(name, bits, task="rings")
    points = np.random.default_rng(1).normal(0, 0.6, (500, 2, 1, 1)).astype(np.float32)
    assert_agreement(trained, points, how)


@exported
@pytest.mark.parametrize("shape", [(3, 9, 7), (1, 1, 5), (2, 3, 3)])
def test_odd_shapes_agree(shape: tuple[int, int, int], how: str) -> None:
    trained = random_network("basic-L8-D3", input_shape=shape)
    assert_agreement(trained, inputs_for(trained.description, 40), how)


@exported
@pytest.mark.parametrize("bits", ["W2A2", "float"])
def test_networks_with_max_pooling_agree(bits: str, how: str) -> None:
    trained = random_network("imagenet-preact-L18-D4-B2.2.2.2", bits, task="imagenet", input_shape=(3, 65, 64))
    assert_agreement(trained, inputs_for(trained.description, 4), how)
    trained = random_network("imagenet-bottleneck-L14-D4-B1.1.1.1", bits, task="imagenet", input_shape=(3, 65, 64))
    assert_agreement(trained, inputs_for(trained.description, 4), how)


@exported
@pytest.mark.parametrize("bits", ["W2A2", "W4A4", "float"])
def test_networks_with_dilation_concatenation_and_resizing_agree_on_every_pixel(bits: str, how: str) -> None:
    trained = random_network("deeplabv3-mobilenetv2-x0.1", bits, task="voc2012", input_shape=(3, 49, 65))
    assert_agreement(trained, inputs_for(trained.description, 4), how)


@exported
def test_sums_that_are_not_quantized_again_agree(how: str) -> None:
    trained = random_network("residual-L5-D20", task="rings", requantized_sums=False)
    points = np.random.default_rng(1).normal(0, 0.6, (200, 2, 1, 1)).astype(np.float32)
    assert_agreement(trained, points, how)


@exported
def test_one_image_alone_computes_as_among_others(how: str) -> None:
    trained = random_network()
    inputs = inputs_for(trained.description, 70)
    together = by_packed_file(trained, inputs)
    for image in (0, 69):
        alone = inputs[image : image + 1]
        assert_agreement(trained, alone, how)
        expected = exactly(trained, alone, {name: codes[image : image + 1] for name, codes in together.codes.items()})
        np.testing.assert_allclose(expected.logits[0], together.logits[image], rtol=1e-9)


@exported
@pytest.mark.parametrize("bits", ["W2A2", "WFA2", "W2AF", "float"])
@pytest.mark.parametrize("times", [0.0, 1e15, 1e-15])
def test_weights_of_zero_huge_and_tiny_ones_survive(times: float, bits: str, how: str) -> None:
    trained = random_network("basic-L8-D3", bits, weights_times=times)
    assert_agreement(trained, inputs_for(trained.description, 30), how)


def test_activation_codes_as_outputs_change_no_class() -> None:
    trained = trained_networks("preact-L8-D8", ("W2A2",))["W2A2"]
    images = digits_test_images()
    plain = by_onnx_runtime(trained, images, with_codes=False)
    assert not plain.codes
    # Nodes that give their values out are not joined with others, which may turn over a code on a boundary.
    close = np.isclose(plain.logits, by_onnx_runtime(trained, images).logits, rtol=1e-3, atol=1e-3).all(1)
    assert close.mean() > 0.95


def test_two_bit_codes_stay_within_two_bits_for_inputs_far_out() -> None:
    trained = random_network("basic-L8-D4")
    inputs = 1e6 * inputs_for(trained.description, 20)
    for compute in EXPORTED.values():
        codes = compute(trained, inputs).codes
        assert {int(code) for each in codes.values() for code in np.unique(each)} == {0, 1, 2, 3}
