# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How a belt moves now, and where it will be while its drive changes its speed.

A drive that starts or stops softly changes the speed at a steady rate. What is going to meet an
item needs the speed and the rate of now; the mean over the last reports is late by half of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

#: m/s2; no drive changes the speed of a belt with parts on it faster. What seems to, is a step.
HARDEST = 6.0
#: m/s2; below, a ramp moves an item by less than a millimetre in the time of a stroke.
SOFTEST = 0.05
#: s for which a change of speed is believed to go on where nothing tells its end.
GOES_ON_S = 0.3
#: m by which exact positions may be off a line, before any noise.
EXACT = 0.0001
#: Standard deviations of the noise that are still noise.
SPREADS = 3.0
#: Noise (m) of positions that fit nothing with the noise so far.
MORE_NOISE = 0.0001, 0.0003
#: Standard deviations of what noise alone would bend positions by, that are a change of speed.
SIGNIFICANT = 4.0
#: m/s by which two speeds that are told may differ and be the same.
SAME = 0.002
#: m/s by which a speed that was read off a belt encoder swings back where a ramp has ended.
REVERSAL = 0.02
#: Reports after which positions show that a change of speed has ended.
BLURRED = 3
#: Share of the usual speed within which it has been reached.
NEAR = 0.02
#: Samples that a fit looks at.
MOST_SAMPLES = 10
#: Reports that a line through positions needs at least, and those that a ramp needs.
LEAST_LINE, LEAST_RAMP = 3, 4


@dataclass(frozen=True)
class Sample:
    """A report of the belt.

    Attributes:
        time: Seconds before the newest one, negative.
        position: m, on a line that does not start again.
        told: m/s as it was reported; None = not known.
    """

    time: float
    position: float
    told: float | None


@dataclass(frozen=True)
class Trend:
    """Speed and change of speed at one time, and where the change ends.

    Attributes:
        speed: m/s.
        rate: m/s2; 0 = the belt runs steadily.
        end: m/s at which the change ends; None: that is not known.
        is_settled: Whether the speed is that of a line through many reports.
        blur: Seconds by which the end of a change of speed is seen late.
    """

    speed: float
    rate: float = 0.0
    end: float | None = None
    is_settled: bool = False
    blur: float = 0.0

    def towards(self, usual: float | None) -> Trend:
        """Return the same, ending at the usual speed if that lies ahead; or where it stands."""
        if not self.rate:
            return self
        slows = self.speed * self.rate < 0
        end = 0.0 if slows else None
        if usual is not None:
            left = (usual - self.speed) * math.copysign(1.0, self.rate)
            if abs(left) <= NEAR * usual and not slows:
                return Trend(self.speed)  # it has ended
            if 0 < -left <= self.blur * abs(self.rate) and not slows:
                return Trend(usual)  # the same, most likely
            if left > NEAR * usual and not (slows and usual * self.speed < 0):
                end = usual
        return Trend(self.speed, self.rate, end)

    @property
    def lasts(self) -> float:
        """Return the seconds for which the speed goes on changing."""
        if not self.rate:
            return 0.0
        return GOES_ON_S if self.end is None else (self.end - self.speed) / self.rate

    def way(self, seconds: float) -> float:
        """Return the metres that the belt moves in so many seconds from now on."""
        changing = min(seconds, self.lasts)
        moved = self.speed * changing + self.rate * changing**2 / 2
        return moved + (self.speed + self.rate * changing) * (seconds - changing)

    def speed_after(self, seconds: float) -> float:
        """Return the speed (m/s) in so many seconds from now on."""
        return self.speed + self.rate * min(seconds, self.lasts)

    def seconds_for(self, way: float) -> float | None:
        """Return after how many seconds the belt has moved so many metres.

        Returns:
            Negative where it has moved further already; None where it comes to stand before.
        """
        if way <= 0 or not self.rate:
            return None if self.speed <= 0 else way / self.speed
        changing = self.lasts
        last = self.speed + self.rate * changing
        whole = (self.speed + last) / 2 * changing
        if way > whole:
            return None if last <= 0 else changing + (way - whole) / last
        root = self.speed**2 + 2 * self.rate * way
        if root < 0 or self.speed + math.sqrt(root) <= 0:
            return None
        return 2 * way / (self.speed + math.sqrt(root))


