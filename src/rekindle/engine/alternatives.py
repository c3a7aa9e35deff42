"""Kernels that a driver does not compile: others take their calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rekindle._errors import KernelError
from rekindle._log import warn_once
from rekindle._types import Target
from rekindle.device import Device
from rekindle.engine.compiler import compiler_for
from rekindle.engine.plan import Plan
from rekindle.engine.walk import prepare


def buildable(device: Device, first: Plan, replan: Callable[[Target], Plan]) -> Plan:
    """`first`, or the plan that `replan` makes without the kernels that do not compile.

    `replan` may refuse a plan by raising. KernelError where the driver compiles nothing else
    either, or does not say which kernel it was. The steps of the new plan say what they lack.
    """
    compiler, made = compiler_for(device.opencl()), first
    while True:
        try:
            prepare(compiler, made)
            return made
        except KernelError as error:
            target = made.target
            if not error.kernels or set(error.kernels) <= set(target.broken_kernels):
                raise
            names = ", ".join(error.kernels)
            warn_once(f"{device} does not compile {names}: other kernels, or the host, stand in")
            broken = tuple(dict.fromkeys((*target.broken_kernels, *error.kernels)))
            made = replan(replace(target, broken_kernels=broken))
