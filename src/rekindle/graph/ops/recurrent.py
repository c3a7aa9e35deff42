"""RNN, GRU and LSTM: recurrent layers over a sequence, in one or both directions.

Hochreiter and Schmidhuber 1997 "Long Short-Term Memory" with the peepholes of Gers et al. 2002;
Cho et al. 2014 "Learning Phrase Representations" for the GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rekindle._errors import ModelError
from rekindle._types import Shape
from rekindle.graph.ir import Array, Node, dtype_of
from rekindle.graph.lowering import Lowering, NotLowered
from rekindle.graph.ops import Operand, Operator, TensorType, register
from rekindle.graph.ops._attributes import flag, number, text
from rekindle.graph.ops._elementwise import rounded, wide
from rekindle.graph.ops._recurrence import lower
from rekindle.graph.ops._shapes import optional, required

NAMES = ("GRU", "LSTM", "RNN")

Activation = Callable[[Array], Array]

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULTS = {
    "RNN": ("Tanh",),
    "GRU": ("Sigmoid", "Tanh"),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
}
_COEFFICIENTS = {
    "Affine": (1.0, 0.0), "Elu": (1.0, 0.0), "HardSigmoid": (0.2, 0.5), "LeakyRelu": (0.01, 0.0),
    "ScaledTanh": (1.0, 1.0), "ThresholdedRelu": (1.0, 0.0),
}  # fmt: skip
"""Alpha and beta where the node gives none, of those activations that have any."""


def _activation(node: Node, name: str, alpha: float, beta: float) -> Activation:
    known: dict[str, Activation] = {
        "Relu": lambda x: np.maximum(x, 0.0),
        "Tanh": np.tanh,
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "Affine": lambda x: alpha * x + beta,
        "LeakyRelu": lambda x: np.where(x < 0, alpha * x, x),
        "ThresholdedRelu": lambda x: np.where(x > alpha, x, 0.0),
        "ScaledTanh": lambda x: alpha * np.tanh(beta * x),
        "HardSigmoid": lambda x: np.clip(alpha * x + beta, 0.0, 1.0),
        "Elu": lambda x: np.where(x < 0, alpha * np.expm1(x), x),
        "Softsign": lambda x: x / (1 + np.abs(x)),
        "Softplus": lambda x: np.logaddexp(x, 0.0),
    }
    if name not in known:
        raise ModelError(f"node {node}: unknown activation {name!r}")
    return known[name]


def _activations(node: Node, directions: int) -> list[list[Activation]]:
    """For each direction its activations."""
    names = tuple(node.attr("activations") or _DEFAULTS[node.op_type] * directions)
    each = len(_DEFAULTS[node.op_type])
    if len(names) != each * directions:
        raise ModelError(f"node {node} has {len(names)} activations, expected {each * directions}")
    alphas, betas = iter(node.attr("activation_alpha", ())), iter(node.attr("activation_beta", ()))
    made = []
    for name in names:
        alpha, beta = _COEFFICIENTS.get(name, (0.0, 0.0))
        if name in _COEFFICIENTS:
            alpha = next(alphas, alpha)
        if name in ("Affine", "HardSigmoid", "ScaledTanh"):
            beta = next(betas, beta)
        made.append(_activation(node, name, alpha, beta))
    return [made[i * each : (i + 1) * each] for i in range(directions)]


def _directions(node: Node) -> tuple[bool, ...]:
    """For each direction whether it goes backwards."""
    choices = ("forward", "reverse", "bidirectional")
    named = text(node, "direction", "forward", choices=choices)
    return {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[named]


def _infer(node: Node, inputs: Sequence[Operand | None]) -> tuple[TensorType, ...]:
    x, r = required(node, inputs, 0), required(node, inputs, 2)
    count = len(_directions(node))
    outputs = 3 if node.op_type == "LSTM" else 2
    if x.shape is None or r.shape is None:
        return (TensorType(x.dtype, None),) * outputs
    if len(x.shape) != 3 or len(r.shape) != 3:
        raise ModelError(
            f"node {node}: shapes {list(x.shape)} and {list(r.shape)}, expected three axes each"
        )
    hidden = r.shape[2]
    full: Shape
    last: Shape
    if flag(node, "layout"):
        batch, length = x.shape[:2]
        full, last = (batch, length, count, hidden), (batch, count, hidden)
    else:
        length, batch = x.shape[:2]
        full, last = (length, count, batch, hidden), (count, batch, hidden)
    return (TensorType(x.dtype, full), *(TensorType(x.dtype, last),) * (outputs - 1))


@dataclass(frozen=True)
class _Layer:
    """One direction's weights, in float64: of the input, the state, both biases, peepholes."""

    node: Node
    w: Array
    r: Array
    input_bias: Array
    state_bias: Array
    peepholes: Array
    functions: list[Activation]

    def step(self, x: Array, state: Array, cell: Array) -> tuple[Array, Array]:
        """The next state and cell for rows x (batch, inputs)."""
        with_input, with_state = x @ self.w.T + self.input_bias, state @ self.r.T + self.state_bias
        match self.node.op_type:
            case "RNN":
                return self.functions[0](self._clipped(with_input + with_state)), cell
            case "GRU":
                return self._gru(with_input, with_state, state), cell
            case _:
                return self._lstm(with_input + with_state, cell)

    def _clipped(self, x: Array) -> Array:
        limit = number(self.node, "clip", np.inf)
        return np.clip(x, -limit, limit)

    def _gru(self, with_input: Array, with_state: Array, state: Array) -> Array:
        f, g = self.functions
        xz, xr, xh = np.split(with_input, 3, axis=-1)
        sz, sr, sh = np.split(with_state, 3, axis=-1)
        update, reset = f(self._clipped(xz + sz)), f(self._clipped(xr + sr))
        if flag(self.node, "linear_before_reset"):
            recalled = reset * sh
        else:
            size = state.shape[-1]
            recalled = (reset * state) @ self.r[2 * size :].T + self.state_bias[2 * size :]
        return np.asarray((1 - update) * g(self._clipped(xh + recalled)) + update * state)

    def _lstm(self, gates: Array, cell: Array) -> tuple[Array, Array]:
        f, g, h = self.functions
        i, o, forget, c = np.split(gates, 4, axis=-1)
        peep_i, peep_o, peep_f = np.split(self.peepholes, 3)
        entered = f(self._clipped(i + peep_i * cell))
        if flag(self.node, "input_forget"):
            kept = 1 - entered
        else:
            kept = f(self._clipped(forget + peep_f * cell))
        new = kept * cell + entered * g(self._clipped(c))
        return np.asarray(f(self._clipped(o + peep_o * new)) * h(new)), np.asarray(new)


