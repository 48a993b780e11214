# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What all messages about items have in common: who the item is, its image, its files."""

from __future__ import annotations

import array
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.errors import BadMessage
from stl_conveyor.nodes.base.clock import to_ns
from stl_conveyor.resources import share_path
from stl_conveyor.vision.encodings import image_to_rgb
from stl_conveyor.vision.image import resize_square

ValueT = TypeVar('ValueT')

MOST_NAMED = 50  # items whose numbers stand in a text


def item_key(message: Any) -> ItemKey:
    """Return who a message is about.

    Raises:
        BadMessage: For item 0, which is never a valid item.
    """
    if message.item_id == 0:
        raise BadMessage(f'{type(message).__name__} with item_id 0; items are numbered from 1')
    return ItemKey(message.item_id, to_ns(message.header.stamp))


def rgb_image(image: Image) -> NDArray[np.uint8]:
    """Return uint8 `[height, width, 3]` RGB from an image message; see `image_to_rgb`.

    Raises:
        BadImage: If the message is malformed.
    """
    return image_to_rgb(
        image.encoding, image.height, image.width, image.step, image.is_bigendian, image.data
    )


def model_image(image: Image, size: int) -> NDArray[np.uint8]:
    """Return uint8 `[size, size, 3]` RGB from an image message.

    Raises:
        BadImage: If the message is malformed.
    """
    return resize_square(rgb_image(image), size)


def named(numbers: Sequence[int]) -> str:
    """Return numbers of items as a text, the newest `MOST_NAMED`."""
    more = len(numbers) - MOST_NAMED
    return ', '.join(map(str, numbers[-MOST_NAMED:])) + (f' and {more} before' if more > 0 else '')


def float_array(values: NDArray[np.float32]) -> array.array:
    """Return float32 `[N]` as messages hold it."""
    return array.array('f', np.ascontiguousarray(values, np.float32).tobytes())


def configured_path(value: str, shipped: str) -> Path:
    """Return the path that a parameter names, or what the package ships where it is empty."""
    return Path(value).expanduser() if value else Path(share_path(shipped))


class RecentItems(Generic[ValueT]):
    """The newest `capacity` items; older ones are forgotten."""

    def __init__(self, capacity: int) -> None:
        """Start empty."""
        self._capacity = capacity
        self._items: OrderedDict[ItemKey, ValueT] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._items)

    def put(self, key: ItemKey, value: ValueT) -> None:
        """Add or replace an item."""
        self._items[key] = value
        self._items.move_to_end(key)
        while len(self._items) > self._capacity:
            self._items.popitem(last=False)

    def get(self, key: ItemKey) -> ValueT | None:
        """Return an item, if it is known."""
        return self._items.get(key)

    def pop(self, key: ItemKey) -> ValueT | None:
        """Remove and return an item, if it is known."""
        return self._items.pop(key, None)

    def pop_all(self) -> list[tuple[ItemKey, ValueT]]:
        """Remove and return all items, the oldest first."""
        items = list(self._items.items())
        self._items.clear()
        return items

    def items(self) -> list[tuple[ItemKey, ValueT]]:
        """Return all items, the oldest first."""
        return list(self._items.items())
