"""What is in an ONNX file: integer weights, codes within their bits, and what it says of itself."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from exporting import random_network
from onnx import numpy_helper

from qcore.export import deploy, to_onnx
from qcore.export.deployed import QuantizedWeights, folds


def graph_of(name: str, bits: str = "W2A2", *, with_codes: bool = False, **settings: object) -> onnx.ModelProto:
    trained = random_network(name, bits, **settings)
    return onnx.load_from_string(to_onnx(deploy(trained.description, trained.state), with_codes=with_codes))


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


@pytest.mark.parametrize("name", ["basic-L8-D5", "preact-L8-D5", "depthwise-L11-D3"])
def test_weights_are_integers_within_their_bits_and_no_float_ones_remain(name: str) -> None:
    found = constants(graph_of(name))
    codes = {key.removesuffix("_weight_codes"): values for key, values in found.items() if key.endswith("_codes")}
    trained = random_network(name, "W2A2")
    weights = deploy(trained.description, trained.state).weights
    assert list(codes) == list(weights)
    for layer, values in codes.items():
        expected = weights[layer]
        assert isinstance(expected, QuantizedWeights)
        assert values.dtype == np.int8
        assert np.array_equal(values, expected.codes)
        assert np.abs(values).max() <= (127 if layer in ("stem_conv", "classifier") else 1)
    floats = [values for values in found.values() if values.dtype == np.float32]
    assert all(values.ndim <= 1 or values.shape[2:] == (1, 1) for values in floats)


def test_mid_rise_weights_are_odd_integers_with_zero_point_zero() -> None:
    found = constants(graph_of("basic-L8-D5", weight_levels="mid_rise"))
    codes = {key: values for key, values in found.items() if key.endswith("_weight_codes")}
    assert len(codes) == 10
    for key, values in codes.items():
        ends = key.startswith(("stem_conv", "classifier"))
        assert values.dtype == (np.int16 if ends and np.abs(values).max() > 127 else np.int8)
        assert (values % 2 != 0).all()
        if not ends:
            assert set(np.unique(values)) == {-3, -1, 1, 3}
    assert codes["stem_conv_weight_codes"].dtype == np.int16


def test_batch_normalization_is_folded_into_scales_where_a_layer_is_in_front_and_explicit_elsewhere() -> None:
    basic, preact = graph_of("basic-L8-D5"), graph_of("preact-L8-D5")
    assert "Mul" not in {node.op_type for node in basic.graph.node}
    scale = constants(basic)["group1_block1_conv1_weight_scale"]
    trained = random_network("basic-L8-D5", "W2A2")
    network = deploy(trained.description, trained.state)
    weights, batch_norm = network.weights["group1_block1_conv1"], network.batch_norms["group1_block1_bn1"]
    assert isinstance(weights, QuantizedWeights)
    assert np.array_equal(scale, weights.step * batch_norm.scale)
    assert (batch_norm.scale < 0).any()
    assert np.array_equal(constants(basic)["group1_block1_conv1_bias"], batch_norm.shift)
    explicit = {node.output[0] for node in preact.graph.node if node.op_type == "Mul"}
    names = ("group1_block1_bn1", "group2_block1_bn1", "group3_block1_bn1", "last_bn")
    assert explicit == {f"{name}_scaled" for name in names}


def test_a_layer_that_others_read_too_is_not_folded_into() -> None:
    from qcore.layers import LayerList

    layers = LayerList()
    conv = layers.conv("conv", layers.input((1, 4, 4)), 2)
    layers.add("add", (layers.batch_norm("bn", conv), conv))
    assert not folds(tuple(layers.layers))


def test_the_file_says_what_it_is() -> None:
    model = graph_of("basic-L8-D5", weight_levels="twos_complement")
    told = {each.key: each.value for each in model.metadata_props}
    assert told.items() >= {
        "architecture": "basic-L8-D5",
        "task": "digits",
        "classes": "10",
        "input": "images scaled to 0..1",
        "mean": "0.305",
        "std": "0.376",
        "bit_widths": "W2A2",
        "weight_levels": "twos_complement",
        "rounding": "half to even",
    }.items()  # fmt: skip
    assert told["quantrank_version"] == model.producer_version
    rings = {each.key: each.value for each in graph_of("plain-L4-D20", "float", task="rings").metadata_props}
    assert rings["input"] == "real numbers"
    assert "weight_levels" not in rings


def test_a_float_network_is_plain_float_onnx() -> None:
    model = graph_of("preact-L8-D5", "float")
    assert not {node.op_type for node in model.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    assert {values.dtype for values in constants(model).values()} == {np.dtype(np.float32)}


def test_codes_are_outputs_only_when_asked_for() -> None:
    assert [output.name for output in graph_of("preact-L8-D5").graph.output] == ["logits"]
    outputs = graph_of("preact-L8-D5", with_codes=True).graph.output
    kinds = {output.name: output.type.tensor_type.elem_type for output in outputs}
    assert len(kinds) == 1 + 11
    assert kinds["last_relu_codes"] == onnx.TensorProto.UINT8
    assert kinds["stem_quantizer_codes"] == onnx.TensorProto.INT8


def test_the_batch_is_free_and_the_rest_of_the_shape_is_the_tasks() -> None:
    (graph_input,) = graph_of("basic-L8-D5").graph.input
    sizes = graph_input.type.tensor_type.shape.dim
    assert sizes[0].dim_param == "batch"
    assert [size.dim_value for size in sizes[1:]] == [1, 8, 8]
