"""Fused passes: what they compute, for every kernel, against torch's own layers; and networks that train by them."""

from __future__ import annotations

import itertools
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qcore import FLOAT, Architecture, BitWidths, InvalidInput, Network, get_task, override
from qcore.fusion import Step
from qcore.kernels import formulas, kernels_of
from qcore.kernels.clipping import Clipping
from qcore.kernels.compiled import compiled_kernels
from qcore.kernels.functions import Kernels, batch_norm_clip, clip
from qcore.kernels.native import MARCH, agree_with_formulas
from qcore.numerics import has_kernels, resolve_numerics
from qcore.quantizers import ActivationQuantizer, quantize_activation

W2A2, W4A4 = BitWidths(2, 2), BitWidths(4, 4)
CLIPPINGS = [Clipping(3), Clipping(255), Clipping(1, signed=True), Clipping(127, signed=True)]
FLOATS = [Clipping(None), Clipping(None, ceiling=0.8)]


@pytest.fixture(params=["formulas", "fused", "compiled"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    if request.param == "formulas":
        return Kernels.of(formulas)
    if request.param == "compiled":  # traced and run by torch, without the minutes of its C++ compiler
        return compiled_kernels("aot_eager")
    found = kernels_of("fused")
    assert found is not None
    return found


def images(count: int, channels: int, height: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, channels, height, width, generator=generator).to(dtype)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 1.5, channels))
        layer.bias.copy_(torch.linspace(-0.3, 0.6, channels))
        layer.running_mean.copy_(torch.linspace(-1, 1, channels))  # type: ignore[union-attr]
    return layer


def by_torch(x: Tensor, residual: Tensor | None, layer: nn.BatchNorm2d, alpha: Tensor, clipping: Clipping) -> Tensor:
    """The layers one by one."""
    z = layer(x) if residual is None else layer(x) + residual
    if clipping.levels is None:
        return torch.relu(z) if clipping.ceiling is None else z.clamp(0, clipping.ceiling)
    bits = clipping.levels.bit_length() + clipping.signed
    return quantize_activation(z, alpha, bits, signed=clipping.signed)


def steps_to_a_boundary(x: Tensor, residual: Tensor | None, alpha: float, clipping: Clipping) -> float:
    """How close the closest value comes to where two codes meet or clipping begins, computed in float64."""
    z = norm(x.shape[1]).double()(x.double()).detach() + (0 if residual is None else residual.detach().double())
    if clipping.levels is None:
        ends = [0.0] if clipping.ceiling is None else [0.0, clipping.ceiling]
        return min(float((z - end).abs().min()) for end in ends)
    steps = z * clipping.levels / alpha
    to_ends = [float((steps - end).abs().min()) for end in (clipping.levels, -clipping.levels * clipping.signed)]
    inside = steps[steps.abs() < clipping.levels]
    return min(*to_ends, float((0.5 - (inside - inside.round()).abs()).min()) if len(inside) else 1.0)


