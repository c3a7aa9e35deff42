"""gfx803 assembly as LLVM writes it: registers, and the instructions of a kernel's hot loop."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rekindle._errors import KernelError, NotFoundError
from rekindle.engine.program import OPTIONS, Specialisation, program_source

CLANG = "clang-19"
LIBRARIES = ("/usr/lib/clc/amdgcn--amdhsa.bc", "/usr/lib/clc/amdgcn-amd-amdhsa.bc")
"""libclc, which Mesa's OpenCL brings along: without it every get_local_id is a call."""
_SLOW = ("v_mul_lo", "v_mul_hi", "v_rcp", "v_rsq", "v_sqrt", "v_exp", "v_log", "v_sin", "v_cos",
         "v_fma_f32", "v_mad_u64", "v_mad_i64", "v_div_f")  # fmt: skip
"""A quarter of the rate of others (GCN3 ISA; Mesa's table of latencies)."""
_MULTIPLY_ADDS = ("v_mac_f32", "v_mad_f32", "v_madak_f32", "v_madmk_f32")
_JUMPS = ("s_cbranch", "s_branch")
Instruction = tuple[str, str]
"""Mnemonic and operands."""


@dataclass(frozen=True)
class Counts:
    """Instructions of one trip of a loop."""

    instructions: int
    multiply_adds: int
    valu: int
    valu_clocks: int
    """A wave's: 4 for an instruction, 16 for the slow ones."""
    salu: int
    scalar_loads: int
    vector_bytes: int
    """Per lane, to and from memory."""
    local_bytes: int
    """Per lane, to and from local memory."""
    one_wave_clocks: int
    """In order, waiting for every load where the code waits."""

    @property
    def share(self) -> float:
        """Multiply-adds among vector instructions."""
        return self.multiply_adds / max(self.valu, 1)


@dataclass(frozen=True)
class Figures:
    """What one kernel costs."""

    name: str
    vgpr: int
    sgpr: int
    lds_bytes: int
    scratch_bytes: int
    code_bytes: int
    work_group: int
    fma: int
    """v_fma_f32 in innermost loops: exact, and a quarter of the rate."""
    multiplies: int
    """32-bit integer multiplies in innermost loops, a quarter of the rate, too."""
    hot: Counts
    looped: bool = True
    """Whether `hot` is a loop; else it is the kernel from start to end."""


def available() -> bool:
    return shutil.which(CLANG) is not None and _library() is not None


def version() -> str:
    """The compiler's name and version."""
    done = subprocess.run([CLANG, "--version"], capture_output=True, text=True, check=False)
    return re.sub(r".*clang version (\S+).*", r"clang \1", done.stdout.partition("\n")[0])


