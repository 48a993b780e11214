# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The gate that every time stamp from outside passes: it must be one of now, and in order.

An item's place follows from a stamp, so a stamp that is wrong by 0.1 s moves a stroke by 40 mm at
0.4 m/s. What cannot be right is refused, and the message names the cause that the figure points
to, with the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stl_conveyor.errors import Level

SECOND = 1_000_000_000
TAI_NS = 37 * SECOND  # ahead of UTC since 2017 (IERS Bulletin C); PTP distributes it
GPS_NS = 18 * SECOND  # ahead of UTC since 2017
ZONE_NS = 1800 * SECOND  # time zones lie half hours apart, and a few lie between those
MOST_ZONES = 28  # half hours from UTC to the farthest zone
# No clock that counts from 1970 shows less, and no simulation or uptime lasts longer.
EPOCH_NS = 10 * 365 * 86_400 * SECOND
BOOT_NS = 60 * SECOND  # by which two counts since boot may differ and be the same
PERSISTENT = 3  # stamps in order among themselves after a step back: their clock begins anew

HEADER = 'set `stamp: arrival` with the `latency` of the driver'


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a message.

    Attributes:
        time_ns: When the thing was that the message tells of; None = the message is refused.
        name: Of what is the matter, for the diagnostics; empty if nothing is.
        text: What is the matter, with the figure and the remedy.
        level: How severe that is.
    """

    time_ns: int | None
    name: str = ''
    text: str = ''
    level: Level = Level.OK


class StampGate:
    """Lets the messages of one topic pass whose stamps can be right; all times in ns.

    A stamp is refused if it is ahead of now by more than `ahead_ns`, older than `delay_ns`, or not
    later than the one before. A stamp that is refused moves nothing: the next one is compared
    with the last that passed. Where stamps stay behind the last one that passed, but are in order
    among themselves, their clock has begun anew (a driver that was started again, a clock that
    was set), and the third passes.
    """

    def __init__(
        self,
        topic: str,
        *,
        ahead_ns: int,
        delay_ns: int,
        by_arrival: bool = False,
        latency_ns: int = 0,
        simulated: bool = False,
        unstamped: bool = False,
    ) -> None:
        """Know of no stamp yet.

        Args:
            topic: Named in what is said.
            ahead_ns: By which two clocks may differ.
            delay_ns: The longest that an honest message is under way.
            by_arrival: Leave the stamps aside; the time is that of arrival less `latency_ns`.
            latency_ns: From the event to the arrival of its message.
            simulated: Whether now is the time of /clock.
            unstamped: Take a message with the stamp zero as of its arrival, and stamps in any
                order, because no place follows from when it was: joint states come in parts with
                one stamp, from several publishers.
        """
        self._topic = topic
        self._ahead_ns = ahead_ns
        self._delay_ns = delay_ns
        self._by_arrival = by_arrival
        self._latency_ns = latency_ns
        self._simulated = simulated
        self._unstamped = unstamped
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the stamps so far, because the clock was set."""
        self._latest_ns: int | None = None
        self._behind_ns: int | None = None  # the last of the stamps that are out of order
        self._behind = 0  # how many of them are in order among themselves

    def admit(
        self,
        stamp_ns: int,
        now_ns: int,
        *,
        arrival_ns: int | None = None,
        uptimes_ns: Sequence[int] = (),
    ) -> Verdict:
        """Judge the stamp of a message.

        Args:
            stamp_ns: As it stands in the header.
            now_ns: ROS time.
            arrival_ns: When the message came, where that is known better than by `now_ns`.
            uptimes_ns: What this machine's clocks show that count from its start; a stamp near
                one of them is of such a clock.
        """
        if now_ns == 0 and self._simulated:
            return self._refusal(
                'no_clock',
                'came before the first time on /clock; publish it (`ros2 bag play --clock`, the '
                'simulator, or its bridge), or set `use_sim_time: false`',
            )
        arrived_ns = (now_ns if arrival_ns is None else arrival_ns) - self._latency_ns
        if self._by_arrival:
            time_ns = arrived_ns
            if self._latest_ns is not None:
                time_ns = max(time_ns, self._latest_ns + 1)
            self._latest_ns = time_ns
            return Verdict(time_ns)
        if stamp_ns == 0 and self._unstamped:
            return Verdict(arrived_ns)
        if stamp_ns == 0:
            return self._refusal(
                'stamp_zero',
                f'has the stamp zero: the driver does not stamp; let it do so, or {HEADER}',
            )
        offset_ns = stamp_ns - now_ns
        if not -self._delay_ns <= offset_ns <= self._ahead_ns:
            return self._wrong_clock(stamp_ns, now_ns, uptimes_ns)
        if self._unstamped:
            return Verdict(stamp_ns)
        return self._ordered(stamp_ns)

    def _ordered(self, stamp_ns: int) -> Verdict:
        latest_ns = self._latest_ns
        if latest_ns is None or stamp_ns > latest_ns:
            self._latest_ns, self._behind = stamp_ns, 0
            return Verdict(stamp_ns)
        if stamp_ns == latest_ns:
            return self._refusal(
                'stamp_repeated',
                'has the same stamp as the one before: it came twice, or the clock of the driver '
                'stands',
                Level.WARN,
            )
        in_order = self._behind and self._behind_ns is not None and stamp_ns > self._behind_ns
        self._behind = self._behind + 1 if in_order else 1
        self._behind_ns = stamp_ns
        behind = f'{(latest_ns - stamp_ns) / 1e9:.3f} s behind the one before'
        if self._behind < PERSISTENT:
            return self._refusal(
                'stamp_disorder',
                f'is {behind}: messages overtake each other, or two drivers publish the topic',
                Level.WARN,
            )
        self._latest_ns, self._behind = stamp_ns, 0
        return Verdict(
            stamp_ns,
            'stamps_anew',
            f'{self._topic}: the stamps stay {behind}; from here on they count as a new beginning',
            Level.WARN,
        )

    def _wrong_clock(self, stamp_ns: int, now_ns: int, uptimes_ns: Sequence[int]) -> Verdict:
        offset_ns = stamp_ns - now_ns
        figure = f'{abs(offset_ns) / 1e9:.3f} s {"ahead of" if offset_ns > 0 else "behind"}'
        off = f'is {figure} ROS time'
        if any(abs(stamp_ns - uptime_ns) < BOOT_NS for uptime_ns in uptimes_ns):
            return self._refusal(
                'stamp_since_boot',
                f'{off}: its stamp {stamp_ns / 1e9:.3f} s counts from the start of the machine; '
                f'switch the driver to system time, or {HEADER}',
            )
        if self._simulated and now_ns < EPOCH_NS <= stamp_ns:
            return self._refusal(
                'stamp_not_simulated',
                f'{off}: it is stamped in system time, while this node follows /clock; set '
                '`use_sim_time: true` in the driver, or `use_sim_time: false` here',
            )
        if stamp_ns < EPOCH_NS <= now_ns:
            return self._refusal(
                'stamp_simulated',
                f'{off}: its stamp {stamp_ns / 1e9:.3f} s is simulated time, or counts from the '
                "driver's start; set `use_sim_time: true` here if /clock is published, switch "
                f'the driver to system time, or {HEADER}',
            )
        for name, ahead_ns, words in (
            ('stamp_tai', TAI_NS, 'TAI (37 s ahead of UTC), as PTP distributes it'),
            ('stamp_gps', GPS_NS, 'GPS time (18 s ahead of UTC)'),
        ):
            if self._about(offset_ns - ahead_ns):
                return self._refusal(
                    name,
                    f'{off}: its stamp is {words}; switch the driver or its clock to UTC, or '
                    f'{HEADER}',
                )
        zones = round(offset_ns / ZONE_NS)
        if 1 <= abs(zones) <= MOST_ZONES and self._about(offset_ns - zones * ZONE_NS):
            return self._refusal(
                'stamp_time_zone',
                f'{off}, which is a difference of time zones: the clock of the driver shows local '
                f'time; set it to UTC, or {HEADER}',
            )
        if offset_ns > 0:
            return self._refusal(
                'stamp_ahead',
                f'{off} (stamp_tolerance: {self._ahead_ns / 1e9:g} s): the clock of the driver is '
                f'ahead; synchronise it (chrony, PTP), or {HEADER}',
            )
        return self._refusal(
            'stamp_old',
            f'{off} (longest_delay: {self._delay_ns / 1e9:g} s): it was under way for so long, or '
            'the clock of the driver is behind; synchronise it (chrony, PTP), raise '
            f'longest_delay if the delay is honest, or {HEADER}; a recording needs '
            '`ros2 bag play --clock` and `use_sim_time: true`',
        )

    def _about(self, difference_ns: int) -> bool:
        return -max(self._delay_ns, SECOND) <= difference_ns <= max(self._ahead_ns, SECOND // 2)

    def _refusal(self, name: str, text: str, level: Level = Level.ERROR) -> Verdict:
        return Verdict(None, name, f'{self._topic}: a message that was refused {text}', level)
