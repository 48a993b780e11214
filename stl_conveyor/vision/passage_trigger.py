# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Follow items on the belt from picture to picture, and report each once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stl_conveyor.vision.item_detector import Detection, Detections, Travel

#: Metres by which an item may be off the place where it is expected, beside its own length.
TOLERANCE = 0.006
#: Lengths of the picture beyond its edges for which an item is remembered.
MEMORY = 1.0
#: An item that is hidden for longer than this way (m) before the middle is given up.
HIDDEN = 0.04
#: A picture that is older than the last one by less came late or twice; by more, the clock was
#: set back.
LATE_NS = 1_000_000_000
#: Share of the belt's way by which an item may have moved more or less than the belt.
LARGEST_SLIP = 0.5
#: How often the ends of an item are seen at most until where they are is settled.
ENDS = 5
#: Pixels, and share of its pixels, by which what stands beside the belt differs between pictures.
LINGERS, LINGERS_AREA = 3.0, 0.2
#: Share of the shorter of two stretches of belt in common from which they are the same place.
SAME_PLACE = 0.5


@dataclass
class _Track:
    """An item that is followed; places along the belt are places in the picture minus the way."""

    early: bool  # it was seen before it reached the middle
    entered: bool  # it had not come into the picture as a whole one picture earlier
    left: float
    right: float
    visible: tuple[float, float]  # what was last seen of it
    rears: deque[float] = field(default_factory=lambda: deque(maxlen=ENDS))  # as they were seen
    fronts: deque[float] = field(default_factory=lambda: deque(maxlen=ENDS))
    area: int = 0
    seen: int = 0
    confirmed: int = 0  # how often in turn an end was seen where the belt must have brought it
    whole: int = 0  # how often both its ends were seen
    mended: int = 0  # how often it was put together of pieces
    joined: int = 0  # how often it was seen as one with another item
    counted: bool = False
    born: float = 0.0  # way of the belt
    last_seen: float = 0.0  # the same
    slip: float = 0.0  # pixels by which it has moved more than the belt
    lingers: bool = False  # the picture before showed the same where it was seen, or another one

    @property
    def rear(self) -> float | None:
        """Return where it begins: the outer one of two that were seen, the median of more.

        Where an item looks like the belt, now and then less of it is seen than there is.
        """
        return sorted(self.rears)[(len(self.rears) - 1) // 2] if self.rears else None

    @property
    def front(self) -> float | None:
        """Return where it ends, as `rear`."""
        return sorted(self.fronts)[len(self.fronts) // 2] if self.fronts else None

    @property
    def middle(self) -> float | None:
        if self.rear is None or self.front is None:
            return None
        return (self.rear + self.front) / 2

    @property
    def extent(self) -> tuple[float, float]:
        return (
            self.visible[0] if self.rear is None else self.rear,
            self.visible[1] if self.front is None else self.front,
        )


@dataclass(frozen=True)
class Passage:
    """An item that has passed the middle of the image.

    Attributes:
        row: Where its middle is now, in pixels.
        column: The same.
        area: Number of its pixels in the last picture that showed it.
        time_ns: When its middle was at the middle of the image.
        moved: Pixels by which it has moved since the picture before.
    """

    row: float
    column: float
    area: int
    time_ns: int
    moved: float


class PassageTrigger:
    """Follow items from picture to picture; report each once, when it has passed the middle.

    An item has been seen before the middle and at least twice, and both its ends have been seen
    within the picture, in one picture or, where it is longer, one after the other. What has
    been reported is remembered by its place on the belt, so that neither a stop nor a belt that is
    jogged back makes a second item of it.
    """

    def __init__(
        self, travel: Travel, pixels_per_second: float, *, pixels_per_metre: float = 2000.0
    ) -> None:
        """Start with no item seen.

        Args:
            pixels_per_second: Speed of the belt in the image, where nothing else tells it.
            pixels_per_metre: Scale of the image on the belt.
        """
        self._travel = travel
        self._speed = pixels_per_second
        self._tolerance = TOLERANCE * pixels_per_metre
        self._hidden = HIDDEN * pixels_per_metre
        self._way = 0.0  # pixels by which the belt has moved
        self._step = 0.0  # the same, since the last picture
        self._measured: float | None = None  # the same, as it was handed in last
        self._history: deque[tuple[int, float]] = deque(maxlen=256)  # time, way
        self._tracks: list[_Track] = []
        self._before: tuple[Detection, ...] = ()

    @property
    def followed(self) -> int:
        """Return how many items are followed that have not been reported."""
        return sum(track.early and not track.counted for track in self._tracks)

    def expected(self, time_ns: int, belt: float | None = None) -> float | None:
        """Return the pixels by which the belt has moved since the last picture, as far as known.

        Args:
            time_ns: When the picture was taken.
            belt: Pixels by which the belt has moved until then, where that is measured.
        """
        if belt is not None:
            return None if self._measured is None else belt - self._measured
        if len(self._history) < 2:
            return self._nominal(time_ns)
        (first_ns, first), (last_ns, last) = self._history[-2], self._history[-1]
        if time_ns <= last_ns:
            return None
        return (last - first) / max(1, last_ns - first_ns) * (time_ns - last_ns)

    def follows(self, time_ns: int) -> bool:
        """Return whether a picture can be used: one that came late or twice cannot."""
        return not self._history or not 0 <= self._history[-1][0] - time_ns < LATE_NS

    def passed(
        self,
        detections: Sequence[Detection],
        shape: tuple[int, int],
        time_ns: int,
        belt: float | None = None,
    ) -> tuple[Passage, ...]:
        """Return the items that have newly passed the middle, the foremost first.

        Args:
            detections: Of the picture; with `Detections.moved` the belt is followed by them.
            shape: Height and width of the image.
            time_ns: When the picture was taken.
            belt: Pixels by which the belt has moved until then, where that is measured.
        """
        if not self.follows(time_ns):
            return ()
        if self._history and time_ns <= self._history[-1][0]:
            # The clock was set back: nothing can be said of the way since.
            self._history.clear()
            self._measured = None
            self._tracks.clear()
        self._step = self._moved(detections, time_ns, belt)
        self._way += self._step
        self._measured = belt
        self._history.append((time_ns, self._way))
        travel = self._travel
        middle = travel.along((shape[0] - 1) / 2, (shape[1] - 1) / 2)
        if isinstance(detections, Detections):
            ends = detections.ends
        else:
            corners = (travel.along(0, 0), travel.along(shape[0] - 1, shape[1] - 1))
            ends = min(corners), max(corners)
        self._follow(detections, ends, middle)
        reported = []
        for track in self._tracks:
            place = track.middle
            if (
                place is None
                or track.counted
                or not track.early
                or track.confirmed < (1 if track.entered and not track.lingers else 2)
                or place + self._way < middle
                or self._slips(track)
            ):
                continue
            track.counted = True
            row, column = travel.pixel(place + self._way, (track.left + track.right) / 2)
            reached_ns = self._time_at(middle - place)
            reported.append(Passage(row, column, track.area, reached_ns, self._step))
        margin = MEMORY * (ends[1] - ends[0])
        self._tracks = [track for track in self._tracks if self._kept(track, ends, margin)]
        reported.sort(key=lambda item: travel.along(item.row, item.column), reverse=True)
        return tuple(reported)

    def _nominal(self, time_ns: int) -> float | None:
        if not self._history:
            return None
        return self._speed * max(0, time_ns - self._history[-1][0]) / 1e9

    def _moved(self, detections: Sequence[Detection], time_ns: int, belt: float | None) -> float:
        if belt is not None:
            return 0.0 if self._measured is None else belt - self._measured
        if isinstance(detections, Detections) and detections.moved is not None:
            return detections.moved
        return self.expected(time_ns) or 0.0

    def _time_at(self, way: float) -> int:
        """Return when (ns) the belt last came to a way that it has now reached."""
        later_ns, later = self._history[-1]
        for time_ns, earlier in list(self._history)[-2::-1]:
            if earlier < way <= later:
                share = (way - earlier) / (later - earlier)
                return time_ns + round(share * (later_ns - time_ns))
            later_ns, later = time_ns, earlier
        return self._history[-1][0]

    def _slips(self, track: _Track) -> bool:
        """Return whether something does not lie on the belt: a rail, a reflex, a hand."""
        way = abs(track.last_seen - track.born)
        return abs(track.slip) > max(self._tolerance, LARGEST_SLIP * way)

    def _kept(self, track: _Track, ends: tuple[float, float], margin: float) -> bool:
        rear, front = (place + self._way for place in track.extent)
        if front < ends[0] - margin or rear > ends[1] + margin:
            return False
        inside = front > ends[0] and rear < ends[1]
        lost = inside and not track.counted and self._way - track.last_seen > self._hidden
        return not lost

    def _follow(
        self, detections: Sequence[Detection], ends: tuple[float, float], middle: float
    ) -> None:
        before, detections = self._before, self._mended(detections, ends)
        self._before = tuple(detections)
        spans = [self._span(item, ends) for item in detections]
        pairs = []
        for number, (item, span) in enumerate(zip(detections, spans)):
            for track in self._tracks:
                score = self._likeness(item, span, track, ends)
                if score > 0:
                    pairs.append((score, number, track))
        pairs.sort(key=lambda pair: pair[0], reverse=True)
        given: dict[int, _Track] = {}
        taken: list[_Track] = []
        for _score, number, track in pairs:
            if number in given or any(track is other for other in taken):
                continue
            given[number] = track
            taken.append(track)
        for number, (item, span) in enumerate(zip(detections, spans)):
            near = [track for score, other, track in pairs if other == number]
            lingers = self._lingers(item, before)
            if number in given:
                covered = [track for track in near if self._covers(item, span, track)]
                covered.sort(key=lambda track: track.whole, reverse=True)
                if self._joined(covered):
                    continue
                if len(covered) > 1:  # pieces of one item
                    pieces = [track for track in covered if track is not given[number]]
                    self._drop(pieces)
                    given[number].early |= any(track.early for track in pieces)
                    given[number].entered |= any(track.entered for track in pieces)
                    given[number].counted |= any(track.counted for track in pieces)
                given[number].lingers |= lingers
                self._update(given[number], item, span, ends)
            elif any(track.counted for track in near):
                continue  # a piece of what has been reported
            else:
                entered = item.rear is None or item.rear - self._step < ends[0]
                early = item.rear is None or (span[0] + span[1]) / 2 < middle
                track = _Track(
                    early or any(other.early for other in near),
                    entered or any(other.entered for other in near),
                    item.left,
                    item.right,
                    span,
                    lingers=lingers,
                )
                self._update(track, item, span, ends)
                self._tracks.append(track)

    def _mended(
        self, detections: Sequence[Detection], ends: tuple[float, float]
    ) -> list[Detection]:
        """Return the items of a picture, with the pieces put together of what was seen as one.

        As often as it was: two items that were taken for one part in the end.
        """
        left = list(detections)
        for track in self._tracks:
            if track.whole < 2 or track.mended >= track.seen - track.mended:
                continue
            pieces = [item for item in left if self._lies_in(item, track, ends)]
            if len(pieces) > 1:
                track.mended += 1
                left = [item for item in left if all(item is not piece for piece in pieces)]
                left.append(self._together(pieces))
        return left

    def _lies_in(self, item: Detection, track: _Track, ends: tuple[float, float]) -> bool:
        """Return whether an item lies where a track is expected, all of it."""
        rear, front = (place + self._way for place in track.extent)
        span = self._span(item, ends)
        return (
            rear - self._tolerance <= span[0]
            and span[1] <= front + self._tolerance
            and track.left - self._tolerance <= item.left
            and item.right <= track.right + self._tolerance
        )

    def _together(self, pieces: Sequence[Detection]) -> Detection:
        rears, fronts = [item.rear for item in pieces], [item.front for item in pieces]
        known_rears = [end for end in rears if end is not None]
        known_fronts = [end for end in fronts if end is not None]
        rear = min(known_rears) if len(known_rears) == len(pieces) else None
        front = max(known_fronts) if len(known_fronts) == len(pieces) else None
        left, right = min(item.left for item in pieces), max(item.right for item in pieces)
        largest = max(pieces, key=lambda item: item.area)
        row, column = largest.row, largest.column
        if rear is not None and front is not None:
            row, column = self._travel.pixel((rear + front) / 2, (left + right) / 2)
        area = sum(item.area for item in pieces)
        return Detection(row, column, area, rear, front, left, right)

    def _lingers(self, item: Detection, before: Sequence[Detection]) -> bool:
        """Return whether the last picture had an item just there, though the belt has moved on.

        What stands beside the belt looks so, and so does a row of equal items now and then.
        """
        if abs(self._step) <= self._tolerance:
            return False
        return any(
            abs(item.row - other.row) < LINGERS
            and abs(item.column - other.column) < LINGERS
            and abs(item.area - other.area) < LINGERS_AREA * item.area
            for other in before
        )

    def _joined(self, tracks: list[_Track]) -> bool:
        """Go on by the way of the belt with items that touch in the picture.

        Returns:
            Whether the tracks are of such items: two at least have been seen whole, and more
            often than joined.
        """
        if len(tracks) < 2:
            return False
        for track in tracks:
            track.joined += 1
        if tracks[1].whole < 2 or tracks[1].joined > tracks[1].whole:
            return False
        for track in tracks:
            track.last_seen = self._way
        return True

    def _drop(self, tracks: Iterable[_Track]) -> None:
        dropped = list(tracks)
        self._tracks = [track for track in self._tracks if not any(track is d for d in dropped)]

    def _span(self, item: Detection, ends: tuple[float, float]) -> tuple[float, float]:
        """Return which stretch of the picture an item takes up along the belt."""
        return (
            ends[0] if item.rear is None else item.rear,
            ends[1] if item.front is None else item.front,
        )

    def _likeness(
        self, item: Detection, span: tuple[float, float], track: _Track, ends: tuple[float, float]
    ) -> float:
        """Return how well an item in the picture may be the one of a track, 0..1."""
        if min(item.right, track.right) < max(item.left, track.left):
            return 0.0
        rear, front = (place + self._way for place in track.extent)
        if track.rear is None:
            rear = min(rear, ends[0])  # its rear has not come into the picture yet
        if track.front is None:
            front = max(front, ends[1])
        rear, front = max(rear, ends[0]) - self._tolerance, min(front, ends[1]) + self._tolerance
        common = min(front, span[1]) - max(rear, span[0])
        return common / max(1.0, max(span[1] - span[0], front - rear)) if common > 0 else 0.0

    def _covers(self, item: Detection, span: tuple[float, float], track: _Track) -> bool:
        """Return whether an item in the picture holds most of a track."""
        rear, front = (place + self._way for place in track.extent)
        common = min(front, span[1]) - max(rear, span[0])
        aside = min(item.right, track.right) - max(item.left, track.left)
        return common > SAME_PLACE * max(1.0, front - rear) and aside > SAME_PLACE * (
            track.right - track.left
        )

    def _update(
        self, track: _Track, item: Detection, span: tuple[float, float], ends: tuple[float, float]
    ) -> None:
        track.visible = (span[0] - self._way, span[1] - self._way)
        if not track.seen:
            track.born = self._way
        # An end that looks like the belt comes and goes; the other one tells the way.
        slips = []
        for end, seen in ((item.rear, track.rears), (item.front, track.fronts)):
            if end is not None:
                slips += [end - self._way - before for before in list(seen)[-1:]]
                seen.append(end - self._way)
        if slips:
            slip = min(slips, key=abs)
            track.slip += slip
            track.confirmed = track.confirmed + 1 if abs(slip) < self._tolerance else 0
        track.left, track.right = item.left, item.right
        track.area = item.area
        track.seen += 1
        track.whole += item.rear is not None and item.front is not None
        track.last_seen = self._way
