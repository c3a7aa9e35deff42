"""ArgMax and ArgMin with NaN: the reference does what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import pytest
from single_node import agree


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_nan_and_equals(operator: str, last: int, axis: int) -> None:
    x = np.array([[1, np.nan, 3, 3, 1], [np.nan, 5, 5, -1, -1], [2, 2, 2, 2, 2]], np.float32)
    agree(operator, [x], {"axis": axis, "select_last_index": last}, opset=13)
