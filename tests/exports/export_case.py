"""What a case of the table is, and how it becomes an ONNX file and PyTorch's own answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from zoo_weights import randomise

Sizes = Mapping[str, int]
Flat = dict[str, np.ndarray]
SEED = 1
TORCHSCRIPT, DYNAMO = "torchscript", "dynamo"


@dataclass(frozen=True)
class Port:
    """One input: a name and a shape whose strings are dynamic sizes."""

    name: str
    shape: tuple[int | str, ...]
    below: int = 0
    """0: float32, normal. 2: int64 mask, ones first. Otherwise int64 in [0, below)."""

    def draw(self, rng: np.random.Generator, sizes: Sizes) -> np.ndarray:
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in self.shape)
        if not self.below:
            return rng.standard_normal(shape, np.float32)
        drawn = rng.integers(0, self.below, shape)
        if self.below == 2:
            drawn = np.sort(drawn, axis=-1)[..., ::-1].copy()
            drawn[..., 0] = 1
        return drawn


@dataclass(frozen=True)
class Case:
    """A network, what goes in, and how it is exported."""

    name: str
    build: Callable[[], torch.nn.Module]
    """Makes the module; `ports` are its positional inputs, a tensor or tuple comes out."""
    ports: tuple[Port, ...]
    sizes: tuple[Sizes, ...]
    """Sizes of the dynamic dimensions: the first ones are exported from, all are run."""
    exports: tuple[tuple[str, int], ...] = ((TORCHSCRIPT, 17),)
    """(exporter, opset) pairs; `make test-exports` runs all. At 26, torch 2.13 writes invalid
    files of networks with Gelu: opset 18 with the operators of 26."""
    outputs: tuple[str, ...] = ("output",)
    quick: tuple[tuple[str, int], ...] = ()
    """Those that `make test` runs; where there are none, `make test-slow` runs the first one."""
    rare: bool = False
    """Only `make test-exports` runs it: it takes long."""
    tolerance: float = 1e-3
    on_host: Mapping[str, str] = field(default_factory=dict)
    """Operator types that may stay on the host, and why; everything else is strict."""

    def __str__(self) -> str:
        return self.name

    def network(self) -> torch.nn.Module:
        torch.manual_seed(SEED)
        module = self.build()
        randomise(module, tuple(map(torch.from_numpy, self.feeds(self.sizes[0]).values())))
        return module

    def marks(self, exporter: str, opset: int) -> list[pytest.MarkDecorator]:
        pair = (exporter, opset)
        if pair in self.quick:
            return []
        often = not self.rare and not self.quick and pair == self.exports[0]
        return [pytest.mark.slow] if often else [pytest.mark.slow, pytest.mark.matrix]

    def feeds(self, sizes: Sizes) -> Flat:
        rng = np.random.default_rng([SEED, *sizes.values()])
        return {port.name: port.draw(rng, sizes) for port in self.ports}


def answer(module: torch.nn.Module, feeds: Flat) -> list[np.ndarray]:
    """PyTorch's outputs, flat."""
    with torch.no_grad():
        result = module(*(torch.from_numpy(a) for a in feeds.values()))
    return [t.numpy() for t in (result if isinstance(result, (tuple, list)) else (result,))]


def export(case: Case, module: torch.nn.Module, exporter: str, opset: int, path: Path) -> Path:
    """Write the case's ONNX file with one of PyTorch's two exporters."""
    inputs = tuple(torch.from_numpy(a) for a in case.feeds(case.sizes[0]).values())
    axes = {
        port.name: {i: d for i, d in enumerate(port.shape) if isinstance(d, str)}
        for port in case.ports
    }
    shared: dict[str, Any] = {
        "input_names": [port.name for port in case.ports],
        "output_names": list(case.outputs),
        "opset_version": opset,
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if exporter == TORCHSCRIPT:
            torch.onnx.export(
                module, inputs, str(path), dynamo=False, dynamic_axes=axes,
                training=torch.onnx.TrainingMode.PRESERVE, **shared,
            )  # fmt: skip
        else:
            # The forward of every case takes *inputs: one entry, the tuple of them.
            torch.onnx.export(
                module, inputs, str(path), dynamo=True, verbose=False, external_data=False,
                dynamic_shapes=(tuple(axes.values()),), **shared,
            )  # fmt: skip
    return path


class Positional(torch.nn.Module):
    """A module whose forward takes tensors by position, and gives a tensor or a tuple."""

    def __init__(self, inner: torch.nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.inner = inner
        self.call = call

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.call(self.inner, *inputs)


def first(inner: torch.nn.Module) -> Positional:
    """The module's first output, called by position."""
    return Positional(inner, lambda m, *x: m(*x, return_dict=False)[0])


def fields(inner: torch.nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Positional:
    """Named outputs of a model of `transformers`, called by keyword."""

    def call(model: torch.nn.Module, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = model(**dict(zip(inputs, tensors, strict=True)), return_dict=True)
        return tuple(getattr(result, name) for name in outputs)

    return Positional(inner, call)
