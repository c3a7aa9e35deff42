"""Random networks of supported operators: a Hypothesis strategy of models and their feeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck
from hypothesis import strategies as st
from onnx import ModelProto
from small_models import model, normal

UNARY = ["Relu", "Sigmoid", "Tanh", "Neg", "HardSwish", "Identity", "Abs", "Softsign", "Elu"]
QUIET = list(HealthCheck)
"""Checks of Hypothesis that a strategy of this size trips, and that do not matter here."""


@dataclass
class Network:
    """A model under construction: images by name, with their shapes (N, C, H, W)."""

    draw: st.DrawFn
    shapes: dict[str, tuple[int, int, int, int]]
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def image(self) -> str:
        """Mostly a recent value, so that chains form; sometimes any."""
        names = list(self.shapes)
        recent = names[-3:] if self.draw(st.integers(0, 3)) else names
        return self.draw(st.sampled_from(recent))

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        scale = max(np.prod(shape[1:]), 1) ** 0.5
        self.weights[name] = normal(*shape, seed=len(self.weights)) / np.float32(scale)
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def add(self, call: str, shape: tuple[int, ...]) -> None:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {call}")
        self.shapes[name] = shape  # type: ignore[assignment]


def conv(net: Network) -> None:
    x = net.image()
    n, c, h, w = net.shapes[x]
    group = net.draw(st.sampled_from([g for g in (1, 2, c) if c % g == 0]))
    m = net.draw(st.sampled_from([group, 2 * group, 16 * group]))
    if m > 40:
        m = group
    k = net.draw(st.sampled_from([1, 3])) if min(h, w) >= 3 else 1
    pad = net.draw(st.integers(0, k // 2))
    stride = net.draw(st.sampled_from([1, 1, 2]))
    bias = f", {net.weight(m)}" if net.draw(st.booleans()) else ""
    size = [(d + 2 * pad - k) // stride + 1 for d in (h, w)]
    attrs = f"group={group}, strides=[{stride},{stride}], pads=[{pad},{pad},{pad},{pad}]"
    net.add(f"Conv<{attrs}>({x}, {net.weight(m, c // group, k, k)}{bias})", (n, m, *size))


def norm(net: Network) -> None:
    x = net.image()
    c = net.shapes[x][1]
    variance = net.constant(np.full(c, 0.5, "float32"))
    parameters = ", ".join(net.weight(c) for _ in range(3))
    net.add(f"BatchNormalization({x}, {parameters}, {variance})", net.shapes[x])


def unary(net: Network) -> None:
    x = net.image()
    net.add(f"{net.draw(st.sampled_from(UNARY))}({x})", net.shapes[x])


def binary(net: Network) -> None:
    x = net.image()
    n, c, h, w = shape = net.shapes[x]
    same = [v for v, s in net.shapes.items() if s == shape or s == (n, c, 1, 1)]
    other = net.draw(st.sampled_from([*same, "channel", "pixel", "scalar", "one"]))
    sizes = {"channel": (c, 1, 1), "pixel": (1, 1, h, w), "scalar": (), "one": (1, 1, 1, 1)}
    if other in sizes:
        other = net.weight(*sizes[other])
    pair = [x, other]
    if net.draw(st.booleans()):
        pair.reverse()
    net.add(f"{net.draw(st.sampled_from(['Add', 'Mul', 'Sub', 'Max']))}({', '.join(pair)})", shape)


def pool(net: Network) -> None:
    x = net.image()
    n, c, h, w = net.shapes[x]
    kind = net.draw(st.sampled_from(["MaxPool", "AveragePool", "Global", "Mean"]))
    if kind == "Global":
        net.add(f"GlobalAveragePool({x})", (n, c, 1, 1))
    elif kind == "Mean":
        net.add(f"ReduceMean<axes=[2,3]>({x})", (n, c, 1, 1))
    elif min(h, w) >= 2:
        net.add(f"{kind}<kernel_shape=[2,2], strides=[1,2]>({x})", (n, c, h - 1, (w - 2) // 2 + 1))


def move(net: Network) -> None:
    x = net.image()
    n, c, h, w = net.shapes[x]
    kind = net.draw(st.sampled_from(["turn", "stack", "pad", "half"]))
    if kind == "turn":
        net.add(f"Transpose<perm=[0,1,3,2]>({x})", (n, c, w, h))
    elif kind == "stack" and c <= 20:
        net.add(f"Concat<axis=1>({x}, {x})", (n, 2 * c, h, w))
    elif kind == "pad":
        edges = net.constant(np.array([0, 0, 1, 0, 0, 0, 1, 1]))
        net.add(f"Pad({x}, {edges})", (n, c, h + 2, w + 1))
    elif c % 2 == 0:
        bounds = [net.constant(np.array([value])) for value in (0, c // 2, 1)]
        net.add(f"Slice({x}, {', '.join(bounds)})", (n, c // 2, h, w))


def tokens(net: Network) -> None:
    """Rows of pixels through a product, a softmax or a normalization, and back into an image."""
    x = net.image()
    n, c, h, w = net.shapes[x]
    kind = net.draw(st.sampled_from(["product", "attend", "softmax", "layer", "instance"]))
    if kind == "product":
        width = net.draw(st.sampled_from([1, 5, 16, 19]))
        net.add(f"MatMul({x}, {net.weight(w, width)})", (n, c, h, width))
    elif kind == "attend":
        name = f"v{len(net.lines)}"
        net.lines.append(f"{name} = Transpose<perm=[0,1,3,2]>({x})")
        net.add(f"MatMul({x}, {name})", (n, c, h, h))
    elif kind == "softmax":
        axis = net.draw(st.integers(0, 3))
        net.add(f"Softmax<axis={axis}>({x})", net.shapes[x])
    elif kind == "layer":
        net.add(f"LayerNormalization({x}, {net.weight(w)}, {net.weight(w)})", net.shapes[x])
    elif h * w > 1:
        call = f"InstanceNormalization({x}, {net.weight(c)}, {net.weight(c)})"
        net.add(call, net.shapes[x])


def choose(net: Network) -> None:
    """Comparisons, conversions, and elements by index."""
    x = net.image()
    n, c, h, w = net.shapes[x]
    kind = net.draw(st.sampled_from(["where", "clip", "cast", "gather", "expand", "spread"]))
    if kind == "where":
        name = f"v{len(net.lines)}"
        net.lines.append(f"{name} = Less({x}, {net.weight(c, 1, 1)})")
        net.add(f"Where({name}, {x}, {net.weight(1, 1, h, w)})", net.shapes[x])
    elif kind == "clip":
        net.add(f"Clip({x}, {net.constant(np.float32(-0.5))})", net.shapes[x])
    elif kind == "cast":
        name = f"v{len(net.lines)}"
        net.lines.append(f"{name} = Greater({x}, {net.constant(np.float32(0))})")
        net.add(f"Cast<to=1>({name})", net.shapes[x])
    elif kind == "gather":
        picked = net.constant(np.array([h - 1, 0, -1]))
        net.add(f"Gather<axis=2>({x}, {picked})", (n, c, 3, w))
    elif kind == "expand" and h == 1:
        net.add(f"Expand({x}, {net.constant(np.array([n, c, 3, w]))})", (n, c, 3, w))
    elif kind == "spread" and c <= 20 and max(h, w) <= 16:
        weights = net.weight(c, 5, 2, 2)
        net.add(f"ConvTranspose<strides=[2,2]>({x}, {weights})", (n, 5, 2 * h, 2 * w))


STEPS: list[Callable[[Network], None]] = [
    conv, conv, conv, norm, unary, unary, binary, pool, move, tokens, choose
]  # fmt: skip


@st.composite
def networks(draw: st.DrawFn) -> tuple[ModelProto, dict[str, np.ndarray]]:
    shape = (draw(st.integers(1, 2)), draw(st.sampled_from([1, 3, 8, 16])), 6, 7)
    net = Network(draw, {"x": shape})
    for _ in range(draw(st.integers(2, 14))):
        draw(st.sampled_from(STEPS))(net)
    made = [n for n in net.shapes if n != "x"] or ["x"]
    if made == ["x"]:
        net.add("Relu(x)", shape)
        made = ["v0"]
    outputs = dict.fromkeys([made[-1], draw(st.sampled_from(made))])
    spelled = ", ".join(f"float[{','.join(map(str, net.shapes[o]))}] {o}" for o in outputs)
    dims = ",".join(map(str, shape))
    body = f"(float[{dims}] x) => ({spelled}) {{ {'  '.join(net.lines)} }}"
    return model(body, **net.weights), {"x": normal(*shape, seed=7)}
