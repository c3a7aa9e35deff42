"""Names of constants, so that the plans of one session may share what they hold on the device.

A session plans once for each set of input shapes, and packed constants are shared by name. What
the model brings is the same in every plan. What binding folds, a pass computes or an operator adds
(positions, masks, offsets) may differ from shape to shape under one name: such constants get names
that say what they hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rekindle.graph.ir import Array, Graph, Value
from rekindle.graph.lowering import LogicalCall

_DIGEST_BYTES = 12


@dataclass
class ConstantNames:
    """Renames the constants of one plan."""

    graph: Graph
    """Gets the constants under their new names, too."""
    model: Mapping[str, Array]
    """Constants that every plan has, as the same arrays: they keep their names."""
    _names: dict[str, str] = field(default_factory=dict)

    def settle(self, call: LogicalCall) -> LogicalCall:
        """The call with every constant among its inputs under the name it keeps."""
        inputs = tuple(self._value(v) if v is not None else None for v in call.inputs)
        parts = tuple(map(self.settle, call.parts))
        return replace(call, inputs=inputs, parts=parts) if inputs != call.inputs else call

    def _value(self, value: Value) -> Value:
        array = self.graph.initializers.get(value.name)
        if array is None or self.model.get(value.name) is array:
            return value
        if value.name not in self._names:
            name = f"{value.name}:{_digest(array)}"
            self._names[value.name] = name
            self.graph.initializers[name] = array
        return replace(value, name=self._names[value.name])


def _digest(array: Array) -> str:
    facts = f"{array.dtype} {array.shape}".encode()
    digest = hashlib.blake2b(facts, digest_size=_DIGEST_BYTES)
    digest.update(array.tobytes())
    return digest.hexdigest()
