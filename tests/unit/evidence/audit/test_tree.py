"""The tree against the vectors of Certificate Transparency and the RFC's own recursive definitions."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evidence.audit.tree import (
    EMPTY_ROOT,
    Tree,
    consistency_ranges,
    extends,
    hashes_of,
    included,
    inclusion_ranges,
    leaf_hash,
)

INPUTS = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Of the first 0 to 8 inputs; the vectors of the reference implementation of RFC 6962."""

LEAVES = [leaf_hash(b"%d" % number) for number in range(40)]


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, over leaf hashes."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    k = split(len(leaves))
    return sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    return [*path(m, leaves[:k]), mth(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """RFC 6962, 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def grown(count: int) -> Tree:
    tree = Tree()
    for leaf in LEAVES[:count]:
        tree.add(leaf)
    return tree


def test_published_roots():
    tree = Tree()
    assert tree.root() == EMPTY_ROOT
    for count, root in enumerate(ROOTS):
        assert tree.size == count
        assert tree.root().hex() == root
        if count < len(INPUTS):
            tree.add(leaf_hash(INPUTS[count]))


def test_published_inclusion_path():
    """The first leaf of eight."""
    leaves = [leaf_hash(data) for data in INPUTS]
    assert [one.hex() for one in hashes_of(inclusion_ranges(0, 8), leaves)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]


def test_every_root_and_proof_is_as_the_rfc_defines_it():
    for size in range(1, len(LEAVES) + 1):
        leaves = LEAVES[:size]
        root = grown(size).root()
        assert root == mth(leaves)
        for index in range(size):
            proof = hashes_of(inclusion_ranges(index, size), leaves)
            assert proof == path(index, leaves)
            assert included(leaves[index], index, size, proof, root)
        for old in range(1, size + 1):
            proof = hashes_of(consistency_ranges(old, size), leaves)
            assert proof == subproof(old, leaves, True)
            assert extends(old, mth(LEAVES[:old]), size, root, proof)


@given(st.integers(1, 40), st.data())
def test_a_proof_shows_nothing_else(size, data):
    index = data.draw(st.integers(0, size - 1))
    root = grown(size).root()
    proof = hashes_of(inclusion_ranges(index, size), LEAVES)
    other = data.draw(st.sampled_from([n for n in range(size) if n != index] or [size]))
    assert not included(LEAVES[other % 40], index, size, proof, root) or size == 40 == other
    assert not included(LEAVES[index], other, size, proof, root)
    assert not included(LEAVES[index], index, size, [*proof, proof[-1] if proof else root], root)
    assert not included(LEAVES[index], index, size, proof[:-1], root) or not proof
    assert not included(LEAVES[index], -1, size, proof, root)
    assert not included(LEAVES[index], index, size, proof, sha256(root).digest())


@given(st.integers(1, 40), st.data())
def test_growth_is_not_shown_for_another_past(size, data):
    old = data.draw(st.integers(1, size))
    proof = hashes_of(consistency_ranges(old, size), LEAVES)
    was, now = mth(LEAVES[:old]), grown(size).root()
    false = sha256(was).digest()
    assert extends(old, was, size, now, proof)
    assert not extends(old, false, size, now, proof)
    assert not extends(old, was, size, sha256(now).digest(), proof)
    assert not extends(old, was, size, now, [*proof, was])
    assert not extends(0, was, size, now, proof)
    assert not extends(size + 1, was, size, now, proof)
    if proof:
        assert not extends(old, was, size, now, proof[:-1])
        assert not extends(old, was, size, now, [sha256(one).digest() for one in proof])


@pytest.mark.parametrize("at", range(20))
def test_a_tree_goes_on_from_its_peaks(at):
    tree = grown(at)
    again = Tree(at, tree.peaks)
    for leaf in LEAVES[at:]:
        again.add(leaf)
    assert again.root() == mth(LEAVES)
    with pytest.raises(ValueError, match="peaks"):
        Tree(at, [*tree.peaks, EMPTY_ROOT])


def test_too_few_leaves_are_told():
    with pytest.raises(ValueError, match="fewer"):
        hashes_of(inclusion_ranges(0, 8), LEAVES[:5])
