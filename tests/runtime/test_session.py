"""One session over every provider: the same model, feeds, errors and results."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import small_models
from onnx import helper

from rekindle import open_session
from rekindle._errors import (
    InputError,
    MemoryLimitError,
    RekindleError,
    UnsupportedOperatorError,
)
from rekindle._types import DType, TensorSpec
from rekindle.runtime import Session
from rekindle.runtime.benchmark import difference
from tests.engine.graphs import classifier, model, write

PROVIDERS = [pytest.param("opencl", marks=pytest.mark.opencl), "onnxruntime", "reference"]


def image(batch: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3, 17, 19)).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(classifier(), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=PROVIDERS)
def session(request: pytest.FixtureRequest, path: Path) -> Iterator[Session]:
    with open_session(path, provider=request.param) as opened:
        yield opened


def test_inputs_and_outputs_are_the_models(session: Session) -> None:
    assert session.inputs == (TensorSpec("x", DType.FLOAT32, ("N", 3, 17, 19)),)
    assert session.outputs == (TensorSpec("y", DType.FLOAT32, ("N", 10)),)


@pytest.mark.parametrize("batch", [1, 3, 2])
def test_providers_agree_at_every_batch(session: Session, path: Path, batch: int) -> None:
    expected = open_session(path, provider="reference").run({"x": image(batch)})
    got = session.run({"x": image(batch)})
    assert list(got) == ["y"]
    assert got["y"].dtype == np.float32
    assert difference(got["y"], expected["y"]) <= 1e-4


def test_nan_stays_in_its_own_row(session: Session) -> None:
    x = image(2)
    x[1, 2, 5, 5] = np.nan
    y = session.run({"x": x})["y"]
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1]).all()


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({}, "input x is missing"),
        ({"x": image(), "z": image()}, "unknown input z"),
        ({"x": image().astype(np.float64)}, "expected dtype float32, got float64"),
        ({"x": image().astype(np.complex64)}, "complex64"),
        ({"x": image()[0]}, r"expected rank 4 \[N, 3, 17, 19\], got rank 3 \[3, 17, 19\]"),
        ({"x": image()[:, :2]}, r"expected shape \[N, 3, 17, 19\], got \[1, 2, 17, 19\]"),
        ({"x": np.array(["cat"])}, "expected dtype float32, got str"),
    ],
)
def test_wrong_feeds_say_which_expected_and_got(
    session: Session, feeds: dict[str, np.ndarray], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        session.run(feeds)


def test_strided_and_read_only_feeds_are_fine(session: Session) -> None:
    x = image(4)
    expected = session.run({"x": x[::2].copy()})["y"]
    view = x[::2]
    view.flags.writeable = False
    np.testing.assert_array_equal(session.run({"x": view})["y"], expected)


def test_many_threads_get_their_own_answers(session: Session) -> None:
    inputs = [image(1, seed) for seed in range(6)]
    expected = [session.run({"x": x})["y"] for x in inputs]
    got: dict[int, np.ndarray] = {}

    def work(k: int) -> None:
        for _ in range(3):
            got[k] = session.run({"x": inputs[k]})["y"]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, want in enumerate(expected):
        np.testing.assert_array_equal(got[k], want)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_closed_session_says_so_and_closing_twice_is_fine(path: Path, provider: str) -> None:
    opened = open_session(path, provider=provider)
    opened.run({"x": image()})
    opened.close()
    opened.close()
    with pytest.raises(RekindleError, match="closed"):
        opened.run({"x": image()})


def test_metadata_is_the_same_for_all(session: Session, path: Path) -> None:
    data = session.metadata
    assert (data.framework, data.file_bytes) == ("onnx", path.stat().st_size)
    assert data.provider == session.placement.provider
    weights = 13 * 27 + 4 * 13 + 13 * 13 * 9 + 13 + 13 * 9 + 26 * 13 + 260 + 10
    assert data.parameters == weights
    assert data.peak_device_bytes is None or data.peak_device_bytes > 4 * weights
    assert data.to_dict()["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": ["N", 3, 17, 19]}
    ]


@pytest.mark.opencl
def test_placement_says_what_ran_where(path: Path) -> None:
    with open_session(path, provider="opencl") as opened:
        opened.run({"x": image()})
        nodes = opened.placement.nodes
        assert opened.placement.reason == "asked for"
        assert {n.where for n in nodes} == {"device"}
        assert all(n.kernels for n in nodes if n.op_type == "rekindle::Conv")
        assert opened.device_bytes is not None
        assert opened.device_bytes > 0


@pytest.mark.opencl
def test_a_model_larger_than_the_limit_is_refused_before_loading_with_both_figures(
    path: Path,
) -> None:
    with pytest.raises(MemoryLimitError, match=r"needs [\d,]+ bytes .* limit is 10,000 "):
        open_session(path, provider="opencl", memory_limit=10_000)
    with open_session(path, provider="opencl", memory_limit="1MB") as opened:
        # A larger batch is a larger plan: it is refused too, and the small one still runs.
        with pytest.raises(MemoryLimitError):
            opened.run({"x": image(64)})
        assert opened.run({"x": image(1)})["y"].shape == (1, 10)


@pytest.mark.opencl
def test_strict_refuses_the_host_and_names_the_node(tmp_path: Path) -> None:
    proto = small_models.model("(float[N,5] x) => (int64[2,M] y) { r = Relu(x)  y = NonZero(r) }")
    path = write(proto, tmp_path)
    with pytest.raises(UnsupportedOperatorError, match="NonZero"):
        open_session(path, provider="opencl", strict=True)
    with open_session(path, provider="opencl") as opened:
        x = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
        y = opened.run({"x": x})["y"]
        np.testing.assert_array_equal(y, np.nonzero(x > 0))
        assert [n.where for n in opened.placement.nodes] == ["device", "host"]


@pytest.mark.opencl
def test_an_output_that_is_an_input_or_a_constant_is_a_copy(tmp_path: Path) -> None:
    proto = model(
        [
            helper.make_node("Reshape", ["x", "shape"], ["y"]),
            helper.make_node("Identity", ["c"], ["z"]),
        ],
        {"x": [2, 3]},
        {"y": [3, 2], "z": [2]},
        {"shape": np.array([3, 2]), "c": np.array([1.0, 2.0], np.float32)},
    )
    with open_session(write(proto, tmp_path), provider="opencl") as opened:
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        first = opened.run({"x": x})
        first["y"][:] = -1
        first["z"][:] = -1
        assert x.min() == 0
        second = opened.run({"x": x})
        np.testing.assert_array_equal(second["y"], x.reshape(3, 2))
        np.testing.assert_array_equal(second["z"], [1, 2])


@pytest.mark.opencl
def test_what_one_shape_folds_is_not_what_another_shape_reads(tmp_path: Path) -> None:
    table = np.arange(80, dtype=np.float32).reshape(20, 4)
    proto = small_models.model(
        """(float[T,4] x) => (float[R,4] y) {
             s = Shape(x)  size = Gather(s, zero)  ends = Unsqueeze(size, at)
             starts = Sub(ends, two)  last = Slice(table, starts, ends, at)
             two_rows = Slice(x, starts, ends, at)  sum = Add(two_rows, last)
             y = Concat<axis=0>(sum, x) }""",
        zero=np.array(0), at=np.array([0]), two=np.array([2]), table=table,
    )  # fmt: skip
    path = write(proto, tmp_path)
    with open_session(path, provider="opencl", strict=True) as opened:
        for rows in (9, 4, 9):
            x = np.full((rows, 4), 0.5, np.float32)
            expected = np.concatenate([x[-2:] + table[rows - 2 : rows], x])
            np.testing.assert_array_equal(opened.run({"x": x})["y"], expected)


@pytest.mark.opencl
def test_more_shapes_than_plans_are_kept(path: Path) -> None:
    with open_session(path, provider="opencl") as opened:
        expected = opened.run({"x": image(1)})["y"]
        for batch in (*range(2, 11), 1):
            y = opened.run({"x": np.repeat(image(1), batch, axis=0)})["y"]
            np.testing.assert_allclose(y, np.repeat(expected, batch, axis=0), rtol=1e-5)
