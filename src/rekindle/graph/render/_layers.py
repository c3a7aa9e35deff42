"""Where the nodes of a graph stand on paper: layers by depth, few crossings, straight chains.

Layered drawing after Sugiyama, Tagawa and Toda 1981 ("Methods for Visual Understanding of
Hierarchical System Structures"): layer by longest path, order in a layer by the mean place of the
neighbours, then coordinates. A value read far below passes the layers between as a thin
placeholder, so that its line goes past the boxes and not through them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Item = tuple[str, int]
"""A box (its name, 0), or the placeholder of value `name` in a layer (name, layer)."""

INPUT = "input "
"""What the names of boxes for the graph's inputs begin with."""

_SWEEPS = 4
_THIN = 18.0


@dataclass(frozen=True)
class Place:
    """Centre of a box or placeholder, in pixels, and its layer."""

    x: float
    layer: int


@dataclass
class _Drawing:
    layers: list[list[Item]]
    above: dict[Item, list[Item]] = field(default_factory=dict)
    below: dict[Item, list[Item]] = field(default_factory=dict)

    def link(self, upper: Item, lower: Item) -> None:
        if lower not in self.below.setdefault(upper, []):
            self.below[upper].append(lower)
            self.above.setdefault(lower, []).append(upper)


def arrange(
    boxes: Sequence[str], sources: Mapping[str, Sequence[str]], width: float
) -> tuple[dict[Item, Place], dict[tuple[str, str], list[Item]]]:
    """Places of boxes `width` pixels wide, and the way of each line.

    `sources[b]` are the boxes that box b reads; boxes stand in topological order. A line from a
    to b is listed under (a, b) as the items it passes, both ends included.
    """
    depth = _depths(boxes, sources)
    drawing = _Drawing([[] for _ in range(max(depth.values(), default=-1) + 1)])
    for box in boxes:
        drawing.layers[depth[box]].append((box, 0))
    lines: dict[tuple[str, str], list[Item]] = {}
    for box in boxes:
        for source in dict.fromkeys(sources.get(box, ())):
            lines[source, box] = _route(drawing, source, box, depth)
    _order(drawing)
    return _coordinates(drawing, width), lines


def _depths(boxes: Sequence[str], sources: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Layers by longest path; what is made from nothing stands just above its first reader."""
    depth: dict[str, int] = {}
    readers: dict[str, list[str]] = {}
    for box in boxes:
        depth[box] = max((depth[s] + 1 for s in sources.get(box, ())), default=0)
        for source in sources.get(box, ()):
            readers.setdefault(source, []).append(box)
    fed: set[str] = set()
    for box in boxes:
        if box.startswith(INPUT) or any(s in fed for s in sources.get(box, ())):
            fed.add(box)
    for box in reversed(boxes):
        if box not in fed and box in readers:
            depth[box] = min(depth[r] for r in readers[box]) - 1
    return depth


def _route(drawing: _Drawing, source: str, box: str, depth: Mapping[str, int]) -> list[Item]:
    """The way from one box to another; lines from one source share their placeholders."""
    way: list[Item] = [(source, 0)]
    for layer in range(depth[source] + 1, depth[box]):
        item = (source, layer)
        if item not in drawing.above:
            drawing.layers[layer].append(item)
        way.append(item)
    way.append((box, 0))
    for upper, lower in pairwise(way):
        drawing.link(upper, lower)
    return way


def _order(drawing: _Drawing) -> None:
    """Sort each layer by the mean position of its neighbours, downwards and upwards in turn."""
    position = {item: i for layer in drawing.layers for i, item in enumerate(layer)}
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        near = drawing.above if down else drawing.below
        for layer in drawing.layers if down else reversed(drawing.layers):
            layer.sort(
                key=lambda item: _mean([position[n] for n in near.get(item, ())], position[item])
            )
            position.update((item, i) for i, item in enumerate(layer))


def _coordinates(drawing: _Drawing, width: float) -> dict[Item, Place]:
    x: dict[Item, float] = {}
    for layer in drawing.layers:
        _settle(layer, [0.0] * len(layer), width, x)
    for sweep in range(2 * _SWEEPS):
        near = drawing.above if sweep % 2 == 0 else drawing.below
        for layer in drawing.layers if sweep % 2 == 0 else reversed(drawing.layers):
            wanted = [_mean([x[n] for n in near.get(item, ())], x[item]) for item in layer]
            _settle(layer, wanted, width, x)
    left = min((v - width / 2 for v in x.values()), default=0.0)
    return {
        item: Place(x[item] - left, number)
        for number, layer in enumerate(drawing.layers)
        for item in layer
    }


def _settle(
    layer: Sequence[Item], wanted: Sequence[float], width: float, x: dict[Item, float]
) -> None:
    """Put the items of a layer, in their order, as near to `wanted` as their widths allow."""
    placed: list[float] = []
    for i, item in enumerate(layer):
        if i:
            gap = (_width(item, width) + _width(layer[i - 1], width)) / 2 + _THIN
            placed.append(max(wanted[i], placed[-1] + gap))
        else:
            placed.append(wanted[i])
    shift = _mean([w - p for w, p in zip(wanted, placed, strict=True)], 0.0)
    x.update((item, p + shift) for item, p in zip(layer, placed, strict=True))


def _width(item: Item, width: float) -> float:
    return _THIN if item[1] else width


def _mean(numbers: Sequence[float], default: float) -> float:
    return sum(numbers) / len(numbers) if numbers else default
