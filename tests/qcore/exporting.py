"""What the tests of exported networks share: networks to export, and what qcore computes with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from qcore import Architecture, BitWidths, Network, evaluate, get_task, override
from qcore.export import NetworkDescription, TrainedNetwork, deploy, execute, pack, to_onnx, unpack
from qcore.export.executor import Values, compute_layer, normalize
from qcore.layers import Input
from qcore.recipe import QuantizerSettings

Inputs = npt.NDArray[np.float32]
Codes = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Computed:
    """Logits (N, classes) and the codes of every quantized activation layer."""

    logits: npt.NDArray[Any]
    codes: Codes


@cache
def random_network(
    name: str = "basic-L8-D5",
    bits: str = "W2A2",
    *,
    task: str = "digits",
    input_shape: tuple[int, int, int] | None = None,
    weights_times: float = 1.0,
    seed: int = 0,
    **settings: Any,
) -> TrainedNetwork:
    """An untrained network whose batch normalizations have statistics of data, and scales of both signs."""
    shaped = get_task(task)
    if input_shape is not None:
        channels = input_shape[0]
        shaped = replace(
            shaped, input_shape=input_shape, mean=(0.3, 0.5, 0.7)[:channels], std=(0.4, 0.3, 0.2)[:channels]
        )
    quantizers = QuantizerSettings(**settings)
    description = NetworkDescription.of(Architecture.parse(name), shaped, BitWidths.parse(bits), quantizers)
    generator = torch.Generator().manual_seed(seed)
    x = normalized(description, inputs_for(description, 64, seed))
    start = Network(description.layers)
    start.initialize(generator)
    with torch.no_grad():
        for _, layer in start.weight_layers():
            layer.weight *= weights_times
        _prepare_batch_norms(start, generator)
        start.train()(x)
        network = Network(description.layers, description.bit_widths, quantizers)
        network.load_state_dict(start.state_dict(), strict=False)
        network.start_steps()
        network.calibrate(x, 0.02)
        _prepare_batch_norms(network, generator)
        network.train()(x)
    return TrainedNetwork(description, {name: values.numpy() for name, values in network.state_dict().items()})


def _prepare_batch_norms(network: Network, generator: torch.Generator) -> None:
    """Scales of both signs, and statistics that are those of the next batch."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1.0, 1.0, generator=generator)
            torch.nn.init.normal_(module.bias, 0.0, 0.5, generator=generator)
            module.momentum = 1.0


FEW_EPOCHS = {
    "float_part": {"schedule": {"epochs": 3, "warmup_epochs": 0}},
    "retraining": {"schedule": {"epochs": 2, "warmup_epochs": 0}},
}
FOR_MOBILENETV2 = {
    "float_part": {"schedule": {"epochs": 3, "learning_rate": 0.02}},
    "retraining": {"schedule": {"epochs": 2}, "quantizers": {"weight_levels": "mid_rise"}},
}
"""With ternary weights most of its depthwise channels are zero on images of 8x8, which it does not learn anyway."""


@cache
def trained_networks(name: str, bits: tuple[str, ...], task: str = "digits") -> dict[str, TrainedNetwork]:
    """The float stage and one for each bit widths, by their bit widths; all but MobileNetV2 learn to classify."""
    shaped = get_task(task)
    recipe = override(shaped.recipes[0], FOR_MOBILENETV2 if name.startswith("mobilenetv2") else FEW_EPOCHS)
    widths = [BitWidths.parse(each) for each in bits]
    found = {}
    for stage, result in evaluate(Architecture.parse(name), shaped, widths, recipe=recipe, data_root=Path()):
        assert result.status == "done"
        state = {key: values.numpy() for key, values in result.state.items()}
        found[str(stage.bit_widths)] = TrainedNetwork(NetworkDescription.of_stage(stage), state)
    return found


def inputs_for(description: NetworkDescription, count: int, seed: int = 0) -> Inputs:
    shape = (count, *description.input_shape)
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def digits_test_images() -> Inputs:
    """All test images of digits, in 0..1."""
    return get_task("digits").load(Path()).test_inputs.astype(np.float32) / np.float32(255)


def digits_test_labels() -> npt.NDArray[np.int64]:
    return get_task("digits").load(Path()).test_labels


def normalized(description: NetworkDescription, inputs: Inputs) -> torch.Tensor:
    mean, std = (torch.tensor(each).reshape(1, -1, 1, 1) for each in (description.mean, description.std))
    return (torch.from_numpy(inputs) - mean) / std


def by_qcore(trained: TrainedNetwork, inputs: Inputs) -> Computed:
    description = trained.description
    network = Network(description.layers, description.bit_widths, description.quantizers)
    network.load_state_dict({name: torch.from_numpy(values) for name, values in trained.state.items()})
    codes: Codes = {}
    for name, quantizer in network.activation_quantizers():
        if quantizer.bits is not None:

            def keep(module: Any, _: Any, output: torch.Tensor, name: str = name) -> None:
                codes[name] = torch.round(output / module.step_size()).to(torch.int16).numpy()

            quantizer.register_forward_hook(keep)
    with torch.no_grad():
        logits = network.eval()(normalized(description, inputs)).numpy()
    return Computed(logits, codes)


def by_packed_file(trained: TrainedNetwork, inputs: Inputs) -> Computed:
    """As the reference executor computes what a packed file holds."""
    packed = unpack(pack(deploy(trained.description, trained.state)))
    execution = execute(packed.network, inputs)
    return Computed(execution.logits, dict(execution.codes))


def by_onnx_runtime(trained: TrainedNetwork, inputs: Inputs, *, with_codes: bool = True) -> Computed:
    """With all of ONNX Runtime's own optimizations, as users run it."""
    content = to_onnx(deploy(trained.description, trained.state), with_codes=with_codes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    logits, *codes = session.run(None, {"input": inputs})
    return Computed(logits, {name.removesuffix("_codes"): each for name, each in zip(names[1:], codes, strict=True)})


@dataclass(frozen=True)
class Exact:
    """What every layer makes of the codes that it reads, in float64 and exact integers."""

    logits: npt.NDArray[np.float64]
    steps: dict[str, npt.NDArray[np.float64]]
    """Of every quantized activation layer, its values in steps, clipped and not yet rounded."""


def exactly(trained: TrainedNetwork, inputs: Inputs, codes: Codes) -> Exact:
    """Each layer computed from the given codes of the layers before it, not from those that it gave itself."""
    network = deploy(trained.description, trained.state)
    values, steps = {}, {}
    for layer in network.layers:
        if isinstance(layer, Input):
            values[layer.name] = Values(normalize(network, inputs))
            continue
        sources = [values[source] for source in layer.inputs]
        grid = network.activations.get(layer.name)
        if grid is None:
            values[layer.name] = compute_layer(network, layer, sources)
            continue
        step = float(grid.step)
        steps[layer.name] = np.clip(sources[0].reals / step, grid.levels.lowest, grid.levels.highest)
        given = codes[layer.name].astype(np.float64).reshape(steps[layer.name].shape)
        values[layer.name] = Values(given, step)
    logits = values[network.layers[-1].name].reals
    return Exact(logits[:, :, 0, 0] if logits.shape[2:] == (1, 1) else logits, steps)
