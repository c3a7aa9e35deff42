"""Writing TOML: texts, numbers, flat lists, tables, lists of tables. tomllib reads, not writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def document(top: Mapping[str, Any]) -> str:
    """A TOML document. A dict becomes `[key]`, a list of dicts `[[key]]`, in the given order."""
    plain = {k: v for k, v in top.items() if not _is_table(v)}
    parts = [_lines(plain)]
    for key, value in top.items():
        if isinstance(value, dict):
            parts.append(f"[{key}]\n{_lines(value)}")
        elif _is_table(value):
            parts.extend(f"[[{key}]]\n{_lines(table)}" for table in value)
    return "\n".join(parts)


def _is_table(value: object) -> bool:
    """A dict, or a list of dicts; an empty list counts, and leaves nothing behind."""
    listed = isinstance(value, list) and all(isinstance(v, dict) for v in value)
    return isinstance(value, dict) or listed


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items())


def _value(value: object) -> str:
    """JSON's texts, numbers and lists are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
