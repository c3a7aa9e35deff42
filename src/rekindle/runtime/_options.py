"""The arguments of `open_session`, checked in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypedDict, cast, get_args

from rekindle._errors import NotBuiltError, UsageError
from rekindle._types import TensorSpec

Precision = Literal["model", "fp32", "fp16", "bf16w", "int8w", "int4w"]
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class SessionArguments(TypedDict, total=False):
    """The arguments that what stands on a session hands through; see `open_session`."""

    provider: str
    device: str | int | None
    precision: str
    strict: bool
    memory_limit: int | str | None
    threads: int | None


@dataclass(frozen=True)
class Options:
    """How a session runs. See `open_session` for the meaning of each."""

    device: str | int | None = None
    precision: Precision = "model"
    strict: bool = False
    memory_limit_bytes: int | None = None
    threads: int | None = None
    inputs: tuple[TensorSpec, ...] | None = None
    """Shapes for a PyTorch archive that does not tell its own; from the caller or the card."""

    def refuse(self, provider: str, *names: str) -> None:
        """Raise for the first of `names` that was asked for and that `provider` cannot honour."""
        default = Options()
        for name in names:
            if getattr(self, name) != getattr(default, name):
                word = "memory_limit" if name == "memory_limit_bytes" else name
                raise NotBuiltError(
                    f"the {provider} provider cannot honour {word}={getattr(self, name)!r}",
                    hint=f"leave {word} out, or choose another provider",
                )

    def refuse_precision(self, provider: str) -> None:
        """Raise where another storage type was asked for than `provider` takes from the model."""
        if self.precision not in ("model", "fp32"):
            raise NotBuiltError(
                f"the {provider} provider cannot honour precision={self.precision!r}",
                hint="leave precision out, or use provider='opencl'",
            )


def check(
    device: str | int | None,
    precision: str,
    strict: bool,
    memory_limit: int | str | None,
    threads: int | None,
) -> Options:
    """Options from the caller's arguments; UsageError or NotBuiltError names the wrong one."""
    if threads is not None and threads < 1:
        raise UsageError(f"threads={threads} is not a positive number")
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    return Options(device, check_precision(precision), strict, limit, threads)


def check_precision(precision: str) -> Precision:
    """UsageError for one that is not known."""
    known = get_args(Precision)
    if precision not in known:
        raise UsageError(f"precision={precision!r} is not known", hint=f"one of {', '.join(known)}")
    return cast(Precision, precision)


def parse_bytes(text: int | str) -> int:
    """`2_000_000_000`, `"2GB"`, `"512 MiB"` → bytes; GB is 10**9, GiB is 2**30."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    if not match or match[2].upper() not in _UNITS:
        raise UsageError(
            f"{text!r} is not an amount of memory", hint="write it as 2GB, 512MiB or bytes"
        )
    amount = int(float(match[1]) * _UNITS[match[2].upper()])
    if amount < 1:
        raise UsageError(f"{text!r} is not an amount of memory: it must be positive")
    return amount
