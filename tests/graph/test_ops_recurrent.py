"""Recurrent layers against ONNX Runtime: directions, lengths, gates, activations, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from single_node import agree, model

from rekindle._errors import ModelError
from rekindle.graph import reference
from rekindle.graph.onnx_io import load_bytes

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
LENGTH, BATCH, INPUTS, HIDDEN = 5, 3, 2, 4


def layer(operator: str, directions: int, *, full: bool) -> list[Any]:
    """x, w, r, and with `full` bias, lengths, states and (for LSTM) peepholes."""
    random = np.random.default_rng(len(operator) + directions)
    gates = GATES[operator] * HIDDEN

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    found: list[Any] = [
        draw(LENGTH, BATCH, INPUTS), draw(directions, gates, INPUTS),
        draw(directions, gates, HIDDEN),
    ]  # fmt: skip
    if full:
        lengths = np.array([5, 2, 3], np.int32)
        found += [draw(directions, 2 * gates), lengths, draw(directions, BATCH, HIDDEN)]
        if operator == "LSTM":
            found += [draw(directions, BATCH, HIDDEN), draw(directions, 3 * HIDDEN)]
    return found


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("operator", GATES)
def test_directions_lengths_and_states(operator: str, direction: str, full: bool) -> None:
    inputs = layer(operator, 2 if direction == "bidirectional" else 1, full=full)
    attrs = {"hidden_size": HIDDEN, "direction": direction}
    outputs = 3 if operator == "LSTM" else 2
    agree(operator, inputs, attrs, opset=14, outputs=outputs)


@pytest.mark.parametrize(
    ("operator", "attrs"),
    [
        ("GRU", {"linear_before_reset": 1}),
        ("GRU", {"activations": ["HardSigmoid", "LeakyRelu"], "activation_alpha": [0.3, 0.1],
                 "activation_beta": [0.4]}),
        ("GRU", {"clip": 0.5}),
        ("LSTM", {"activations": ["Sigmoid", "Softsign", "Relu"]}),
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"clip": 0.5}),
        ("RNN", {"activations": ["Relu"]}),
        ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.3]}),
        ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [0.8],
                 "activation_beta": [0.5]}),
    ],
)  # fmt: skip
def test_attributes(operator: str, attrs: dict[str, Any]) -> None:
    inputs = layer(operator, 1, full=False)
    agree(operator, inputs, {"hidden_size": HIDDEN, **attrs}, opset=14, tolerance=1e-4)


def test_batch_first_is_the_other_layout_turned() -> None:
    inputs = layer("LSTM", 1, full=False)
    plain = model("LSTM", inputs, {"hidden_size": HIDDEN}, opset=14, outputs=3)
    x = np.ascontiguousarray(inputs[0].swapaxes(0, 1))
    attrs = {"hidden_size": HIDDEN, "layout": 1}
    turned = model("LSTM", [x, *inputs[1:]], attrs, opset=14, outputs=3)
    one = reference.run(load_bytes(plain.SerializeToString()), {"i0": inputs[0]})
    two = reference.run(load_bytes(turned.SerializeToString()), {"i0": x})
    np.testing.assert_array_equal(two["o0"], one["o0"].transpose(2, 0, 1, 3))
    np.testing.assert_array_equal(two["o1"], one["o1"].swapaxes(0, 1))
    np.testing.assert_array_equal(two["o2"], one["o2"].swapaxes(0, 1))


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"activations": ["Nonsense"]}, "unknown activation 'Nonsense'"),
        ({"activations": ["Tanh", "Tanh"]}, "has 2 activations, expected 1"),
        ({"direction": "bidirectional"}, "do not fit 2 direction"),
    ],
)
def test_malformed_layers_are_refused(attrs: dict[str, Any], message: str) -> None:
    inputs = layer("RNN", 1, full=False)
    proto = model("RNN", inputs, {"hidden_size": HIDDEN, **attrs}, opset=14)
    with pytest.raises(ModelError, match=message):
        reference.run(load_bytes(proto.SerializeToString()), {"i0": inputs[0]})
