"""The torch network of a layer list, in float or under bit widths."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from qcore.bit_widths import FLOAT, BitWidths
from qcore.fusion import Step, fused_steps, single_steps
from qcore.layer_bits import activation_bits, weight_bits
from qcore.layers import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv,
    GlobalAveragePool,
    Input,
    Linear,
    MaxPool,
    Resize,
)
from qcore.levels import weight_levels
from qcore.modules import BilinearResize, Concatenation, QuantizedConv2d, QuantizedLinear, Sum
from qcore.quantizers import ActivationQuantizer, WeightQuantizer, quantize_weights
from qcore.recipe import QuantizerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qcore.kernels.functions import Kernels
    from qcore.layers import Layer


class Network(nn.Module):
    """Maps inputs (N, channels, height, width) to logits, layer by layer.

    Logits are (N, classes), or (N, classes, height, width) where every pixel is classified.

    The state dict's keys are the layers' names; a quantized network has those of the float one, plus
    ``<layer>.weight_quantizer.step`` and ``<layer>.clipping_value``, or ``<layer>.step`` where activation steps are
    learned.
    """

    def __init__(
        self, layers: tuple[Layer, ...], bit_widths: BitWidths = FLOAT, settings: QuantizerSettings | None = None
    ) -> None:
        super().__init__()
        settings = settings or QuantizerSettings()
        weights = weight_bits(layers, bit_widths, settings)
        self.bit_widths = bit_widths
        self.layers = layers
        for layer in layers:
            if not isinstance(layer, Input):
                self.add_module(layer.name, _module(layer, weights, bit_widths, settings))
        self._single_steps = single_steps(layers, dict(self.named_children()))
        self._fused: list[Step] = []
        self._observer: Callable[[str, Tensor], None] | None = None
        # Channels last: depthwise networks train 1.5 times as fast so, others as fast. Files want the usual layout.
        self.to(memory_format=torch.channels_last)
        self.register_state_dict_post_hook(_in_usual_layout)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of inputs, through the layers that ``fuse`` joined."""
        if not self._fused:
            return self._run(self._single_steps, x)
        self._quantize_weights(x.device.type)
        try:
            return self._run(self._fused, x)
        finally:
            for _, layer in self.weight_layers():
                layer.quantized_weight = None

    def _run(self, steps: list[Step], x: Tensor) -> Tensor:
        values = {self.layers[0].name: x}
        for step in steps:
            values[step.name] = step.run(*[values[source] for source in step.inputs])
            if self._observer is not None:
                self._observer(step.name, values[step.name])
            for source in step.spent:
                del values[source]
        return values[self.layers[-1].name]

    def _quantize_weights(self, device_type: str) -> None:
        """Quantizes all weights whose steps are not learned in one call, and hands each layer its own."""
        found = [
            (layer, layer.weight_quantizer)
            for _, layer in self.weight_layers()
            if layer.weight_quantizer is not None and not layer.weight_quantizer.learned
        ]
        if not found:
            return
        layers, quantizers = zip(*found, strict=True)
        weights = [layer.weight for layer in layers]
        dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else weights[0].dtype
        steps, levels = [each.step for each in quantizers], [each.levels for each in quantizers]
        for layer, weight in zip(layers, quantize_weights(weights, steps, levels, dtype), strict=True):
            layer.quantized_weight = weight

    def fuse(self, kernels: Kernels | None) -> None:
        """Computes what it can in fused passes of these kernels from now on; with None, layer by layer.

        By fused passes there are gradients in training mode only.
        """
        modules = dict(self.named_children())
        self._fused = [] if kernels is None else fused_steps(self.layers, modules, kernels)

    @property
    def steps(self) -> list[Step]:
        """What a forward pass calls, one after another."""
        return self._fused or self._single_steps

    @contextmanager
    def observed(self, observer: Callable[[str, Tensor], None]) -> Iterator[None]:
        """Calls ``observer`` with every layer's name and output; layers inside a fused pass have none."""
        self._observer = observer
        try:
            yield
        finally:
            self._observer = None

    def weight_layers(self) -> Iterator[tuple[str, QuantizedConv2d | QuantizedLinear]]:
        """By name, every layer that has weights, in the order of the layer list."""
        for name, module in self.named_children():
            if isinstance(module, QuantizedConv2d | QuantizedLinear):
                yield name, module

    def activation_quantizers(self) -> Iterator[tuple[str, ActivationQuantizer]]:
        """By name, every activation layer, those that stay float included."""
        for name, module in self.named_children():
            if isinstance(module, ActivationQuantizer):
                yield name, module

    def refresh_steps(self, before_each: Callable[[], None] = lambda: None) -> None:
        """Sets every step size that is not learned to the L2-optimal one of the weights as they are now.

        ``before_each`` is called before each layer's search for it; it may raise to give up.
        """
        for _, module in self.weight_layers():
            before_each()
            if module.weight_quantizer is not None and not module.weight_quantizer.learned:
                module.weight_quantizer.refresh(module.weight)

    def start_steps(self, before_each: Callable[[], None] = lambda: None) -> None:
        """Sets the step sizes of weights that retraining begins with; ``before_each`` as for ``refresh_steps``."""
        for _, module in self.weight_layers():
            before_each()
            if module.weight_quantizer is not None:
                module.weight_quantizer.start(module.weight)

    @torch.no_grad()
    def calibrate(self, x: Tensor, clipped_share: float) -> None:
        """Starts every clipping value so that it clips a share of the float network's activations on inputs ``x``.

        ``clipped_share`` is that of 2-bit activations; every further bit quarters it. Learned step sizes start from the
        mean magnitude instead (LSQ).
        """
        was_training = self.training
        self.eval()
        quantizers = {module: module.weight_quantizer for _, module in self.weight_layers()}
        for module in quantizers:
            module.weight_quantizer = None
        for _, quantizer in self.activation_quantizers():
            quantizer.calibrating_share = clipped_share
        self._run(self._single_steps, x)
        for _, quantizer in self.activation_quantizers():
            quantizer.calibrating_share = None
        for module, weight_quantizer in quantizers.items():
            module.weight_quantizer = weight_quantizer
        self.train(was_training)

    @contextmanager
    def scales_held(self, most_change: float) -> Iterator[None]:
        """An update within which no clipping value or learned step size changes by more than this share of itself.

        PACT's gradient is a sum over all activations of a layer. In very deep networks one of them can throw a clipping
        value below zero, which silences the layer, and the batch normalization after it amplifies gradients until
        nothing is finite. Runs that are well never come near the bound.
        """
        scales: list[Tensor] = [
            scale for name, scale in self.named_parameters() if name.endswith((".step", ".clipping_value"))
        ]
        if not scales:
            yield
            return
        before = torch.stack([scale.detach() for scale in scales])
        yield
        with torch.no_grad():
            held = torch.stack(scales).clamp(before * (1 - most_change), before * (1 + most_change))
            torch._foreach_copy_(scales, held.unbind())

    @torch.no_grad()
    def set_clipping_values(self, value: float) -> None:
        """Sets every clipping value; learned step sizes stay."""
        for _, quantizer in self.activation_quantizers():
            if quantizer.bits is not None and not quantizer.learned:
                quantizer.get_parameter("clipping_value").fill_(value)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """He initialization: fan-in for layers with a bias, fan-out for those in front of BN; BN as torch has it.

        Biases are uniform within 1/sqrt(fan-in). With zero ones, every hinge of a network over the plane would pass
        through the origin, and shallow networks would not learn ``rings``.
        """
        for _, module in self.weight_layers():
            mode: Literal["fan_in", "fan_out"] = "fan_out" if module.bias is None else "fan_in"
            drawn = torch.empty(
                module.weight.shape, device=module.weight.device
            )  # in the same order whatever the layout
            nn.init.kaiming_normal_(drawn, mode=mode, nonlinearity="relu", generator=generator)
            module.weight.copy_(drawn)
            if module.bias is not None:
                bound = module.weight[0].numel() ** -0.5
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def _in_usual_layout(_network: nn.Module, state: dict[str, Tensor], _prefix: str, _metadata: object) -> None:
    state.update({name: tensor.contiguous() for name, tensor in state.items()})