@pytest.mark.parametrize("clipping", CLIPPINGS + FLOATS)
@pytest.mark.parametrize("has_residual", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (2, 16, 8, 8), (2, 300, 1, 3), (3, 1, 2, 2)])
def test_a_fused_pass_is_batch_norm_sum_and_activation(
    kernels: Kernels, clipping: Clipping, has_residual: bool, shape: tuple[int, int, int, int]
) -> None:
    def drawn(seed: int) -> tuple[Tensor, Tensor | None]:
        return images(*shape, seed=seed), images(*shape, seed=seed + 1) if has_residual else None

    # No value lies where a last bit, which processors differ in, decides its code.
    seed = next(seed for seed in range(100) if steps_to_a_boundary(*drawn(seed), 1.2, clipping) > 2e-4)
    found = []
    for fused in (True, False):
        layer, alpha = norm(shape[1]), torch.tensor(1.2, requires_grad=True)
        x, residual = drawn(seed)
        if fused:
            y = batch_norm_clip(x, residual, layer, alpha if clipping.levels else None, clipping, kernels)
        else:
            y = by_torch(x, residual, layer, alpha, clipping)
        y.backward(images(*shape, seed=seed + 2).detach())  # type: ignore[no-untyped-call]
        gradients = [
            x.grad,
            layer.weight.grad,
            layer.bias.grad,
            alpha.grad,
            None if residual is None else residual.grad,
        ]
        found.append([y.detach(), *gradients, layer.running_mean, layer.running_var, layer.num_batches_tracked])
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=5e-5)


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("is_sum", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_clip_keeps_a_byte_and_passes_pacts_gradient(
    kernels: Kernels, clipping: Clipping, is_sum: bool, dtype: torch.dtype
) -> None:
    a, b = images(4, 5, 6, 7, 1, dtype), images(4, 5, 6, 7, 2, dtype) if is_sum else None
    alpha, expected_alpha = (torch.tensor(1.5, requires_grad=True) for _ in range(2))
    y = clip(a, b, alpha, clipping, kernels)
    (saved, _) = y.grad_fn.saved_tensors  # type: ignore[union-attr]
    assert saved.dtype == torch.uint8
    gradient = images(4, 5, 6, 7, 3, dtype).detach()
    y.backward(gradient)  # type: ignore[no-untyped-call]

    z = (a.detach().float() if b is None else a.detach().float() + b.detach().float()).requires_grad_()
    bits = clipping.levels.bit_length() + clipping.signed  # type: ignore[union-attr]
    expected = quantize_activation(z, expected_alpha, bits, signed=clipping.signed)
    expected.backward(gradient.float())  # type: ignore[no-untyped-call]
    torch.testing.assert_close(y, expected.to(dtype))
    assert z.grad is not None
    torch.testing.assert_close(a.grad, z.grad.to(dtype))
    if b is not None:
        torch.testing.assert_close(b.grad, a.grad)
    torch.testing.assert_close(alpha.grad, expected_alpha.grad, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 5),
    channels=st.integers(1, 70),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    scale=st.sampled_from([0.0, 1e-20, 1.0, 1e10]),
    clipping=st.sampled_from(CLIPPINGS + FLOATS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    has_residual=st.booleans(),
)
def test_native_kernels_compute_the_formulas_at_any_shape(
    count: int,
    channels: int,
    height: int,
    width: int,
    scale: float,
    clipping: Clipping,
    dtype: torch.dtype,
    has_residual: bool,
) -> None:
    native = kernels_of("fused")
    assert native is not None
    x, residual, gradient = (
        (images(count, channels, height, width, seed, dtype).detach() * factor).contiguous(
            memory_format=torch.channels_last
        )
        for seed, factor in ((1, scale), (2, 1.0), (3, 1.0))
    )
    layer, alpha = norm(channels), torch.tensor(0.7)
    found = []
    for of in (native, Kernels.of(formulas)):
        running = torch.zeros(channels), torch.ones(channels)
        given_alpha = alpha if clipping.levels else None
        other = residual if has_residual else None
        weight, bias = layer.weight.detach(), layer.bias.detach()
        y, mean, deviation = of.batch_norm_clip_forward(
            x, other, weight, bias, *running, 0.1, 1e-5, given_alpha, clipping
        )
        # From the same statistics: where the variance is lost in rounding, so is all that follows from it.
        statistics = found[0][1:3] if found else (mean, deviation)
        backward = of.batch_norm_clip_backward(gradient, x, other, weight, bias, *statistics, given_alpha, clipping)
        found.append([y, mean, deviation, *running, *backward])
    ours, theirs = found
    # One value in a thousand may round to the other side, and then differs by a step.
    step = 0.7 / clipping.levels if clipping.levels else 0.0
    off = (ours[0].float() - theirs[0].float()).abs()
    close = off <= 1e-5 * scale + (2**-7 if dtype == torch.bfloat16 else 1e-4)
    assert (close | (off <= step * 1.02)).all()
    assert (~close).sum() <= 1 + off.numel() / 1000
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-5 * scale + 1e-20)
    for each, other_one in zip(ours[5:], theirs[5:], strict=True):
        if each is not None and other_one is not None:
            assert torch.isfinite(each).all()


