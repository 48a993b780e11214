# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A range coder in integers: symbols with probabilities become bytes, and bytes become symbols.

It is the carry-propagating range coder of G. N. N. Martin ("Range encoding: an algorithm for
removing redundancy from a digitised message", 1979) with 64 bits of state, words of 32 bits and
probabilities of 24 bits. src/coder.c does the same arithmetic in C and makes the same bytes;
docs/wire_format.md describes them.

A row of a table holds the shares of its symbols in 32768ths. Symbol s of n takes the integers
from `split(row[0] + ... + row[s - 1], s)` to `split(row[0] + ... + row[s], s + 1)` of 0..2**24,
where `split(sum, s)` is `floor(sum * (2**24 - n) / 32768) + s`, whose product is rounded to
single precision first, and the last symbol ends at 2**24. So each symbol has some room, even one
of share 0. Nothing else here is a fraction.

    >>> import numpy as np
    >>> intervals = row_intervals(np.array([[16384, 8192, 8192], [0, 32768, 0]], np.uint16))
    >>> encoder = RangeEncoder()
    >>> encoder.encode(np.array([0, 2, 1, 1]), intervals[[0, 0, 1, 1]])
    >>> data = encoder.finish()
    >>> data.hex()
    '60'
    >>> RangeDecoder(data).decode(intervals[[0, 0, 1, 1]])
    [0, 2, 1, 1]
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import BadPacket

#: Sum of every row of the probability tables.
TABLE_TOTAL = 32768
#: Bits of a probability.
PRECISION = 24
_WORD = 32
_LEAST_WIDTH = 1 << _WORD
_WORD_MASK = _LEAST_WIDTH - 1
_WHOLE = 1 << 2 * _WORD


def row_intervals(tables: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Return where the symbols of each row begin and end, in 2**-24ths.

    Args:
        tables: u16[..., n], shares of n symbols; each row sums to TABLE_TOTAL.

    Returns:
        u32[..., n + 1]: symbol s has the integers from [..., s] up to, without it, [..., s + 1].

    """
    symbols = tables.shape[-1]
    # Exact: 24 bits, divided by a power of two.
    scale = np.float32((1 << PRECISION) - symbols) / np.float32(TABLE_TOTAL)
    sums = np.cumsum(tables[..., :-1], axis=-1, dtype=np.uint32)
    found = np.zeros((*tables.shape[:-1], symbols + 1), np.uint32)
    found[..., 1:-1] = (sums.astype(np.float32) * scale).astype(np.uint32) + np.arange(
        1, symbols, dtype=np.uint32
    )
    found[..., -1] = 1 << PRECISION
    return found


class RangeEncoder:
    """Turns symbols into the shortest bytes that RangeDecoder turns back."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._lower, self._width = 0, _WHOLE - 1

    def copy(self) -> RangeEncoder:
        """Return an encoder that has coded the same and goes on by itself."""
        other = RangeEncoder()
        other._words = self._words.copy()
        other._lower, other._width = self._lower, self._width
        return other

    def encode(self, symbols: NDArray[np.integer], intervals: NDArray[np.uint32]) -> None:
        """Append symbols.

        Args:
            symbols: integers [M], each from 0 to n - 1.
            intervals: u32[M, n + 1], the rows of `row_intervals` that they are coded with.

        """
        at = np.arange(len(symbols))
        begin = intervals[at, symbols]
        share = intervals[at, np.asarray(symbols) + 1] - begin
        words, lower, width = self._words, self._lower, self._width
        for first, count in zip(begin.tolist(), share.tolist()):
            unit = width >> PRECISION
            lower += unit * first
            width = unit * count
            if width < _LEAST_WIDTH:
                # A sum that grew over 64 bits stays in its word until `finish` carries it on.
                words.append(lower >> _WORD)
                lower = (lower & _WORD_MASK) << _WORD
                width <<= _WORD
        self._lower, self._width = lower, width

    def finish(self) -> bytes:
        """Return the bytes; a decoder that reads zeros past their end finds all symbols."""
        if self._width == _WHOLE - 1:
            return b''
        point = self._lower + _WORD_MASK
        words = [*self._words, point >> _WORD]
        if (self._lower + self._width) >> _WORD == point >> _WORD:
            words.append(0)
        for k in range(len(words) - 1, 0, -1):
            words[k - 1] += words[k] >> _WORD
            words[k] &= _WORD_MASK
        data = b''.join(word.to_bytes(4, 'big') for word in words)
        whole = 4 * len(self._words)
        lower = self._lower % _WHOLE
        tail = int.from_bytes(data[whole : whole + 8].ljust(8, b'\0'), 'big')
        if not lower <= tail < lower + self._width:
            # The last word was carried into those before it, which are needed as they are.
            return data
        for size in range(9):
            unit = 1 << (64 - 8 * size)
            value = -(-lower // unit) * unit
            if value < min(lower + self._width, _WHOLE):
                return (data[:whole] + value.to_bytes(8, 'big')[:size]).rstrip(b'\0')
        raise AssertionError('an interval holds its own lower end')


class RangeDecoder:
    """Turns the bytes of a RangeEncoder, or any others, into symbols."""

    def __init__(self, data: bytes) -> None:
        """Start to read.

        Args:
            data: the encoder's bytes; zeros are read past their end.

        """
        self._data = data
        self._at = 8
        # What was read, less the lower end of the interval.
        self._ahead = int.from_bytes(data[:8].ljust(8, b'\0'), 'big')
        self._width = _WHOLE - 1

    def decode(self, intervals: NDArray[np.uint32]) -> list[int]:
        """Return the next symbols, one for each row.

        Args:
            intervals: u32[M, n + 1], the rows of `row_intervals` that the symbols were coded
                with.

        Returns:
            M symbols, each from 0 to n - 1.

        Raises:
            BadPacket: no encoder writes these bytes.

        """
        data, at, ahead, width = self._data, self._at, self._ahead, self._width
        symbols = []
        for row in intervals.tolist():
            unit = width >> PRECISION
            quantile = ahead // unit
            if quantile >> PRECISION:
                raise BadPacket('packet body does not decode; drop it')
            symbol = bisect_right(row, quantile) - 1
            symbols.append(symbol)
            ahead -= unit * row[symbol]
            width = unit * (row[symbol + 1] - row[symbol])
            if width < _LEAST_WIDTH:
                ahead = ahead << _WORD | int.from_bytes(data[at : at + 4].ljust(4, b'\0'), 'big')
                width <<= _WORD
                at += 4
        self._at, self._ahead, self._width = at, ahead, width
        return symbols