def _module(
    layer: Layer, weights: dict[str, int | None], bit_widths: BitWidths, settings: QuantizerSettings
) -> nn.Module:
    match layer:
        case Conv():
            return QuantizedConv2d(layer, _weight_quantizer(weights[layer.name], settings))
        case Linear():
            return QuantizedLinear(layer, _weight_quantizer(weights[layer.name], settings))
        case BatchNorm():
            return nn.BatchNorm2d(layer.shape[0])
        case Activation():
            return ActivationQuantizer(
                activation_bits(layer, bit_widths, settings),
                signed=layer.signed,
                learned=settings.activation_step == "learned",
                ceiling=layer.ceiling,
            )
        case Add():
            return Sum(layer.scale)
        case GlobalAveragePool():
            return nn.AdaptiveAvgPool2d(1)
        case MaxPool():
            return nn.MaxPool2d(layer.kernel_size, layer.stride, padding=layer.kernel_size // 2)
        case Concat():
            return Concatenation()
        case Resize():
            return BilinearResize(layer.shape[1], layer.shape[2])
        case Input():
            raise AssertionError("an input has no module")


def _weight_quantizer(bits: int | None, settings: QuantizerSettings) -> WeightQuantizer | None:
    if bits is None:
        return None
    return WeightQuantizer(weight_levels(settings.weight_levels, bits), learned=settings.weight_step == "learned")
