"""Which framework a model file belongs to, told from its content; the extension only breaks ties.

Nothing is executed or unpickled here: archives are listed, pickles are scanned opcode by opcode.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import Literal

from rekindle._errors import ModelError, NotFoundError

Framework = Literal["onnx", "torchscript", "torch.export"]

_HEAD_BYTES = 64
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_TENSOR_MODULES = ("torch._utils", "torch", "collections", "torch.storage", "torch._tensor")
_ADVICE = "bring an ONNX file, a TorchScript archive (torch.jit.save) or a torch.export archive"


def detect(path: Path) -> Framework:
    """The framework of the file at `path`; ModelError says what else it is."""
    if not path.exists():
        raise NotFoundError(f"there is no model file {path}", hint="check the path")
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not a model file", hint=_ADVICE)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not head:
        raise ModelError(f"{path} is empty", hint=_ADVICE)
    if head[:4] == b"PK\x03\x04":
        return _of_archive(path)
    if other := _foreign(head):
        raise ModelError(f"{path} is {other}", hint=_ADVICE)
    if head[:2] in _PICKLES:
        raise _refuse_pickle(path, path.read_bytes())
    return "onnx"


def _foreign(head: bytes) -> str | None:
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model, which is not supported"
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return "an HDF5 (Keras) file, which is not supported"
    if head[:4] == b"GGUF":
        return "a GGUF file, which is not supported"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "a safetensors file: weights without a network"
    if head[:4] == b"\x7fELF" or head[:2] == b"MZ":
        return "a program, not a model"
    return None


def _of_archive(path: Path) -> Framework:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            inner = {name.partition("/")[2] for name in names}
            if "constants.pkl" in inner and any(n.startswith("code/") for n in inner):
                return "torchscript"
            if "archive_format" in inner or "serialized_exported_program.json" in names:
                return "torch.export"
            if pickles := [n for n in names if n.endswith("data.pkl")]:
                raise _refuse_pickle(path, archive.read(pickles[0]))
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path} is a damaged archive: {error}", hint=_ADVICE) from error
    raise ModelError(f"{path} is a zip archive that holds no model", hint=_ADVICE)


def _refuse_pickle(path: Path, data: bytes) -> ModelError:
    """What to say of a pickle, from the names it imports; it is never loaded."""
    imported = _globals(data)
    code = sorted(
        name
        for name in imported
        if name.rpartition(".")[0] not in _TENSOR_MODULES or name in ("torch.load", "torch.compile")
    )
    if code:
        return ModelError(
            f"{path} is a pickle that would run code of its own ({', '.join(code[:4])}); "
            "pickled modules are refused",
            hint="in the program that made it: torch.export.save or torch.jit.save",
        )
    return ModelError(
        f"{path} holds weights only: a state dict without its network",
        hint="load it into its module and save that with torch.export.save or torch.onnx.export",
    )


def _globals(data: bytes) -> set[str]:
    """Dotted names that a pickle imports; an unreadable pickle counts as importing `?`."""
    found: set[str] = set()
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("GLOBAL", "INST"):
                found.add(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                found.add(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except (ValueError, IndexError, UnicodeDecodeError):
        found.add("?")
    return found