def compile_for_polaris(specs: Iterable[Specialisation]) -> str:
    """Assembly of all kernels of these specialisations.

    NotFoundError where clang-19 or libclc is not installed, KernelError where it does not compile.
    """
    library = _library()
    if not available() or library is None:
        raise NotFoundError(
            f"{CLANG} with libclc is needed to compile for gfx803",
            hint="Debian, Ubuntu: apt-get install clang-19 mesa-opencl-icd",
        )
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "kernels.cl", Path(folder) / "kernels.s"
        source.write_text(program_source(sorted(set(specs))), encoding="utf-8")
        command = [
            CLANG, "-target", "amdgcn-amd-amdhsa", "-mcpu=gfx803", "-x", "cl", "-O3", *OPTIONS,
            "-nogpulib", "-w", "-Xclang", "-finclude-default-header",
            "-Xclang", "-mlink-builtin-bitcode", "-Xclang", library,
            "-S", str(source), "-o", str(out),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KernelError(f"{CLANG} does not compile the kernels: {done.stderr[-2000:]}")
        return out.read_text(encoding="utf-8")


def _library() -> str | None:
    return next((path for path in LIBRARIES if Path(path).exists()), None)


_KERNEL = re.compile(
    r"^(\w+):\s+; @\1\n(.*?)\.Lfunc_end\d+:(.*?)(?=^\w+:\s+; @|\Z)", re.DOTALL | re.MULTILINE
)


def read(assembly: str) -> Iterator[Figures]:
    """The kernels of an assembly file, in its order."""
    stated = re.findall(r"\.max_flat_workgroup_size: (\d+)\s+\.name:\s+(\w+)", assembly)
    groups = {name: size for size, name in stated}
    for found in _KERNEL.finditer(assembly):
        name, body, notes = found.groups()
        if name not in groups:  # a function that was not inlined
            continue
        instructions, labels = _parse(body)
        loops = _loops(instructions, labels)
        in_loops = [
            instructions[k][0] for k in sorted({k for loop in _innermost(loops) for k in loop})
        ]
        hot = _hot(instructions, loops)

        def number(what: str, notes: str = notes) -> int:
            given = re.search(rf"; {what}[:=]? =? ?(\d+)", notes)
            return int(given.group(1)) if given else 0

        yield Figures(
            name,
            number("NumVgprs"),
            number("NumSgprs"),
            number("LDSByteSize"),
            number("ScratchSize"),
            number("codeLenInByte"),
            int(groups[name]),
            sum(op.startswith("v_fma_f32") for op in in_loops),
            sum(op.startswith(("v_mul_lo", "v_mul_hi")) for op in in_loops),
            count(hot or instructions),
            bool(hot),
        )


def _parse(body: str) -> tuple[list[Instruction], dict[str, int]]:
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in body.splitlines():
        code = line.split(";")[0].rstrip()
        if label := re.match(r"(\.LBB\w+):", code):
            labels[label.group(1)] = len(instructions)
        elif given := re.match(r"\s+([a-z]\w+)\s*(.*)", code):
            instructions.append((given.group(1), given.group(2).strip()))
    return instructions, labels


def _loops(instructions: Sequence[Instruction], labels: Mapping[str, int]) -> list[list[int]]:
    """The natural loops, each as the places of its instructions, those inside it included.

    A jump to a block that every way to the jump passes closes a loop, in whatever order the blocks
    lie; its body is what reaches the jump without passing that block.
    """
    blocks = _Blocks.of(instructions, labels)
    above = blocks.dominators()
    bodies = [
        blocks.reaching(latch, header)
        for latch, targets in enumerate(blocks.successors)
        for header in targets
        if header in above[latch]
    ]
    return [[k for block in sorted(body) for k in range(*blocks.spans[block])] for body in bodies]


def _innermost(loops: Sequence[list[int]]) -> list[list[int]]:
    bodies = [set(loop) for loop in loops]
    return [loops[i] for i, body in enumerate(bodies) if not any(other < body for other in bodies)]


@dataclass(frozen=True)
class _Blocks:
    """Instructions between jumps and labels, and where each block goes on."""

    spans: Sequence[tuple[int, int]]
    successors: Sequence[Sequence[int]]

    @classmethod
    def of(cls, instructions: Sequence[Instruction], labels: Mapping[str, int]) -> _Blocks:
        count = len(instructions)
        jumps = [k for k, (op, _) in enumerate(instructions) if op.startswith(_JUMPS)]
        starts = sorted({0, *labels.values(), *(k + 1 for k in jumps)} & set(range(count)))
        number = {start: k for k, start in enumerate(starts)}
        spans = list(zip(starts, [*starts[1:], count], strict=True))
        successors = []
        for start, end in spans:
            op, operand = instructions[end - 1] if end > start else ("", "")
            after = [] if op == "s_branch" or op == "s_endpgm" else [end]
            if op.startswith(_JUMPS) and operand in labels:
                after.append(labels[operand])
            successors.append([number[place] for place in after if place in number])
        return cls(spans, successors)

    def dominators(self) -> list[set[int]]:
        """Of each block, those that every way to it passes, itself included."""
        before = self._before()
        every = set(range(len(self.spans)))
        found = [{0} if block == 0 else every for block in sorted(every)]
        changed = True
        while changed:
            changed = False
            for block in range(1, len(found)):
                ways = [found[b] for b in before.get(block, ())]
                now = {block} | (set.intersection(*ways) if ways else every)
                changed |= now != found[block]
                found[block] = now
        return found

    def _before(self) -> dict[int, list[int]]:
        before: dict[int, list[int]] = {}
        for block, targets in enumerate(self.successors):
            for target in targets:
                before.setdefault(target, []).append(block)
        return before

    def reaching(self, latch: int, header: int) -> set[int]:
        before = self._before()
        found, left = {header}, [latch]
        while left:
            block = left.pop()
            if block not in found:
                found.add(block)
                left += before.get(block, [])
        return found


def _hot(instructions: Sequence[Instruction], loops: Iterable[list[int]]) -> list[Instruction]:
    """The loop with the largest share of multiply-adds; nothing where none has four.

    Epilogues may be loops with more of them, but never of so large a share.
    """
    best = (0.0, 0)
    hot: list[Instruction] = []
    for places in loops:
        part = [instructions[k] for k in places]
        adds = sum(op.startswith(_MULTIPLY_ADDS) for op, _ in part)
        valu = sum(op.startswith("v_") for op, _ in part)
        score = (round(adds / max(valu, 1), 3), adds)
        if adds >= 4 and score > best:
            best, hot = score, part
    return hot


def count(part: Sequence[Instruction]) -> Counts:
    ops = [op for op, _ in part]
    vector = [op for op in ops if op.startswith("v_")]
    local = [op for op in ops if op.startswith("ds_")]
    memory = [op for op in ops if op.startswith(("flat_", "buffer_", "global_"))]
    scalar = ("s_load", "s_buffer_load", "s_waitcnt", "s_barrier", *_JUMPS)
    return Counts(
        len(ops),
        sum(op.startswith(_MULTIPLY_ADDS) for op in vector),
        len(vector),
        sum(16 if op.startswith(_SLOW) else 4 for op in vector),
        sum(op.startswith("s_") and not op.startswith(scalar) for op in ops),
        sum(op.startswith(("s_load", "s_buffer_load")) for op in ops),
        sum(map(_width, memory)),
        sum(map(_width, local)),
        _one_wave(part),
    )


def _width(op: str) -> int:
    """Bytes a lane moves by one memory instruction."""
    twice = 2 if "read2" in op or "write2" in op else 1
    if found := re.search(r"_(?:b|dwordx|dword)(\d+)?$", op.split("_e")[0]):
        size = int(found.group(1) or 1)
        return twice * (size // 8 if "_b" in found.group(0) else 4 * size)
    return twice * (1 if "byte" in op or op.endswith("8") else 2)


def _one_wave(part: Sequence[Instruction], trips: int = 4) -> int:
    """Clocks of a trip for a wave alone, loads taking 400 (memory), 64 (local), 160 (scalar)."""
    clock = 0
    queues: dict[str, list[int]] = {"vmcnt": [], "lgkmcnt": []}
    marks = [0]
    for _ in range(trips):
        for op, operands in part:
            if op == "s_waitcnt":
                for counter, queue in queues.items():
                    if given := re.search(rf"{counter}\((\d+)\)", operands):
                        while len(queue) > int(given.group(1)):
                            clock = max(clock, queue.pop(0))
                continue
            clock += 16 if op.startswith(_SLOW) else 4
            if op.startswith("ds_"):
                queues["lgkmcnt"].append(clock + 64 + _width(op) // 2)
            elif op.startswith(("flat_", "buffer_", "global_")):
                queues["vmcnt"].append(clock + 400 + _width(op))
            elif op.startswith("s_load"):
                queues["lgkmcnt"] = sorted([*queues["lgkmcnt"], clock + 160])
        marks.append(clock)
    return marks[-1] - marks[-2]