def test_what_is_no_number_passes_through(kernels: Kernels) -> None:
    x = images(2, 4, 3, 3, 0).detach()
    x[0, 1, 0, 0] = torch.nan
    x = x.contiguous(memory_format=torch.channels_last)
    for clipping in (Clipping(3), Clipping(None)):
        alpha = torch.tensor(1.0) if clipping.levels else None
        y = batch_norm_clip(x, None, norm(4), alpha, clipping, kernels)
        assert y[:, 1].isnan().all()
        assert y[:, 0].isfinite().all()
    y = clip(x, None, torch.tensor(1.0), Clipping(3), kernels)
    assert y.isnan().sum() == 1


def test_kernels_that_compute_wrongly_are_found() -> None:
    right = Kernels.of(formulas)

    def wrong(gradient: Tensor, where: Tensor, clipping: Clipping) -> tuple[Tensor, Tensor]:
        passed, of_alpha = formulas.clip_backward(gradient, where, clipping)
        return passed, of_alpha + (0.5 if clipping.signed else 0)

    assert agree_with_formulas(right)
    assert not agree_with_formulas(replace(right, clip_backward=wrong))


COUNTING_BUILDS = """
import subprocess
run, runs = subprocess.run, []
subprocess.run = lambda command, **rest: (runs.append(command), run(command, **rest))[1]
from qcore.kernels import kernels_of  # which also holds them to the formulas
kernels_of("fused")
print(sum("-shared" in each for each in runs))
"""


