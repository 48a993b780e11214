# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Static Huffman codes over the levels of one feature."""

from __future__ import annotations

from collections.abc import Sequence

import constriction
import numpy as np

_huffman = constriction.symbol.huffman


class HuffmanTable:
    """One code for symbols 0..n-1, known to both sides."""

    def __init__(self, counts: Sequence[int]) -> None:
        """Take how often each symbol was seen in training; each at least once."""
        share = np.asarray(counts, np.float64) / np.sum(counts)
        self._encoder = _huffman.EncoderHuffmanTree(share.astype(np.float32))
        self._decoder = _huffman.DecoderHuffmanTree(share.astype(np.float32))

    def encode(self, symbols: np.ndarray) -> bytes:
        """Return the code words of integers [n], filled up to a whole byte."""
        queue = constriction.symbol.QueueEncoder()
        for symbol in symbols.ravel().tolist():
            queue.encode_symbol(symbol, self._encoder)
        words, bits = queue.get_compressed()
        return words.astype('<u4').tobytes()[: -(-bits // 8)]

    def decode(self, data: bytes, count: int) -> tuple[np.ndarray, int] | None:
        """Return (`count` symbols, bytes used) from the front of `data`; None if cut off."""
        filled = data + bytes(-len(data) % 4 + 4)
        queue = constriction.symbol.QueueDecoder(np.frombuffer(filled, '<u4').astype(np.uint32))
        try:
            symbols = [queue.decode_symbol(self._decoder) for _ in range(count)]
        except (AssertionError, ValueError):
            return None
        used = len(self.encode(np.array(symbols, np.int64)))
        return (np.array(symbols, np.int64), used) if used <= len(data) else None
