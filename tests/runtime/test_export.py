"""TorchScript and torch.export archives: safe to open, right shapes, equal results everywhere."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rekindle import open_session  # noqa: E402
from rekindle._errors import ModelError, UnsupportedOperatorError  # noqa: E402
from rekindle._types import DType, TensorSpec  # noqa: E402
from rekindle.runtime.benchmark import difference  # noqa: E402
from rekindle.runtime.export import traced_inputs  # noqa: E402
from rekindle.runtime.export.expressions import is_arithmetic  # noqa: E402

pytestmark = pytest.mark.torch
EVERYWHERE = [
    pytest.param("opencl", marks=pytest.mark.opencl),
    "onnxruntime",
    "reference",
    "torchscript",
]


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.silu(self.norm(self.conv(picture)))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(0)
    network = Net()
    network.norm.running_mean.uniform_(-1, 1)
    network.norm.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def example() -> Any:
    return torch.randn(2, 3, 16, 20, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=["traced", "scripted", "exported"])
def archive(
    request: pytest.FixtureRequest, net: Any, example: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("archive") / "model.pth"
    if request.param == "traced":
        torch.jit.trace(net, example).save(str(path))
    elif request.param == "scripted":
        torch.jit.script(net).save(str(path))
    else:
        batch = torch.export.Dim("batch", min=1, max=64)
        program = torch.export.export(net, (example,), dynamic_shapes=({0: batch},))
        torch.export.save(program, path.with_suffix(".pt2"))
        path.with_suffix(".pt2").rename(path)
    return path


@pytest.mark.parametrize("provider", EVERYWHERE)
def test_an_archive_runs_on_every_provider_as_in_torch(
    archive: Path, net: Any, example: Any, provider: str
) -> None:
    with open_session(archive, provider=provider) as session:
        (spec,) = session.inputs
        assert (spec.name, spec.dtype, len(spec.shape)) == ("picture", DType.FLOAT32, 4)
        assert isinstance(spec.shape[0], str)
        assert [s.name for s in session.outputs] == ["output"]
        assert session.outputs[0].shape[1:] == (5,)
        side = [d if isinstance(d, int) else 24 for d in spec.shape[2:]]
        for batch in (1, 3):
            x = torch.randn(batch, 3, *side)
            with torch.no_grad():
                want = net(x).numpy()
            assert difference(session.run({"picture": x.numpy()})["output"], want) <= 1e-4


def test_the_archive_tells_its_shapes_or_they_are_probed(archive: Path) -> None:
    with open_session(archive, provider="torchscript") as session:
        (spec,) = session.inputs
        if session.metadata.framework == "torch.export":
            assert spec.shape[1:] == (3, 16, 20)
        else:
            # TorchScript: every size was tried; this network takes any but other channels.
            assert spec.shape == ("N", 3, "picture_2", "picture_3")
        assert session.metadata.parameters == 8 * 27 + 8 + 16 + 45


def test_shapes_of_a_trace_are_read_without_torch(net: Any, example: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.pt"
    torch.jit.trace(net, example).save(str(path))
    assert traced_inputs.read(path) == ((DType.FLOAT32, (2, 3, 16, 20)),)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "evil.pt", "w") as target:
        for name in source.namelist():
            evil = name.endswith("traced_inputs.pkl")
            target.writestr(name, pickle.dumps(print) if evil else source.read(name))
    assert traced_inputs.read(tmp_path / "evil.pt") is None


def test_the_export_is_made_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_session(archive, provider="onnxruntime").close()
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("exported again"))
    open_session(archive, provider="onnxruntime").close()


def test_what_cannot_be_exported_is_refused_by_operator_name(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    path = tmp_path / "odd.pt"
    torch.jit.trace(Odd(), torch.randn(2, 3)).save(str(path))
    with pytest.raises(UnsupportedOperatorError, match="bessel_j0"):
        open_session(path, provider="onnxruntime")
    with open_session(path, provider="torchscript") as session:
        y = session.run({"x": np.zeros((2, 3), np.float32)})["output"]
        np.testing.assert_allclose(y, 1.0)


def test_shapes_from_the_caller(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return a @ b, a.sum(1)

    path = tmp_path / "two.pt"
    torch.jit.script(Two()).save(str(path))
    with pytest.raises(ModelError, match="does not tell the shapes"):
        open_session(path, provider="torchscript")
    given = [TensorSpec("a", DType.FLOAT32, (4, 3)), TensorSpec("b", DType.FLOAT32, (3, 7))]
    with open_session(path, provider="onnxruntime", inputs=given) as session:
        a = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
        b = np.random.default_rng(1).standard_normal((3, 7)).astype(np.float32)
        outputs = session.run({"a": a, "b": b})
        assert list(outputs) == ["output_0", "output_1"]
        np.testing.assert_allclose(outputs["output_0"], a @ b, rtol=1e-5)
        np.testing.assert_allclose(outputs["output_1"], a.sum(1), rtol=1e-5)


@pytest.mark.parametrize("save", [lambda n, p: torch.save(n.state_dict(), p), torch.save])
def test_weights_and_pickled_modules_are_refused(net: Any, tmp_path: Path, save: Any) -> None:
    path = tmp_path / "model.pt"
    save(net, path)
    with pytest.raises(ModelError, match=r"weights only|would run code"):
        open_session(path)


def _exported(net: Any, example: Any) -> zipfile.ZipFile:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(net, (example,)), buffer)
    return zipfile.ZipFile(buffer)


@pytest.mark.parametrize(
    ("member", "data", "says"),
    [
        ("data/constants/custom_obj_0", pickle.dumps(print), "pickled object"),
        (
            "models/model.json",
            json.dumps({"x": {"expr_str": "__import__('os').system('true')"}}).encode(),
            "symbolic size",
        ),
        ("models/model.json", b"{", "not JSON"),
    ],
)
def test_exported_archives_are_looked_at_before_torch_sees_them(
    net: Any, example: Any, tmp_path: Path, member: str, data: bytes, says: str
) -> None:
    source = _exported(net, example)
    root = source.namelist()[0].partition("/")[0]
    path = tmp_path / "bad.pt2"
    with zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if name != f"{root}/{member}":
                target.writestr(name, source.read(name))
        target.writestr(f"{root}/{member}", data)
    with pytest.raises(ModelError, match=says):
        open_session(path, provider="torchscript")


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("Symbol('s64', positive=True, integer=True)", True),
        ("Mul(Integer(2), Symbol('s0')) + 3*s1 // 2", True),
        ("floor(s0/2)", True),
        ("", True),
        ("Add('__import__(1)')", False),
        ("eval(s0)", False),
        ("(lambda: 1)()", False),
        ("s0.__class__", False),
        ("[x for x in s0]", False),
        ("Symbol('a b')", False),
        ("1 +", False),
    ],
)
def test_only_arithmetic_is_given_to_the_evaluating_parser(text: str, allowed: bool) -> None:
    assert is_arithmetic(text) is allowed


def test_a_damaged_archive_is_refused(net: Any, example: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.trace(net, example).save(str(path))
    whole = path.read_bytes()
    for cut in (100, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelError):
            open_session(path, provider="torchscript")
