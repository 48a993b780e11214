# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Static Huffman codes, such as over the levels of one feature."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np


def code_lengths(counts: Sequence[int]) -> list[int]:
    """Return the bits of each symbol's word in a Huffman code (Huffman, 1952).

    Args:
        counts: how often each symbol was seen; of two that are equally rare, the first one is
            joined first. Shares are taken in single precision.

    Returns:
        One length for each symbol, 0 where there is no other symbol.
    """
    share = (np.asarray(counts, np.float64) / np.sum(counts)).astype(np.float32)
    heap = [(value, k) for k, value in enumerate(share)]
    heapq.heapify(heap)
    above: dict[int, int] = {}
    root = len(heap) - 1
    while len(heap) > 1:
        root += 1
        (rarest, first), (rarer, second) = heapq.heappop(heap), heapq.heappop(heap)
        above[first] = above[second] = root
        heapq.heappush(heap, (rarest + rarer, root))
    depth = {root: 0}
    for node in range(root - 1, -1, -1):
        depth[node] = depth[above[node]] + 1
    return [depth[symbol] for symbol in range(len(share))]


def to_bytes(bits: str) -> bytes:
    """Return bits '0' and '1' as bytes, filled up with zeros to a whole one."""
    size = -(-len(bits) // 8)
    return int(bits.ljust(8 * size, '0') or '0', 2).to_bytes(size, 'big')


def to_bits(data: bytes) -> str:
    """Return the bits of bytes as '0' and '1', the most significant one of each first."""
    return f'{int.from_bytes(data, "big"):0{8 * len(data)}b}' if data else ''


class HuffmanTable:
    """One code for symbols 0..n-1, known to both sides.

    The words are those of the canonical code: shorter ones first, symbols of one length in their
    order. Bits go from the most significant one of each byte on.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        """Take how often each symbol was seen in training; each at least once."""
        self._words: dict[int, str] = {}
        lengths = code_lengths(counts)
        word, before = 0, 0
        for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths)):
            word <<= length - before
            self._words[symbol] = f'{word:0{length}b}' if length else ''
            word, before = word + 1, length
        self._symbols = {bits: symbol for symbol, bits in self._words.items()}

    def words(self, symbols: np.ndarray) -> list[str]:
        """Return the code word of each of some integers, as '0' and '1'."""
        return [self._words[symbol] for symbol in symbols.ravel().tolist()]

    def read(self, bits: str, begin: int) -> tuple[int, int] | None:
        """Return (the symbol whose word begins at a bit, the bit behind it); None if cut off."""
        end = begin
        while bits[begin:end] not in self._symbols:
            end += 1
            if end > len(bits):
                return None
        return self._symbols[bits[begin:end]], end

    def encode(self, symbols: np.ndarray) -> bytes:
        """Return the code words of integers [n], filled up to a whole byte."""
        return to_bytes(''.join(self.words(symbols)))

    def decode(self, data: bytes, count: int) -> tuple[np.ndarray, int] | None:
        """Return (`count` symbols, bytes used) from the front of `data`; None if cut off."""
        bits, symbols, at = to_bits(data), [], 0
        for _ in range(count):
            found = self.read(bits, at)
            if found is None:
                return None
            symbol, at = found
            symbols.append(symbol)
        return np.array(symbols, np.int64), -(-at // 8)
