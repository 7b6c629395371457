"""Networks as safetensors: they come back as they were, and anything else is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exporting import by_qcore, inputs_for, normalized, random_network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from qcore import InvalidInput, Network, load_network
from qcore.checkpoints import write_tensors
from qcore.export import TrainedNetwork, export, read_network_file, to_safetensors


def written(trained: TrainedNetwork, folder: Path) -> Path:
    path = folder / "network.safetensors"
    path.write_bytes(to_safetensors(trained.description, trained.state))
    return path


@pytest.mark.parametrize("bits", ["float", "W2A2", "WFA2"])
def test_a_network_comes_back_and_computes_the_same(bits: str, tmp_path: Path) -> None:
    trained = random_network("preact-L8-D5", bits, weight_levels="mid_rise", activation_step="learned")
    network = load_network(written(trained, tmp_path))
    inputs = inputs_for(trained.description, 20)
    assert isinstance(network, Network)
    assert not network.training
    with torch.no_grad():
        logits = network(normalized(trained.description, inputs)).numpy()
    assert np.array_equal(logits, by_qcore(trained, inputs).logits)


def test_a_network_file_says_everything_but_the_numbers(tmp_path: Path) -> None:
    trained = random_network("depthwise-L11-D3", "W3A4", shortcut_bits=5)
    found = read_network_file(written(trained, tmp_path))
    assert found.description == trained.description
    assert found.state.keys() == trained.state.keys()
    assert all(np.array_equal(found.state[name], values) for name, values in trained.state.items())
    assert export(found, "safetensors") == to_safetensors(trained.description, trained.state)


def test_a_tensor_laid_out_otherwise_is_written_in_order(tmp_path: Path) -> None:
    trained = random_network()
    state = {name: values.T.copy().T for name, values in trained.state.items()}
    assert to_safetensors(trained.description, state) == to_safetensors(trained.description, trained.state)


CONTENT = to_safetensors(random_network("basic-L8-D3").description, random_network("basic-L8-D3").state)


@given(st.data())
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_refused_by_name_or_still_reads(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "damaged.safetensors"
    if data.draw(st.booleans()):
        path.write_bytes(CONTENT[: data.draw(st.integers(0, len(CONTENT) - 1))])
    else:  # within the header, where all that is read as text lies
        header = 8 + int.from_bytes(CONTENT[:8], "little")
        at, value = data.draw(st.integers(0, header - 1)), data.draw(st.integers(0, 255))
        path.write_bytes(CONTENT[:at] + bytes([value]) + CONTENT[at + 1 :])
    for read in (read_network_file, load_network):
        try:
            read(path)
        except InvalidInput as error:
            told = error.value
        else:
            continue
        assert told == str(path)


def test_files_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    trained = random_network()
    write_tensors(tmp_path / "state.safetensors", {"weight": torch.zeros(1)}, {"stage": "0" * 64})
    (tmp_path / "foreign.safetensors").write_bytes(save({"weight": np.zeros(1)}))
    (tmp_path / "text.safetensors").write_text("no tensors")
    missing = {name: values for name, values in trained.state.items() if name != "classifier.bias"}
    (tmp_path / "missing.safetensors").write_bytes(to_safetensors(trained.description, missing))
    for name, told in [
        ("state", "does not say which network"),
        ("foreign", "is no whole safetensors file of quantrank"),
        ("text", "is no whole safetensors file of quantrank"),
        ("missing", "classifier.bias"),
        ("absent", "cannot be read"),
    ]:
        with pytest.raises(InvalidInput, match=told) as caught:
            load_network(tmp_path / f"{name}.safetensors")
        assert name in str(caught.value)


def test_a_description_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    trained = random_network()
    state = load(to_safetensors(trained.description, trained.state))
    for change, told in [
        ({"bit_widths": "W1A1"}, "bit_widths"),
        ({"layers": []}, "no list of layers"),
        ({"std": [0.0]}, "std"),
        ({"mean": [10**400]}, "mean"),
        ({"mean": [1e39]}, "mean"),
        ({"quantizers": {"weight_levels": "ternary"}}, "weight_levels"),
        ({"version": 2}, "version 2"),
    ]:
        metadata = {"format": "network", "version": 1, **trained.description.to_json(), **change}
        path = tmp_path / "network.safetensors"
        path.write_bytes(save(state, {"quantrank": json.dumps(metadata)}))
        with pytest.raises(InvalidInput, match=told):
            read_network_file(path)


@pytest.mark.parametrize("file_format", ["onnx", "packed", "safetensors"])
def test_a_state_of_another_network_or_a_diverged_one_is_not_exported(file_format: str) -> None:
    trained, other = random_network("basic-L8-D5"), random_network("basic-L8-D3")
    with pytest.raises(InvalidInput, match=r"stem_conv\.weight.*shape"):
        export(replace(trained, state=other.state), file_format)
    broken = {**trained.state, "stem_bn.bias": np.full(5, np.nan, np.float32)}
    with pytest.raises(InvalidInput, match="diverged"):
        export(replace(trained, state=broken), file_format)


def test_formats_and_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InvalidInput, match="onnx, packed, safetensors"):
        export(random_network(), "tflite")
    with pytest.raises(InvalidInput, match="--format onnx"):
        export(random_network(), "packed", with_codes=True)


EXPORT_WITHOUT_TORCH = """
import sys
from pathlib import Path
import numpy as np
from qcore.export import execute, export, read_network_file, unpack
trained = read_network_file(Path(sys.argv[1]))
packed = unpack(export(trained, "packed"))
export(trained, "onnx"), export(trained, "safetensors")
execute(packed.network, np.zeros((1, 1, 8, 8), np.float32))
print(*sorted({"torch", "torchvision", "sklearn"} & set(sys.modules)))
"""


def test_exporting_and_executing_load_no_training_library(tmp_path: Path) -> None:
    path = written(random_network(), tmp_path)
    command = [sys.executable, "-c", EXPORT_WITHOUT_TORCH, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
