"""A kernel that the driver does not compile: another takes its calls, and the placement says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rekindle import open_session
from rekindle._errors import KernelError, UnsupportedOperatorError
from rekindle.engine import compiler, program
from rekindle.engine.kernels import source_text
from tests.engine.graphs import classifier, write

pytestmark = pytest.mark.opencl
X = np.random.default_rng(3).standard_normal((1, 3, 17, 19)).astype(np.float32)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make sources of these stems nonsense, in contexts that have compiled nothing yet."""

    def spoiled(*stems: str) -> None:
        def text(asked: str) -> str:
            return "no C at all;" if asked in stems else source_text(asked)

        monkeypatch.setattr(program, "source_text", text)
        monkeypatch.setattr(compiler, "_COMPILERS", {})

    return spoiled


def expected(path: Path) -> np.ndarray:
    with open_session(path, provider="onnxruntime") as session:
        return session.run({"x": X})["y"]


def test_another_kernel_takes_the_calls(tmp_path: Path, spoil: Callable[..., None]) -> None:
    path = write(classifier(), tmp_path)
    spoil("depthwise_tiled", "depthwise_lanes")
    with open_session(path, provider="opencl", strict=True) as session:
        found = session.run({"x": X})["y"]
        reasons = [n.reason for n in session.placement.nodes if n.reason]
        used = {k for n in session.placement.nodes for k in n.kernels}
    np.testing.assert_allclose(found, expected(path), rtol=1e-4, atol=1e-6)
    assert not {"depthwise_tiled", "depthwise_lanes"} & used
    assert len(reasons) == 1
    assert "does not compile on this driver" in reasons[0]


def test_without_another_the_host_stands_in_or_strict_refuses(
    tmp_path: Path, spoil: Callable[..., None]
) -> None:
    path = write(classifier(), tmp_path)
    spoil("softmax")
    with open_session(path, provider="opencl") as session:
        found = session.run({"x": X})["y"]
        (host,) = (n for n in session.placement.nodes if n.where == "host")
    assert host.op_type == "Softmax"
    assert "softmax does not compile on this driver" in host.reason
    np.testing.assert_allclose(found, expected(path), rtol=1e-4, atol=1e-6)
    with (
        open_session(path, provider="opencl", strict=True) as session,
        pytest.raises(UnsupportedOperatorError, match="softmax does not compile"),
    ):
        session.run({"x": X})


def test_a_kernel_behind_another_name_is_found(tmp_path: Path, spoil: Callable[..., None]) -> None:
    """`reorder` of whole blocks launches `copy`'s source: both must go, one after the other."""
    path = write(classifier(channels=16), tmp_path)
    spoil("copy", "reorder")
    with open_session(path, provider="opencl") as session:
        found = session.run({"x": X})["y"]
        used = {k for n in session.placement.nodes for k in n.kernels}
    assert not {"copy", "reorder"} & used
    np.testing.assert_allclose(found, expected(path), rtol=1e-4, atol=1e-6)


def test_one_program_that_fails_as_a_whole_is_built_in_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A driver may give up on a large program, and take each of its kernels."""
    made = compiler.Compiler.build

    def build(self: compiler.Compiler, source: str) -> object:
        if source.count("#define NAME_(") > 1:
            raise KernelError("too much at once")
        return made(self, source)

    monkeypatch.setattr(compiler, "_COMPILERS", {})
    monkeypatch.setattr(compiler.Compiler, "build", build)
    path = write(classifier(), tmp_path)
    with open_session(path, provider="opencl", strict=True) as session:
        np.testing.assert_allclose(session.run({"x": X})["y"], expected(path), rtol=1e-4, atol=1e-6)
        assert not any(n.reason for n in session.placement.nodes)
