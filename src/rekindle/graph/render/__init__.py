"""A graph for people: a summary as plain data, and one self-contained page with its picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from html import escape
from typing import Any

from rekindle._types import TensorSpec
from rekindle.graph.ir import Graph, Value
from rekindle.graph.render._picture import picture

_MAX_DRAWN = 1500
"""Beyond, nobody can read the picture, and browsers grow slow."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #6b7280; --paper: #ffffff;
  --line: #9aa3b2; --box: #eef0f4; --product: #ffd9b8; --pool: #cfe3ff; --move: #e4dcf7;
  --end: #cdeed6; --device: #ffd0c2; --cpu: #cfe3ff; --way: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ec; --soft: #9aa3b2; --paper: #16181d;
  --line: #596273; --box: #2a2e37; --product: #6b4420; --pool: #25446b; --move: #433a62;
  --end: #24503a; --device: #6f3322; --cpu: #25446b; --way: #ff8a70; } }
body { margin: 2rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
main { display: flex; flex-wrap: wrap; gap: 2.5rem; align-items: flex-start; }
table { border-collapse: collapse; margin-bottom: 1.5rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .25rem; }
td { padding: .1rem 1.2rem .1rem 0; vertical-align: top; }
td + td { font-variant-numeric: tabular-nums; }
figure { margin: 0; overflow: auto; max-width: 100%; }
text { fill: var(--ink); font: 12px system-ui, sans-serif; text-anchor: middle; }
text.dims { fill: var(--soft); font-size: 10.5px; }
rect { fill: var(--box); stroke: var(--line); }
.product rect { fill: var(--product); } .pool rect { fill: var(--pool); }
.move rect { fill: var(--move); } .input rect, .output rect { fill: var(--end); }
.device rect { fill: var(--device); } .cpu rect { fill: var(--cpu); }
.host rect { stroke-dasharray: 4 3; stroke: var(--ink); }
g:hover rect { stroke: var(--ink); stroke-width: 2; }
.line { fill: none; stroke: var(--line); stroke-width: 1.5; }
.line.transfer { stroke: var(--way); stroke-width: 2.5; stroke-dasharray: 7 3; }
.line:hover { stroke: var(--ink); stroke-width: 3; }
"""


def summary(graph: Graph) -> dict[str, Any]:
    """The graph in figures: `name`, `opsets`, `inputs`, `outputs`, `nodes`, `operators` (by name,
    most frequent first), `parameters` (elements of floating point constants), `constant_bytes`.
    """
    constants = [graph.values[n] for n in graph.initializers]
    return {
        "name": graph.name,
        "opsets": dict(graph.opsets),
        "inputs": [_spec(s) for s in graph.input_specs()],
        "outputs": [_typed(graph, n) for n in graph.outputs],
        "nodes": len(graph.nodes),
        "operators": dict(Counter(n.qualified for n in graph.nodes).most_common()),
        "parameters": sum(_elements(v) for v in constants if v.dtype.is_float),
        "constant_bytes": sum(a.nbytes for a in graph.initializers.values()),
    }


def page(
    graph: Graph,
    *,
    title: str,
    facts: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    host: Collection[str] = (),
    by_side: bool = False,
) -> str:
    """One self-contained HTML page: facts, operators, and the graph with shapes on hover.

    `facts` are extra lines for the first table. `notes` (a line in the tooltip) and `host`
    (drawn dashed: runs on the host) are keyed by the name of a node's first output. `by_side`
    colours by device and host instead of by kind, and marks the lines that lead across.
    """
    figures = summary(graph)
    lines = {
        **(facts or {}),
        "nodes": f"{figures['nodes']:,}",
        "parameters": f"{figures['parameters']:,}",
        "constants": f"{figures['constant_bytes']:,} bytes",
        **{f"input {s['name']}": _type_text(s) for s in figures["inputs"]},
        **{f"output {s['name']}": _type_text(s) for s in figures["outputs"]},
    }
    operators = {name: str(count) for name, count in figures["operators"].items()}
    if len(graph.nodes) > _MAX_DRAWN:
        drawn = f"<p>{len(graph.nodes):,} nodes are too many to draw.</p>"
    else:
        drawn = picture(graph, notes or {}, host, by_side)
    heading = escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title><style>{_STYLE}</style></head>\n<body><h1>{heading}</h1>\n"
        f"<main><div>{_table('model', lines)}{_table('operators', operators)}</div>\n"
        f"<figure>{drawn}</figure></main></body></html>\n"
    )


def _table(caption: str, rows: Mapping[str, str]) -> str:
    cells = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>\n" for k, v in rows.items())
    return f"<table><caption>{escape(caption)}</caption>{cells}</table>"


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape)}


def _typed(graph: Graph, name: str) -> dict[str, Any]:
    """An output; of a graph with unknown operators its type may be unknown."""
    value = graph.values.get(name)
    if value is None or value.shape is None:
        return {"name": name, "dtype": str(value.dtype) if value else None, "shape": None}
    return _spec(TensorSpec(name, value.dtype, value.shape))


def _type_text(spec: Mapping[str, Any]) -> str:
    if spec["shape"] is None:
        return spec["dtype"] or "of unknown type"
    return f"{spec['dtype']}[{', '.join(map(str, spec['shape']))}]"


def _elements(value: Value) -> int:
    return math.prod(value.static_shape)