@pytest.mark.slow
def test_kernels_are_built_once_for_a_processor_and_kept(tmp_path: Path) -> None:
    """And for the one that is named instead of this machine's, with no wider instructions than it has."""

    def builds(march: dict[str, str]) -> int:
        here = {"XDG_CACHE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, "-c", COUNTING_BUILDS]
        return int(subprocess.run(command, env=here | march, capture_output=True, text=True, check=True).stdout)

    def kept() -> set[Path]:
        return set((tmp_path / "quantrank").glob("kernels-*.so"))

    assert [builds({}), builds({})] == [1, 0]
    native = kept()
    assert len(native) == 1
    lowered = {MARCH: "x86-64-v3" if platform.machine() == "x86_64" else "armv8-a"}
    assert [builds(lowered), builds(lowered), builds({})] == [1, 0, 0]
    (of_lowered,) = kept() - native
    if platform.machine() == "x86_64" and shutil.which("objdump"):
        listed = subprocess.run(["objdump", "-d", of_lowered], capture_output=True, text=True, check=True).stdout
        assert "%ymm" in listed
        assert "%zmm" not in listed


@pytest.mark.slow
def test_candidates_and_bit_widths_share_what_was_compiled() -> None:
    """No candidate of a search waits for a compiler: after one of each kind, none is compiled anew."""
    kernels = compiled_kernels("eager")
    task = get_task("digits")

    def train(name: str, bit_widths: BitWidths, batch: int, size: int) -> None:
        like = replace(task, input_shape=(1, size, size))
        network = Network(Architecture.parse(name).layers(like), bit_widths)
        network.fuse(kernels)
        logits = network(torch.randn(batch, 1, size, size))
        logits.sum().backward()  # type: ignore[no-untyped-call]

    for name in ("basic-L8-D5", "preact-L8-D5", "depthwise-L11-D3", "mobilenetv2-x0.1"):
        for bit_widths in (FLOAT, W2A2):
            train(name, bit_widths, 8, 16)
    with torch._dynamo.config.patch(error_on_recompile=True):
        candidates = itertools.product(
            ("basic-L14-D7", "preact-L14-D11", "depthwise-L20-D4", "mobilenetv2-x0.3"), (7, 12)
        )
        for name, batch in candidates:
            for bit_widths in (FLOAT, W2A2, W4A4, BitWidths(8, 3), BitWidths(2, None), BitWidths(None, 2)):
                train(name, bit_widths, batch, 24)


@pytest.mark.parametrize("bit_widths", [FLOAT, W2A2, W4A4])
@pytest.mark.parametrize(
    "name", ["basic-L8-D4", "preact-L8-D4", "depthwise-L11-D3", "mobilenetv2-x0.1", "residual-L5-D6"]
)
def test_every_step_of_a_fused_network_is_its_layers_one_by_one(name: str, bit_widths: BitWidths) -> None:
    """On what the layers before it gave: through a network of 2 bits, one code at the edge of two changes them all."""
    architecture = Architecture.parse(name)
    task = get_task("rings" if architecture.block == "residual" else "digits")
    network = Network(architecture.layers(task), bit_widths)
    network.initialize(torch.Generator().manual_seed(0))
    x = torch.rand(32, *task.input_shape, generator=torch.Generator().manual_seed(1))
    if not bit_widths.is_float:
        network.start_steps()
        network.calibrate(x, 0.02)
    for training in (True, False):
        network.train(training)
        network.fuse(None)
        outputs = {network.layers[0].name: x}
        with network.observed(lambda layer, output, outputs=outputs: outputs.update({layer: output.detach()})):
            expected = network(x)
        network.fuse(kernels_of("fused"))
        assert len(network.steps) <= len(network.layers) - 1
        for step in network.steps:
            assert_close_but_for_a_code_here_and_there(network, step, outputs)
        assert network(x).shape == expected.shape
        assert torch.isfinite(network(x)).all()
        assert all(layer.quantized_weight is None for _, layer in network.weight_layers())


def assert_close_but_for_a_code_here_and_there(network: Network, step: Step, outputs: dict[str, Tensor]) -> None:
    """Those on the boundary of two codes may differ, by a step."""
    found, expected = step.run(*[outputs[name] for name in step.inputs]).detach(), outputs[step.name]
    activation = network.get_submodule(step.name)
    step_size = 0.0
    if isinstance(activation, ActivationQuantizer) and activation.bits is not None:
        step_size = activation.step_size().item()
    off = (found - expected).abs()
    differ = off > 1e-5 + 1e-4 * expected.abs()
    assert (off[differ] <= 1.01 * step_size).all(), step.name
    assert differ.sum() <= 2 + differ.numel() / 100, step.name


def test_norms_sums_and_activations_are_fused_and_nothing_that_others_read() -> None:
    network = Network(Architecture.parse("preact-L8-D4").layers(get_task("digits")), W2A2)
    network.fuse(kernels_of("fused"))
    fused = {step.name for step in network.steps}
    gone = {layer.name for layer in network.layers[1:]} - fused
    kinds = {layer.name: type(layer).__name__ for layer in network.layers}
    assert {kinds[name] for name in gone} == {"BatchNorm", "Add"}
    for step in network.steps:
        assert not set(step.inputs) & gone


@pytest.mark.parametrize("name", ["basic-L20-D8", "preact-L20-D8", "depthwise-L20-D4", "mobilenetv2-x0.2"])
def test_a_quantized_step_keeps_little_more_than_a_float_step(name: str) -> None:
    """What the backward pass needs, counted where autograd saves it: a guard against regressions without a clock."""
    kept = {}
    for bit_widths in (FLOAT, W2A2):
        network = Network(Architecture.parse(name).layers(get_task("cifar10")), bit_widths)
        network.fuse(kernels_of("fused"))
        storages: dict[int, int] = {}

        def keep(tensor: Tensor, storages: dict[int, int] = storages) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(torch.randn(16, 3, 32, 32)).sum()
        kept[bit_widths] = sum(storages.values())
    assert kept[W2A2] <= 1.15 * kept[FLOAT]


def test_auto_stands_for_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_kernels()
    large, small, points = get_task("fashion-mnist-14"), get_task("digits"), get_task("rings")

    def resolved(task_name: str) -> tuple[str, str]:
        task = get_task(task_name)
        part = resolve_numerics(task.recipe("short"), task, "cpu").float_part
        return part.precision, part.path

    monkeypatch.setattr("qcore.numerics.processor_features", lambda: frozenset({"avx512_bf16"}))
    assert resolved(large.name) == ("bf16", "fused")
    assert resolved(small.name) == resolved(points.name) == ("fp32", "fused")
    monkeypatch.setattr("qcore.numerics.processor_features", frozenset)
    assert resolved(large.name) == ("fp32", "fused")
    monkeypatch.setattr("qcore.numerics.compiler", lambda: None)
    assert resolved(large.name) == ("fp32", "plain")
    for path, device in (("fused", "cpu"), ("compiled", "cpu"), ("fused", "cuda")):
        fixed = override(large.recipe("short"), {"float_part": {"path": path, "precision": "fp32"}})
        with pytest.raises(InvalidInput) as refused:
            resolve_numerics(fixed, large, device)
        assert (refused.value.field, refused.value.value) == ("recipe.float_part.path", path)
