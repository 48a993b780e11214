# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What an empty belt looks like under this lamp, learned from pictures with items on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.vision.opencv import import_cv2

#: Only every so manyth pixel of both axes is looked at for figures of the whole picture.
SAMPLE = 4
#: Grey values by which the whole picture changes at once when a lamp or the exposure jumps.
JUMP = 6.0
#: Share of the pixels that follow such a jump.
JUMPING = 0.8
#: Share of a picture that is learned while the belt moves by a tenth of the picture.
LEARNED = 0.05
#: What has stayed the same while the belt moved by this many lengths of the picture is no item.
STILL = 1.6
#: Share of its pixels that stay the same, from which on a thing does.
STAYS = 0.5
#: Grey values within which a pixel is the same as before.
SAME = 6.0
#: What the spread of the belt's marks takes from a new picture.
SPREAD_LEARNED = 0.1


class BeltBackground:
    """The grey values of the belt at every pixel, without items, and the spread of its marks.

    Light is of the place in the picture and changes slowly, or in the whole picture at once; the
    belt's texture moves. So each pixel learns by the way of the belt, never while it stands, and
    the median of all pixels follows the light in every picture.

    Attributes:
        grey: float32 `[H, W]`, axis 0 along the belt.
    """

    def __init__(self, view: NDArray[np.float32]) -> None:
        """Begin with a picture, float32 `[H, W]`, with items on it or not.

        Raises:
            MissingDependency: If OpenCV is not installed.
        """
        self._cv2 = import_cv2()
        self.grey = _initial(view)
        self._still = np.zeros(view.shape, np.float32)
        self._previous = view
        self._view = view
        self._tint: NDArray[np.float32] | None = None
        self._off = np.zeros((2, *view.shape), np.float32)
        self._free = np.ones(view.shape, np.uint8)
        self._learned = 0.0  # lengths of the picture by which the belt moved
        self._spreads: dict[str, float] = {}

    def difference(self, view: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how a picture differs from the belt, float32 `[H, W]`, after following the light.

        Where the whole picture has changed at once, the background changes with it.
        """
        sample, before = view[::SAMPLE, ::SAMPLE], self._previous[::SAMPLE, ::SAMPLE]
        change = sample - before
        jump = float(np.median(change))
        if abs(jump) > JUMP and np.mean(change * np.sign(jump) > abs(jump) / 3) > JUMPING:
            self._follow(view, jump)
        free = self._sampled_free()
        if free.mean() > 0.1:
            off = (sample - self.grey[::SAMPLE, ::SAMPLE])[free]
            self.grey += np.float32(np.median(off))
        self._view = view
        return view - self.grey

    def colour(self, tint: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return by how much the colour of every pixel differs from that of the belt, f32[H, W].

        In grey values at the brightness of the belt: a shadow has the colour of what it lies on.

        Args:
            tint: How much redder than blue, and than green, f32[2, H, W].
        """
        light = np.maximum(self._view, 0.5 * self.grey)
        np.maximum(light, 1.0, out=light)
        np.divide(self.grey, light, out=light)
        tint = tint * light
        if self._tint is None:
            self._tint = np.stack([_initial(each) for each in tint])
        free = self._sampled_free()
        if free.mean() <= 0.1:
            free = np.ones_like(free)
        for plane, background in zip(tint, self._tint):
            off = plane[::SAMPLE, ::SAMPLE] - background[::SAMPLE, ::SAMPLE]
            background += np.float32(np.median(off[free]))  # the lamp's colour changes
        self._off = np.subtract(tint, self._tint, out=tint)
        distance: NDArray[np.float32] = self._cv2.magnitude(self._off[0], self._off[1])
        return distance

    def _sampled_free(self) -> NDArray[np.bool_]:
        """Return which of the sampled pixels showed the belt in the last picture."""
        return self._free[::SAMPLE, ::SAMPLE].astype(bool)

    def spread(self, name: str, values: NDArray[np.float32], share: float) -> float:
        """Return the value that `share` of the belt's pixels stay below, over many pictures.

        Args:
            name: Of the quantity.
            values: Of this picture, float32 `[H, W]`.
        """
        chosen = values[::SAMPLE, ::SAMPLE][self._sampled_free()]
        last = self._spreads.get(name)
        if not chosen.size:
            return 0.0 if last is None else last
        new = float(np.partition(chosen, index := int(share * (chosen.size - 1)))[index])
        if last is not None:
            new = last + SPREAD_LEARNED * (new - last)
        self._spreads[name] = new
        return new

    def learn(self, view: NDArray[np.float32], items: NDArray[np.uint8], moved: float) -> None:
        """Learn from a picture.

        Args:
            view: Of the picture, float32 `[H, W]`.
            items: 1 where a pixel belongs to an item or is near one, uint8 `[H, W]`.
            moved: Pixels by which the belt has moved since the last picture.
        """
        cv2, length = self._cv2, view.shape[0]
        way = min(abs(moved), length) / length
        free = 1 - items
        if way > 0.002:
            self._learned += way
            share = max(LEARNED * min(1.0, 10 * way), min(way, way / self._learned))
            cv2.accumulateWeighted(view, self.grey, share, free)
            if self._tint is not None:
                for background, off in zip(self._tint, self._off):
                    cv2.copyTo(cv2.scaleAdd(off, share, background), free, background)
            still = cv2.absdiff(view, self._previous) < SAME
            self._still += np.float32(way)
            self._still *= still & items
            fixed = self._still > STILL
            if fixed.any():
                fixed = self._whole(fixed, items)
                self.grey[fixed] = view[fixed]
                if self._tint is not None:
                    self._tint[:, fixed] += self._off[:, fixed]
        self._previous, self._free = view, free

    def _whole(self, fixed: NDArray[np.bool_], items: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return what stays the same, with the rims of what does so for the most part.

        The belt shows through at a rim, and what is left of one looks like an item.
        """
        _, labels = self._cv2.connectedComponents(items)
        sizes = np.bincount(labels[fixed], minlength=labels.max() + 1)
        mostly = sizes > STAYS * np.bincount(labels.ravel())
        mostly[0] = False
        return fixed | mostly[labels]

    def _follow(self, view: NDArray[np.float32], jump: float) -> None:
        sample = view[::SAMPLE, ::SAMPLE]
        before = np.maximum(self._previous[::SAMPLE, ::SAMPLE], 1.0)
        factor = float(np.median(sample / before))
        candidates = (self.grey + np.float32(jump), self.grey * np.float32(factor), _initial(view))

        def misfit(grey: NDArray[np.float32]) -> float:
            return float(np.median(np.abs(sample - grey[::SAMPLE, ::SAMPLE])))

        kept = min(candidates[:2], key=misfit)
        # What was learned is given up only where it does not fit any more.
        if misfit(kept) > 2 * misfit(candidates[2]) + 3:
            kept, self._learned = candidates[2], 0.0
        self.grey = kept


def _initial(view: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the belt may look like: along the belt the light is even, items are few."""
    levels = np.median(view[::2], axis=0)
    odd = np.abs(levels - np.median(levels)) > 20.0
    if odd.any() and not odd.all():
        # An item fills a line along the belt; a rail, which fills the first or last ones, is kept.
        places = np.flatnonzero(~odd)
        inside = odd.copy()
        inside[: places[0]] = inside[places[-1] + 1 :] = False
        levels[inside] = np.interp(np.flatnonzero(inside), places, levels[places])
    return np.repeat(levels[None].astype(np.float32), view.shape[0], axis=0)
