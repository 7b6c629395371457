"""The ONNX format: integer weights with DequantizeLinear, activations clipped, quantized and dequantized again.

BN is folded into the per-channel scales of a layer in front of it; elsewhere it stays a multiplication and an addition.
Activation codes are uint8 or int8; values are cut to the levels' range before, so that 2-bit codes never exceed 3.
Rounding is half to even, as QuantizeLinear and ``qcore.quantizers`` do.

Values are cut by Max and Min and not by Relu and Clip, after which ONNX Runtime would round biases and float weights of
its own accord (docs/decisions/0005-onnx-cuts-with-max-and-min.md).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from qcore.export.deployed import FloatWeights, folds
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

if TYPE_CHECKING:
    from qcore.export.deployed import DeployedNetwork, FloatArray, ScaleAndShift
    from qcore.layers import Layer, WeightLayer

OPSET = 21
"""The first in which DequantizeLinear takes int16, which 8-bit mid-rise weights need (odd numbers up to 255)."""

IR_VERSION = 10
INPUT, OUTPUT, CODES = "input", "logits", "_codes"

_IMAGE_BITS = 8


def to_onnx(network: DeployedNetwork, *, with_codes: bool = False) -> bytes:
    """A network as the content of an ONNX file.

    Its input ``input`` is (N, channels, height, width) in float32, images in 0..1; normalization is in the graph. Its
    output ``logits`` is (N, classes), or (N, classes, height, width) where every pixel is classified. ``with_codes``
    adds an output ``<layer>_codes`` for every quantized activation.
    """
    graph = _Graph(network, with_codes=with_codes)
    graph.add_layers()
    model = graph.model()
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


class _Graph:
    """Adds nodes and constants layer by layer; what stands for a layer's output has the layer's name."""

    def __init__(self, network: DeployedNetwork, *, with_codes: bool) -> None:
        self._network, self._with_codes = network, with_codes
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._code_outputs: list[onnx.ValueInfoProto] = []
        self._folded = folds(network.layers)
        self._folded_into = {layer.name: name for name, layer in self._folded.items()}
        self._flat: set[str] = set()
        """Layers whose outputs are (N, features), as those of linear layers are."""
        self._value: dict[str, str] = {}
        """What holds each layer's output: the layer's name, or another's where the layer does nothing."""

    def add_layers(self) -> None:
        for layer in self._network.layers:
            sources = [self._value[source] for source in layer.inputs]
            self._value[layer.name] = layer.name
            if isinstance(layer, Linear) or (layer.inputs and self._flat.issuperset(layer.inputs)):
                self._flat.add(layer.name)
            match layer:
                case Input():
                    self._value[layer.name] = self._normalization()
                case Conv():
                    self._convolution(layer, sources[0])
                case Linear():
                    self._linear(layer, sources[0])
                case BatchNorm():
                    self._batch_norm(layer, sources[0])
                case Activation():
                    self._activation(layer, sources[0])
                case Add():
                    self._sum(layer, sources)
                case GlobalAveragePool():
                    self._add("GlobalAveragePool", sources, layer.name)
                case MaxPool():
                    self._max_pool(layer, sources[0])
                case Concat():
                    self._add("Concat", sources, layer.name, axis=1)
                case Resize():
                    self._resize(layer, sources[0])
                case _:
                    assert_never(layer)

    def model(self) -> onnx.ModelProto:
        description = self._network.description
        last = self._network.layers[-1]
        self._add("Identity", [self._value[last.name]], OUTPUT)
        graph = helper.make_graph(
            self._nodes,
            description.architecture,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *description.input_shape])],
            [
                helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, self._output_shape(last)),
                *self._code_outputs,
            ],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="quantrank",
            producer_version=version("quantrank"),
        )
        helper.set_model_props(model, self._metadata())
        return model

    def _metadata(self) -> dict[str, str]:
        description = self._network.description
        image = description.input_bits == _IMAGE_BITS
        told = {
            "quantrank_version": version("quantrank"),
            "architecture": description.architecture,
            "task": description.task,
            "task_version": description.task_version,
            "classes": str(description.classes),
            "input": "images scaled to 0..1" if image else "real numbers",
            "mean": " ".join(map(str, description.mean)),
            "std": " ".join(map(str, description.std)),
            "normalization": "inside the graph",
            "bit_widths": str(description.bit_widths),
        }
        if not description.bit_widths.is_float:
            told |= {"weight_levels": description.quantizers.weight_levels, "rounding": "half to even"}
        if description.stage is not None:
            told["stage"] = description.stage
        return told

    def _output_shape(self, layer: Layer) -> list[str | int]:
        return ["batch", *(layer.shape[:1] if layer.name in self._flat else layer.shape)]

    def _normalization(self) -> str:
        description = self._network.description
        for name in ("mean", "std"):
            values = np.array(getattr(description, name), dtype=np.float32)
            self._constant(name, values.reshape(1, -1, 1, 1))
        self._add("Sub", [INPUT, "mean"], "centred_input")
        self._add("Div", ["centred_input", "std"], "normalized_input")
        return "normalized_input"

    def _convolution(self, layer: Conv, source: str) -> None:
        inputs = [source, *self._weights_and_bias(layer)]
        self._add(
            "Conv",
            inputs,
            layer.name,
            kernel_shape=[layer.kernel_size] * 2,
            strides=[layer.stride] * 2,
            pads=[layer.dilation * (layer.kernel_size // 2)] * 4,
            dilations=[layer.dilation] * 2,
            group=layer.groups,
        )

    def _linear(self, layer: Linear, source: str) -> None:
        flat = f"{layer.name}_flat"
        self._add("Flatten", [source], flat, axis=1)
        self._add("Gemm", [flat, *self._weights_and_bias(layer)], layer.name, transB=1)

    def _weights_and_bias(self, layer: WeightLayer) -> list[str]:
        """Names of a layer's weights and, if it has one, of its bias, with a BN that follows folded into both."""
        weights, name = self._network.weights[layer.name], f"{layer.name}_weight"
        folded: ScaleAndShift | None = None
        if layer.name in self._folded_into:
            folded = self._network.batch_norms[self._folded_into[layer.name]]
        if isinstance(weights, FloatWeights):
            values = weights.values
            if folded is not None:
                values = values * folded.scale.reshape(-1, *[1] * (values.ndim - 1))
            self._constant(name, values)
        else:
            multiples, step = weights.multiples
            codes, scale = f"{name}_codes", f"{name}_scale"
            self._constant(codes, _narrowest(multiples))
            if folded is None:
                self._constant(scale, np.array(step))
                self._add("DequantizeLinear", [codes, scale], name)
            else:
                self._constant(scale, step * folded.scale)
                self._add("DequantizeLinear", [codes, scale], name, axis=0)
        bias = self._network.biases.get(layer.name)
        if folded is not None:
            bias = folded.shift if bias is None else bias * folded.scale + folded.shift
        if bias is None:
            return [name]
        self._constant(f"{layer.name}_bias", bias)
        return [name, f"{layer.name}_bias"]

    def _batch_norm(self, layer: BatchNorm, source: str) -> None:
        if layer.name in self._folded:
            self._value[layer.name] = source
            return
        values = self._network.batch_norms[layer.name]
        for part in ("scale", "shift"):
            self._constant(f"{layer.name}_{part}", getattr(values, part).reshape(1, -1, 1, 1))
        self._add("Mul", [source, f"{layer.name}_scale"], f"{layer.name}_scaled")
        self._add("Add", [f"{layer.name}_scaled", f"{layer.name}_shift"], layer.name)

    def _activation(self, layer: Activation, source: str) -> None:
        grid = self._network.activations.get(layer.name)
        if grid is None:
            self._float_activation(layer, source)
            return
        name, codes = layer.name, layer.name + CODES
        kind: Any = np.int8 if grid.levels.lowest < 0 else np.uint8
        self._constant(f"{name}_step", np.array(grid.step))
        self._constant(f"{name}_zero", np.zeros((), kind))
        self._constant(f"{name}_lowest", np.array(grid.levels.lowest * grid.step))
        self._constant(f"{name}_highest", np.array(grid.levels.highest * grid.step))
        self._add("Max", [source, f"{name}_lowest"], f"{name}_rectified")
        self._add("Min", [f"{name}_rectified", f"{name}_highest"], f"{name}_clipped")
        self._add("QuantizeLinear", [f"{name}_clipped", f"{name}_step", f"{name}_zero"], codes)
        self._add("DequantizeLinear", [codes, f"{name}_step", f"{name}_zero"], name)
        if self._with_codes:
            element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
            self._code_outputs.append(helper.make_tensor_value_info(codes, element, self._output_shape(layer)))

    def _float_activation(self, layer: Activation, source: str) -> None:
        if layer.ceiling is not None:
            self._constant(f"{layer.name}_ceiling", np.array(layer.ceiling, dtype=np.float32))
            self._add("Min", [source, f"{layer.name}_ceiling"], f"{layer.name}_cut")
            source = f"{layer.name}_cut"
        if layer.signed:
            self._value[layer.name] = source
        else:
            self._add("Relu", [source], layer.name)

    def _max_pool(self, layer: MaxPool, source: str) -> None:
        """Codes are pooled as codes. Pooled as values they would be quantized again by ONNX Runtime, and sometimes to a
        type that it then refuses itself."""
        window = {
            "kernel_shape": [layer.kernel_size] * 2,
            "strides": [layer.stride] * 2,
            "pads": [layer.kernel_size // 2] * 4,
        }
        read = layer.inputs[0]
        if read not in self._network.activations:
            self._add("MaxPool", [source], layer.name, **window)
            return
        pooled = f"{layer.name}_pooled"
        self._add("MaxPool", [read + CODES], pooled, **window)
        self._add("DequantizeLinear", [pooled, f"{read}_step", f"{read}_zero"], layer.name)

    def _resize(self, layer: Resize, source: str) -> None:
        self._constant(f"{layer.name}_size", np.array(layer.shape[1:], dtype=np.int64))
        self._add(
            "Resize",
            [source, "", "", f"{layer.name}_size"],
            layer.name,
            mode="linear",
            coordinate_transformation_mode="align_corners",
            axes=[2, 3],
        )

    def _sum(self, layer: Add, sources: list[str]) -> None:
        """Pairwise, from the first on, as the torch network adds."""
        scaled = layer.scale != 1.0
        total = sources[0]
        for index, source in enumerate(sources[1:], start=1):
            is_last = index == len(sources) - 1
            name = layer.name if is_last and not scaled else f"{layer.name}_sum{index}"
            self._add("Add", [total, source], name)
            total = name
        if scaled:
            self._constant(f"{layer.name}_scale", np.array(layer.scale, dtype=np.float32))
            self._add("Mul", [total, f"{layer.name}_scale"], layer.name)

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}_{operator}", **attributes))

    def _constant(self, name: str, values: npt.NDArray[Any] | FloatArray) -> None:
        assert name not in self._constants
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name)


def _narrowest(codes: npt.NDArray[np.int16]) -> npt.NDArray[Any]:
    """As int8 where that has all of them."""
    small = np.iinfo(np.int8)
    fits = codes.size == 0 or (codes.min() >= small.min and codes.max() <= small.max)
    return codes.astype(np.int8) if fits else codes
