"""What jaxtyping's import hook decorates functions with under test: beartype, where it can."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

Item = TypeVar("Item", bound=Callable[..., object])
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do for a float


def checked(item: Item) -> Item:
    """The item with its annotations checked at each call; as it was where beartype cannot."""
    try:
        return _beartype(item)
    except BeartypeDecorHintException:
        return item
