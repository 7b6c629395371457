"""Networks of any small shape under any bits: odd sizes, strides, widths, single examples, zero and huge weights."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore import BitWidths, Network
from qcore.cost import macs
from qcore.kernels import kernels_of
from qcore.layers import Layer, LayerList, Shape
from qcore.recipe import QuantizerSettings


def small_network(shape: Shape, width: int, kernel: int, stride: int, *, depthwise: bool) -> tuple[Layer, ...]:
    """A stem, a strided convolution beside a projection of its input, their sum, and a classifier."""
    layers = LayerList()
    stem = layers.relu("relu", layers.batch_norm("bn", layers.conv("stem", layers.input(shape), width)))
    groups = width if depthwise else 1
    branch = layers.batch_norm("branch_bn", layers.conv("branch", stem, width, kernel, stride, groups))
    projection = layers.batch_norm("projection_bn", layers.conv("projection", stem, width, 1, stride))
    joined = layers.relu("joined", layers.add("sum", (branch, projection)))
    layers.linear("classifier", layers.global_average_pool("pool", joined), 3)
    return tuple(layers.layers)


@settings(max_examples=80, deadline=None)
@given(
    batch=st.integers(1, 3),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    width=st.integers(1, 20),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    depthwise=st.booleans(),
    weights_times=st.sampled_from([0.0, 1e-10, 1.0, 1e10]),
    bits=st.sampled_from([(2, 2), (2, None), (None, 2), (3, 5), (8, 8)]),
    levels=st.sampled_from(["symmetric", "twos_complement", "mid_rise"]),
    fused=st.booleans(),
)
def test_any_small_network_keeps_to_its_levels_and_stays_finite(
    batch: int,
    shape: Shape,
    width: int,
    kernel: int,
    stride: int,
    depthwise: bool,
    weights_times: float,
    bits: tuple[int | None, int | None],
    levels: str,
    fused: bool,
) -> None:
    layers = small_network(shape, width, kernel, stride, depthwise=depthwise)
    assert macs(layers) > 0
    network = Network(layers, BitWidths(*bits), QuantizerSettings.model_validate({"weight_levels": levels}))
    network.initialize(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for _, layer in network.weight_layers():
            layer.weight.mul_(weights_times)
    network.start_steps()
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))
    network.calibrate(x, 0.02)
    network.fuse(kernels_of("fused" if fused else "plain"))

    outputs: dict[str, torch.Tensor] = {}
    with network.eval().observed(lambda name, output: outputs.update({name: output})):
        logits = network(x)
    assert logits.shape == (batch, 3)
    assert logits.isfinite().all()
    for name, quantizer in network.activation_quantizers():
        assert outputs[name].shape == (batch, *next(layer.shape for layer in layers if layer.name == name))
        if quantizer.levels is not None:
            codes = outputs[name] / quantizer.step_size()
            torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
            assert codes.min() >= quantizer.levels.lowest - 1e-3
            assert codes.max() <= quantizer.levels.highest + 1e-3
    for _, layer in network.weight_layers():
        quantizer = layer.weight_quantizer
        if quantizer is not None:
            codes = (quantizer(layer.weight) / quantizer.step).detach() - quantizer.levels.offset
            assert codes.isfinite().all()
            torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
            assert quantizer.levels.lowest - 1e-3 <= codes.min() <= codes.max() <= quantizer.levels.highest + 1e-3
