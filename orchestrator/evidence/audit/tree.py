"""The Merkle tree over the log's records: its root, and proofs that a record is in it or that it only grew. Pure.

Source: RFC 6962, section 2.1; proofs and their checks as RFC 9162, sections 2.1.3 and 2.1.4 spell them out. Leaves
count from 0 here; record `seq` is leaf `seq - 1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

EMPTY_ROOT: Final = sha256(b"").digest()
HASH_BYTES: Final = 32

Range = tuple[int, int]
"""Leaves from the first number to before the second."""


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


class Tree:
    """A tree that grows, kept as the roots of its full subtrees: one for each bit of `size`, the largest first."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """`peaks` as `peaks` gave them at that size.

        Raises:
            ValueError: they are not as many as a tree of that size has.
        """
        if size < 0 or len(peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in peaks):
            raise ValueError("peaks do not fit the size")
        self.size = size
        self._peaks = list(peaks)

    @property
    def peaks(self) -> tuple[bytes, ...]:
        return tuple(self._peaks)

    def add(self, leaf: bytes) -> None:
        """Append a leaf by its hash."""
        size, peaks = self.size, self._peaks
        while size & 1:
            leaf = sha256(b"\1" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self._peaks:
            return EMPTY_ROOT
        *rest, root = self._peaks
        for peak in reversed(rest):
            root = node_hash(peak, root)
        return root


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The subtrees whose roots prove that leaf `index` is in the first `size`, in the order of the proof."""
    start, end = 0, size
    ranges: list[Range] = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The subtrees whose roots prove that the tree of `new` leaves begins with that of `old`; 0 < old <= new."""
    start, end, whole = 0, new, True
    ranges: list[Range] = []
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start, whole = middle, False
    if not whole:
        ranges.append((start, end))
    return ranges[::-1]


def hashes_of(ranges: Sequence[Range], leaves: Iterable[bytes]) -> list[bytes]:
    """The roots over `ranges`, which do not overlap, in one pass over all leaf hashes.

    Raises:
        ValueError: there are too few leaves.
    """
    found: dict[Range, bytes] = {}
    todo = sorted(ranges, reverse=True)
    tree = Tree()
    for number, leaf in enumerate(leaves):
        if not todo:
            break
        start, end = todo[-1]
        if number >= start:
            tree.add(leaf)
        if number == end - 1:
            found[todo.pop()] = tree.root()
            tree = Tree()
    if todo:
        raise ValueError("there are fewer leaves than the proof is about")
    return [found[one] for one in ranges]


def included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that the leaf with this hash is the one at `index` of the tree. RFC 9162, 2.1.3.2."""
    if not 0 <= index < size:
        return False
    place, last, current = index, size - 1, leaf
    for one in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            current = node_hash(one, current)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            current = node_hash(current, one)
        place, last = place >> 1, last >> 1
    return last == 0 and current == root


def extends(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the new tree begins with the old one. RFC 9162, 2.1.4.2."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = path[0]
    for one in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first, second = node_hash(one, first), node_hash(one, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, one)
        place, last = place >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(size: int) -> int:
    """The largest power of two below `size`, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)
