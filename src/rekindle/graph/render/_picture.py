"""A graph as an SVG picture: one box a node, its shapes on hover."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from html import escape

from rekindle._types import DType
from rekindle.graph.expr import Expr, size
from rekindle.graph.ir import Graph, Node, Value
from rekindle.graph.order import reads
from rekindle.graph.render._formula import formula
from rekindle.graph.render._layers import INPUT, Item, Place, arrange

_WIDTH, _HEIGHT, _GAP, _EDGE = 168.0, 36.0, 26.0, 12.0
_LABEL = 24
"""Characters that fit into a box."""

_KINDS = {
    "product": ("Conv", "ConvTranspose", "Gemm", "MatMul"),
    "pool": (
        "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMean",
        "ReduceSum", "Softmax",
    ),
    "move": (
        "Concat", "Expand", "Flatten", "Gather", "Pad", "Reorder", "Reshape", "Slice", "Split",
        "Squeeze", "Tile", "Transpose", "Unsqueeze",
    ),
}  # fmt: skip
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}


def picture(
    graph: Graph, notes: Mapping[str, str], host: Collection[str], by_side: bool = False
) -> str:
    """The SVG text. `notes` and `host` are keyed by a node's first output.

    `by_side`: colours say device or host, and lines between the two (what the caller feeds and
    gets is on the host) are marked.
    """
    nodes = [n for n in graph.nodes if n.op_type != "Constant"]
    maker = {out: _key(node) for node in nodes for out in node.outputs if out}
    maker |= {name: INPUT + name for name in graph.inputs}
    boxes = {INPUT + n: _end_box(graph, n, "input") for n in graph.inputs}
    sources: dict[str, list[str]] = {}
    carried: dict[tuple[str, str], list[str]] = {}

    def connect(values: Iterable[str], box: str) -> None:
        for value in values:
            if value in maker:
                sources.setdefault(box, []).append(maker[value])
                carried.setdefault((maker[value], box), []).append(value)

    on_device: set[str] = set()
    for node in nodes:
        made = next(filter(None, node.outputs))
        if made not in host:
            on_device.add(_key(node))
        kind = _KIND_OF.get(node.op_type, "other")
        if by_side:
            kind = "cpu" if made in host else "device"
        kind += " host" * (made in host)
        boxes[_key(node)] = _node_box(graph, node, notes.get(made, ""), kind)
        connect(reads(node), _key(node))
    for value in graph.outputs:
        boxes[f"output {value}"] = _end_box(graph, value, "output")
        connect([value], f"output {value}")
    places, lines = arrange(list(boxes), sources, _WIDTH)
    drawn = []
    for (maker_box, reader), way in lines.items():
        crosses = by_side and (maker_box in on_device) != (reader in on_device)
        values = carried[maker_box, reader]
        drawn.append(_line(graph, [places[item] for item in way], values, crosses))
    drawn += [_move(places[name, 0], box) for name, box in boxes.items()]
    return _svg(places, drawn)


def _key(node: Node) -> str:
    return f"node {next(filter(None, node.outputs))}"


def _svg(places: Mapping[Item, Place], drawn: list[str]) -> str:
    width = max((p.x for p in places.values()), default=0) + _WIDTH / 2 + 2 * _EDGE
    height = _top(max((p.layer for p in places.values()), default=0)) + _HEIGHT + _EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">\n' + "\n".join(drawn) + "\n</svg>"
    )


def _top(layer: int) -> float:
    return _EDGE + layer * (_HEIGHT + _GAP)


def _move(place: Place, box: str) -> str:
    x = place.x - _WIDTH / 2 + _EDGE
    return f'<g transform="translate({x:.1f} {_top(place.layer):.1f})" {box}</g>'


def _node_box(graph: Graph, node: Node, note: str, kind: str) -> str:
    """Two lines of text in a box, everything else in the tooltip; `kind`: its classes."""
    label = node.op_type
    epilogue = node.attr("epilogue")
    if isinstance(epilogue, Expr):
        label += f" + {size(epilogue)} op" + "s" * (size(epilogue) != 1)
    tips = [str(node) if node.name else node.qualified]
    tips += [f"in   {describe(graph, n)}" for n in node.inputs if n]
    tips += [f"out  {describe(graph, n)}" for n in node.outputs if n]
    for key, value in node.attrs.items():
        if isinstance(value, Expr):
            tips.append(f"{key} = {formula(value)}")
        elif isinstance(value, int | float | str | tuple):
            tips.append(f"{key} = {value}")
    tips += [note] if note else []
    return _box(kind, label, _dims(graph, next(filter(None, node.outputs))), tips)


def _end_box(graph: Graph, name: str, kind: str) -> str:
    return _box(kind, name, _dims(graph, name), [f"{kind} {describe(graph, name)}"])


def _box(kind: str, label: str, detail: str, tips: list[str]) -> str:
    middle = _WIDTH / 2
    return (
        f'class="{kind}"><title>{escape(chr(10).join(tips))}</title>'
        f'<rect width="{_WIDTH:.0f}" height="{_HEIGHT:.0f}" rx="5"/>'
        f'<text x="{middle:.0f}" y="15">{escape(_short(label))}</text>'
        f'<text x="{middle:.0f}" y="29" class="dims">{escape(_short(detail))}</text>'
    )


def _short(words: str) -> str:
    return words if len(words) <= _LABEL else words[: _LABEL - 1] + "…"


def _dims(graph: Graph, name: str) -> str:
    value = graph.values.get(name)
    if value is None or value.shape is None:
        return "shape unknown"
    return "×".join(map(str, value.shape)) or "scalar"


def describe(graph: Graph, name: str) -> str:
    """A value in words: name, dtype, shape, layout, whether it is a constant."""
    value = graph.values.get(name)
    if value is None:
        return f"{name}: of unknown type"
    layout = f" {value.layout}" if value.layout.block else ""
    constant = " constant" if name in graph.initializers else ""
    return f"{name}: {value.dtype}[{_listed(value)}]{layout}{constant}{_number(graph, name)}"


def _listed(value: Value) -> str:
    return "?" if value.shape is None else ", ".join(map(str, value.shape))


def _number(graph: Graph, name: str) -> str:
    array = graph.constant(name)
    if array is None or array.size != 1 or graph.values[name].dtype is DType.STRING:
        return ""
    return f" = {array.reshape(()).item():.6g}"


def _line(graph: Graph, way: list[Place], values: list[str], crosses: bool) -> str:
    """A smooth line from box to box, past the placeholders between; marked where it `crosses`."""
    tips = [describe(graph, value) for value in dict.fromkeys(values)]
    if crosses:
        tips.append("moved between host and device")
    title = escape("\n".join(tips))
    x, y = way[0].x + _EDGE, _top(way[0].layer) + _HEIGHT
    path = f"M{x:.1f} {y:.1f}"
    for place in way[1:]:
        nx, ny = place.x + _EDGE, _top(place.layer)
        bend = (ny - y) / 2
        path += f"C{x:.1f} {y + bend:.1f} {nx:.1f} {ny - bend:.1f} {nx:.1f} {ny:.1f}"
        x, y = nx, ny
        if place is not way[-1]:
            y += _HEIGHT
            path += f"V{y:.1f}"
    return f'<path class="line{" transfer" * crosses}" d="{path}"><title>{title}</title></path>'
