"""The cheapest way to cut a network in two: maximum flow by shortest augmenting paths.

E. A. Dinic, "Algorithm for solution of a problem of maximum flow in networks with power
estimation", Soviet Math. Doklady 11, 1970. Whole numbers only, so the answer is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SOURCE, SINK = 0, 1


@dataclass
class Network:
    """A directed network with capacities. Vertices are 0, 1, 2, ...; 0 is the source, 1 the sink.

    Arc k and its reverse k ^ 1 lie side by side in `heads` and `capacities`.
    """

    arcs: list[list[int]] = field(default_factory=lambda: [[], []])
    heads: list[int] = field(default_factory=list)
    capacities: list[int] = field(default_factory=list)

    def vertex(self) -> int:
        self.arcs.append([])
        return len(self.arcs) - 1

    def arc(self, tail: int, head: int, capacity: int) -> None:
        """Capacity from tail to head; ValueError where it is negative."""
        if capacity < 0:
            raise ValueError(f"a capacity of {capacity}; expected 0 or more")
        if capacity:
            self.arcs[tail].append(len(self.heads))
            self.arcs[head].append(len(self.heads) + 1)
            self.heads += (head, tail)
            self.capacities += (capacity, 0)

    def cut(self) -> tuple[int, list[bool]]:
        """The cost of the cheapest cut, and per vertex whether it is on the source's side.

        Of several cheapest cuts, the one with the most vertices on the source's side. The
        network keeps what the flow has left of its capacities: cut once.
        """
        flow = 0
        while (depth := self._depths())[SOURCE] >= 0:
            flow += self._saturate(depth)
        return flow, [d < 0 for d in depth]

    def _depths(self) -> list[int]:
        """Per vertex how many arcs the sink is away through what is left; -1: out of reach."""
        depth = [-1] * len(self.arcs)
        depth[SINK] = 0
        reached = [SINK]
        for vertex in reached:
            for arc in self.arcs[vertex]:
                tail = self.heads[arc]
                if depth[tail] < 0 and self.capacities[arc ^ 1]:
                    depth[tail] = depth[vertex] + 1
                    reached.append(tail)
        return depth

    def _saturate(self, depth: list[int]) -> int:
        """Send flow along shortest paths until none is left; returns how much."""
        arcs, heads, capacities = self.arcs, self.heads, self.capacities
        at = [0] * len(arcs)  # the first arc of each vertex that may still lead to the sink
        flow, path, vertex = 0, list[int](), SOURCE
        while True:
            if vertex == SINK:
                amount = min([capacities[arc] for arc in path])
                flow += amount
                for arc in path:
                    capacities[arc] -= amount
                    capacities[arc ^ 1] += amount
                full = next(place for place, arc in enumerate(path) if not capacities[arc])
                vertex = heads[path[full] ^ 1]  # go on from the first full arc
                del path[full:]
            own, down = arcs[vertex], depth[vertex] - 1
            for place in range(at[vertex], len(own)):
                arc = own[place]
                if capacities[arc] and depth[heads[arc]] == down:
                    at[vertex] = place
                    path.append(arc)
                    vertex = heads[arc]
                    break
            else:
                at[vertex] = len(own)
                if not path:
                    return flow
                vertex = heads[path.pop() ^ 1]
                at[vertex] += 1  # a dead end