def _layers(node: Node, inputs: Sequence[Array | None]) -> list[_Layer]:
    w, r = wide(required(node, inputs, 1)), wide(required(node, inputs, 2))
    count, gates, hidden = len(_directions(node)), _GATES[node.op_type], r.shape[-1]
    if len(w) != count or r.shape[:2] != (count, gates * hidden) or w.shape[1] != gates * hidden:
        raise ModelError(
            f"node {node}: weights {list(w.shape)} and {list(r.shape)} do not fit {count} "
            f"direction(s) of {hidden}"
        )
    bias, peepholes = optional(inputs, 3), optional(inputs, 7)
    both = np.zeros((count, 2, gates * hidden))
    if bias is not None:
        both = wide(bias).reshape(both.shape)
    peep = np.zeros((count, 3 * hidden)) if peepholes is None else wide(peepholes)
    functions = _activations(node, count)
    return [
        _Layer(node, w[d], r[d], both[d, 0], both[d, 1], peep[d], functions[d])
        for d in range(count)
    ]


def _reference(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    given, batch_first = required(node, inputs, 0), flag(node, "layout")
    x = wide(given).swapaxes(0, 1) if batch_first else wide(given)
    length, batch = x.shape[:2]
    layers = _layers(node, inputs)
    hidden = layers[0].r.shape[-1]
    starts = [
        _initial(optional(inputs, i), (len(layers), batch, hidden), batch_first) for i in (5, 6)
    ]
    counts = optional(inputs, 4)
    lengths = np.full(batch, length) if counts is None else counts.reshape(-1)
    y = np.zeros((length, len(layers), batch, hidden))
    ends = [np.zeros_like(s) for s in starts]
    for d, (layer, back) in enumerate(zip(layers, _directions(node), strict=True)):
        for row in range(batch):
            state, cell = (s[d, row : row + 1] for s in starts)
            steps = range(int(lengths[row]))
            for t in reversed(steps) if back else steps:
                state, cell = layer.step(x[t, row : row + 1], state, cell)
                y[t, d, row] = state[0]
            ends[0][d, row], ends[1][d, row] = state[0], cell[0]
    if batch_first:
        y, ends = y.transpose(2, 0, 1, 3), [e.swapaxes(0, 1) for e in ends]
    made = (y, *ends) if node.op_type == "LSTM" else (y, ends[0])
    return tuple(rounded(a, dtype_of(given)) for a in made)


def _initial(given: Array | None, shape: tuple[int, ...], batch_first: bool) -> Array:
    if given is None:
        return np.zeros(shape)
    return wide(given).swapaxes(0, 1) if batch_first else wide(given)


def _lower(lowering: Lowering) -> None:
    node, backwards = lowering.node, list(_directions(lowering.node))
    defaults = _DEFAULTS[node.op_type]
    names = tuple(node.attr("activations") or defaults * len(backwards))
    if names != names[: len(defaults)] * len(backwards):
        raise NotLowered(f"{node.op_type} with other activations in each direction")
    lower(lowering, _GATES[node.op_type], names[: len(defaults)], backwards)


def _flops(node: Node, inputs: Sequence[Operand | None], outputs: Sequence[TensorType]) -> int:
    """Two for each multiply-add of both weights at each step."""
    total = 0
    shape = required(node, inputs, 0).shape or ()
    steps = [d for d in shape[:2] if isinstance(d, int)]
    for index in (1, 2):
        weights = required(node, inputs, index).shape or (0,)
        total += 2 * int(np.prod([d for d in (*steps, *weights) if isinstance(d, int)]))
    return total


register("RNN", Operator(since=7, infer=_infer, reference=_reference, lower=_lower, flops=_flops))
register("GRU", Operator(since=7, infer=_infer, reference=_reference, lower=_lower, flops=_flops))
register("LSTM", Operator(since=7, infer=_infer, reference=_reference, lower=_lower, flops=_flops))
