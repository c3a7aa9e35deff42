"""Which side each node runs on so that a run takes the least time: exact, by minimum cut.

The estimate of a run is a sum: every node's time on its side, and every transfer's time. A value
is moved at most once each way: made on the device, it is downloaded if a node on the CPU or the
caller wants it; made on the CPU or fed by the caller, it is uploaded if a node on the device
wants it. That sum is the cost of a cut between a source (device) and a sink (CPU), with one
further vertex for each direction of each value, so a maximum flow finds the cheapest (D. M. Greig,
B. T. Porteous, A. H. Seheult, "Exact maximum a posteriori estimation for binary images",
J. R. Statist. Soc. B 51(2), 1989; H. S. Stone, "Multiprocessor scheduling with the aid of network
flow algorithms", IEEE Trans. Software Eng. SE-3(1), 1977).

What the model leaves out: both sides working at once, transfers hidden behind work, what it costs
to enter a sub-graph, what a side gains from having neighbours (fusion, warm caches), and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rekindle.runtime.hybrid.min_cut import SINK, SOURCE, Network


@dataclass(frozen=True)
class Traffic:
    """A value: who makes it, who reads it, and nanoseconds to move it."""

    producer: int | None
    """Index of the node; None: the caller feeds it."""
    consumers: tuple[int, ...]
    returned: bool
    """Whether the caller gets it."""
    upload_ns: int
    download_ns: int


@dataclass(frozen=True)
class Problem:
    """Nanoseconds of every node on either side (None: it cannot run there), and the values."""

    device_ns: Sequence[int | None]
    cpu_ns: Sequence[int | None]
    values: Sequence[Traffic]


def partition(problem: Problem) -> tuple[bool, ...]:
    """Per node whether it runs on the device; the cheapest of all 2^n ways.

    Among equally cheap ways, the one with the most nodes on the device. ValueError for a node
    that can run nowhere.
    """
    forbidden = 1 + sum(c or 0 for c in (*problem.device_ns, *problem.cpu_ns))
    forbidden += sum(v.upload_ns + v.download_ns for v in problem.values)
    network = Network()
    vertex = [_side(network, d, c) for d, c in zip(problem.device_ns, problem.cpu_ns, strict=True)]
    for value in problem.values:
        producer = SINK if value.producer is None else vertex[value.producer]
        readers = [vertex[consumer] for consumer in value.consumers]
        _add_transfer(network, producer, readers, value.upload_ns, forbidden, back=True)
        readers += [SINK] * value.returned
        _add_transfer(network, producer, readers, value.download_ns, forbidden)
    on_device = network.cut()[1]
    return tuple(on_device[v] for v in vertex)


def _side(network: Network, device_ns: int | None, cpu_ns: int | None) -> int:
    """A node's vertex: the terminal itself where it can only be there."""
    if device_ns is None:
        if cpu_ns is None:
            raise ValueError("a node can run on neither side")
        return SINK
    if cpu_ns is None:
        return SOURCE
    vertex = network.vertex()
    # What both sides cost anyway is no reason for either.
    network.arc(SOURCE, vertex, max(0, cpu_ns - device_ns))
    network.arc(vertex, SINK, max(0, device_ns - cpu_ns))
    return vertex


def _add_transfer(
    network: Network,
    producer: int,
    readers: Sequence[int],
    cost: int,
    forbidden: int,
    *,
    back: bool = False,
) -> None:
    """`cost` once, if the producer is on the source's side and any reader is not; `back`: the
    other way round.
    """
    others = sorted({*readers} - {producer})
    if not cost or not others:
        return
    # With one reader, the value needs no vertex of its own.
    gate = others[0] if len(others) == 1 else network.vertex()
    network.arc(*((gate, producer) if back else (producer, gate)), cost)
    if len(others) > 1:
        for reader in others:
            network.arc(*((reader, gate) if back else (gate, reader)), forbidden)


def total_ns(problem: Problem, on_device: Sequence[bool]) -> int | None:
    """The estimate that `partition` minimises; None where a node cannot run where it is put."""
    total = 0
    for node, device in enumerate(on_device):
        cost = problem.device_ns[node] if device else problem.cpu_ns[node]
        if cost is None:
            return None
        total += cost
    return total + sum(sum(moves(value, on_device)) for value in problem.values)


def moves(value: Traffic, on_device: Sequence[bool]) -> tuple[int, int]:
    """Nanoseconds that uploading and downloading a value takes under a placement."""
    readers = {on_device[consumer] for consumer in value.consumers}
    if value.producer is not None and on_device[value.producer]:
        return 0, value.download_ns if value.returned or False in readers else 0
    return value.upload_ns if True in readers else 0, 0
