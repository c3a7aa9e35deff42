"""The page of a model server: a photo in, labels out, the models, the machine.

`pages()` gives what `serve.Server` mounts. Gradio is imported when the server starts, not before.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from rekindle._errors import MissingExtraError
from rekindle.web.catalogue import load

if TYPE_CHECKING:
    from rekindle.serve.rest import Mount

__all__ = ["pages"]


def pages(language: str | None = None) -> Mount:
    """What puts the pages on a server; they begin in `language`, or as the browser prefers.

    MissingExtraError where Gradio is not installed, UsageError for a language there is not.
    """
    if language is not None:
        load(language)
    if importlib.util.find_spec("gradio") is None:
        raise MissingExtraError("the web page needs gradio", hint="pip install 'rekindle[web]'")
    from rekindle.web.mounting import mount

    return mount(language)