def trend_of(samples: Sequence[Sample], noise: float, believed: bool = True) -> Trend | None:
    """Return how a belt moves by its newest reports; None where they do not agree on anything.

    Args:
        samples: The oldest first, without a gap; at least two.
        noise: Standard deviation (m) of a position.
        believed: Whether the speeds that are told change as the positions do; see `confirms`.
    """
    tolerance = _tolerance(noise)
    told = _by_told_speeds(samples, tolerance) if believed else None
    if told is not None and _agree(samples, tolerance):
        return told
    fit = _by_positions(samples, noise)
    for more in MORE_NOISE:
        if fit is None and told is None and noise < more:
            fit = _by_positions(samples, more)  # it runs less smoothly than it did
    return fit if fit is not None and fit.is_settled else told or fit


def deviation(samples: Sequence[Sample]) -> float:
    """Return by how much (m) the last of four positions is off the parabola of the others."""
    last = samples[-1]
    others = samples[-4:-1]
    expected = 0.0
    for one in others:
        weight = 1.0
        for other in others:
            if other is not one:
                weight *= (last.time - other.time) / (one.time - other.time)
        expected += weight * one.position
    return last.position - expected


def noise_of(samples: Sequence[Sample]) -> float:
    """Return the standard deviation (m) of positions from a smooth way; 0 = too few tell.

    Of four positions with the same noise the deviation has 4.5 times their spread; its median is
    two thirds of its own.
    """
    deviations = [abs(deviation(samples[end - 4 : end])) for end in range(4, len(samples) + 1)]
    return sorted(deviations)[len(deviations) // 2] / 3.0 if deviations else 0.0


def thinned(newest_first: Sequence[Sample]) -> list[Sample]:
    """Return as many of the samples as a fit needs, in their order.

    The newest ones tell whether the speed changes, the others only need to be there.
    """
    if len(newest_first) <= MOST_SAMPLES:
        return list(newest_first)
    step = -(-(len(newest_first) - 3) // (MOST_SAMPLES - 3))
    return [*newest_first[:3], *newest_first[3::step]]


def confirms(before: Sample, last: Sample, noise: float) -> bool | None:
    """Return whether the way between two reports fits a change of the speed that was told.

    A mean over some time, which many readers tell, comes too late.

    Returns:
        None where the speed did not change, or changed in a part of the interval: neither tells.
    """
    if before.told is None or last.told is None or abs(last.told - before.told) <= SAME:
        return None
    tolerance, elapsed = _tolerance(noise), last.time - before.time
    gone = last.position - before.position
    if abs(gone - (before.told + last.told) / 2 * elapsed) <= tolerance:
        return True
    ends = sorted((before.told * elapsed, last.told * elapsed))
    return None if ends[0] - tolerance <= gone <= ends[1] + tolerance else False


def _by_told_speeds(samples: Sequence[Sample], tolerance: float) -> Trend | None:
    """Return the trend by what was told, if the way between two reports is that of the speeds."""
    before, last = samples[-2:]
    if before.told is None or last.told is None:
        return None
    elapsed = last.time - before.time
    way = last.position - before.position
    change = last.told - before.told
    if abs(way - (before.told + last.told) / 2 * elapsed) <= tolerance:
        if abs(change) <= SAME:
            settled = len(samples) > LEAST_RAMP and _agree(samples, tolerance)
            return Trend(last.told, is_settled=settled)
        if abs(change) <= REVERSAL and _swings(samples[-4:]):
            return Trend(last.told)  # unless the next report says so, too
        return Trend(last.told, _rate(change / elapsed), blur=2 * elapsed)
    if len(samples) < 3 or not _agree(samples[-3:-1], tolerance):
        return None
    # The change of speed began or ended in between.
    earlier = (before.told - samples[-3].told) / (before.time - samples[-3].time)  # type: ignore[operator]
    if abs(earlier) > SOFTEST:
        ramped = change / earlier
        if 0 < ramped < elapsed:
            expected = (before.told + last.told) / 2 * ramped + last.told * (elapsed - ramped)
            return Trend(last.told) if abs(way - expected) <= tolerance else None
        return None
    if abs(change) <= SAME:
        return None
    ramped = 2 * (way - before.told * elapsed) / change
    if 0 < ramped <= elapsed and abs(change / ramped) <= HARDEST:
        return Trend(last.told, _rate(change / ramped), blur=2 * elapsed)
    if -tolerance <= ramped * abs(change) <= 2 * elapsed * abs(change) + tolerance:
        return Trend(last.told)  # a step
    return None


def _swings(samples: Sequence[Sample]) -> bool:
    """Return whether the speed that is told went the other way just before its last change."""
    told = [each.told for each in samples if each.told is not None]
    *changes, last = [after - before for before, after in pairwise(told)]
    return any(change * last < 0 and abs(change) > SAME for change in changes)


def _agree(samples: Sequence[Sample], tolerance: float) -> bool:
    """Return whether the way from the first to the last report is that of the speeds told."""
    way = 0.0
    for before, after in pairwise(samples):
        if before.told is None or after.told is None:
            return False
        way += (before.told + after.told) / 2 * (after.time - before.time)
    return abs(samples[-1].position - samples[0].position - way) <= tolerance


def _by_positions(samples: Sequence[Sample], noise: float) -> Trend | None:
    """Return the trend by positions alone: what explains the longest time, and most simply."""
    tolerance = _tolerance(noise)
    line = _longest(samples, LEAST_LINE, tolerance, _line)
    if line is not None and len(line[0]) == len(samples) and not _bends(samples, noise):
        return Trend(line[1], is_settled=len(samples) > LEAST_RAMP)
    ramp = _longest(samples, LEAST_RAMP, tolerance, _parabola)
    if ramp is None or (
        line is not None and len(line[0]) >= len(ramp[0]) - 1 and not _bends(line[0], noise)
    ):
        return None if line is None else Trend(line[1], is_settled=len(line[0]) > LEAST_RAMP)
    interval = -samples[0].time / (len(samples) - 1)
    return Trend(ramp[1], _rate(ramp[2]), blur=BLURRED * interval)


def _tolerance(noise: float) -> float:
    return EXACT + SPREADS * noise


def _bends(samples: Sequence[Sample], noise: float) -> bool:
    """Return whether positions bend by more than their noise alone would make them."""
    if len(samples) < LEAST_RAMP:
        return False
    bends = _orthogonal(samples)[2]
    bend = sum(b * each.position for b, each in zip(bends, samples))
    # A sum that is as wide as the noise times the root of the sum of squares.
    spread = max(noise, EXACT / SPREADS) * math.sqrt(sum(b**2 for b in bends))
    return abs(bend) > SIGNIFICANT * spread


def _rate(rate: float) -> float:
    return rate if SOFTEST <= abs(rate) <= HARDEST else 0.0


_Fit = Callable[[Sequence[Sample]], tuple[float, float, float]]


def _longest(
    samples: Sequence[Sample], least: int, tolerance: float, fit: _Fit
) -> tuple[Sequence[Sample], float, float] | None:
    """Return the newest samples that a curve fits, and its speed and its rate at the last."""
    for count in range(len(samples), least - 1, -1):
        newest = samples[-count:]
        position, speed, rate = fit(newest)
        if all(
            abs(each.position - (position + speed * each.time + rate * each.time**2 / 2))
            <= tolerance
            for each in newest
        ):
            return newest, speed, rate
    return None


def _line(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """Return position, speed and rate (0) at time 0 of the line that fits best."""
    count = len(samples)
    time = sum(each.time for each in samples) / count
    place = sum(each.position for each in samples) / count
    spread = sum((each.time - time) ** 2 for each in samples)
    speed = sum((each.time - time) * (each.position - place) for each in samples) / spread
    return place - speed * time, speed, 0.0


def _orthogonal(samples: Sequence[Sample]) -> tuple[float, list[float], list[float], float, float]:
    """Return what is orthogonal to each other on the times of samples.

    Returns:
        Their mean m, u = t - m, and u^2 - skew u - variance, with skew and variance.
    """
    count = len(samples)
    mean = sum(each.time for each in samples) / count
    times = [each.time - mean for each in samples]
    second = sum(t**2 for t in times)
    skew = sum(t**3 for t in times) / second
    variance = second / count
    return mean, times, [t**2 - skew * t - variance for t in times], skew, variance


def _parabola(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """Return position, speed and rate at time 0 of the parabola that fits best."""
    mean, times, bends, skew, variance = _orthogonal(samples)
    place = sum(each.position for each in samples) / len(samples)
    slope = sum(t * each.position for t, each in zip(times, samples)) / (variance * len(samples))
    bend = sum(b * each.position for b, each in zip(bends, samples)) / sum(b**2 for b in bends)
    u = -mean  # at time 0
    position = place + slope * u + bend * (u**2 - skew * u - variance)
    return position, slope + bend * (2 * u - skew), 2 * bend
