"""The table of runners on both sides: what a gateway holds is what the daemon told, whatever it missed."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.egress import publication as publication_module
from orchestrator.egress.publication import Publication, runner_entry
from orchestrator.egress.table import (
    MAX_ADDRESSES,
    RunnerTable,
    TableError,
    TableUpdate,
    canonical_address,
    decode_update,
    encode_update,
    matches,
)
from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.model.egress import EgressProtocol, EgressRule

RULES = [EgressRule("a.test"), EgressRule("*.b.test", 80, EgressProtocol.HTTP)]


def entry(name, address="10.0.0.1", digest="a", rules=()):
    return runner_entry(name, [address], digest * 64, rules)


def told(publication: Publication, table: RunnerTable, now: float = 0.0):
    """One poll, over the wire."""
    update = publication.update(publication.known(table.version), 15.0)
    return update, table.apply(decode_update(encode_update(update)), now)


def test_what_is_published_is_what_arrives():
    publication, table = Publication(), RunnerTable()
    publication.put(entry("r", "10.0.0.1", "a", RULES))
    told(publication, table)
    (here,) = table.at("10.0.0.1")
    assert here.name == "r"
    assert [EgressRule(rule.host, rule.port, rule.protocol) for rule in here.rules] == RULES
    assert matches(here, "a" * 64)
    assert not matches(here, "b" * 64)
    assert not matches(here, "")
    assert table.owner("a" * 64) == here
    assert table.owner("b" * 64) is None
    assert table.at("10.0.0.2") == ()


def test_changes_are_told_and_nothing_else():
    publication, table = Publication(), RunnerTable()
    for name in "abc":
        publication.put(entry(name))
    update, changes = told(publication, table)
    assert update.full
    assert [e.name for e in changes.begun] == ["a", "b", "c"]
    assert not publication.put(entry("a"))
    publication.put(entry("b", "10.0.0.2"))
    publication.remove("c")
    publication.put(entry("d"))
    update, changes = told(publication, table)
    assert (update.full, [e.name for e in update.runners], update.gone) == (False, ["b", "d"], ("c",))
    assert (set(changes.ended), [e.name for e in changes.begun]) == ({"b", "c"}, ["b", "d"])
    update, changes = told(publication, table)
    assert (update.runners, update.gone, changes.ended, changes.begun) == ((), (), (), ())


def test_other_rules_are_a_change_of_the_same_runner():
    publication, table = Publication(), RunnerTable()
    publication.put(entry("r", rules=RULES))
    told(publication, table)
    publication.put(entry("r", rules=RULES[:1]))
    _, changes = told(publication, table)
    assert (changes.ended, changes.begun) == ((), ())
    assert [len(changed.rules) for changed in changes.changed] == [1]
    assert len(table.at("10.0.0.1")[0].rules) == 1
    publication.put(entry("r", digest="b", rules=RULES))
    _, changes = told(publication, table)
    assert (changes.ended, [one.name for one in changes.begun], changes.changed) == (("r",), ["r"], ())


def test_a_runner_that_was_gone_in_between_is_cut_even_when_it_is_back():
    publication, table = Publication(), RunnerTable()
    publication.put(entry("a"))
    told(publication, table)
    publication.remove("a")
    publication.put(entry("a"))
    _, changes = told(publication, table)
    assert changes.ended == ("a",)
    assert [e.name for e in changes.begun] == ["a"]


def test_freshness_counts_from_the_question():
    publication, table = Publication(), RunnerTable()
    assert not table.fresh(0.0)
    told(publication, table, now=100.0)
    assert table.fresh(114.9)
    assert not table.fresh(115.0)
    table.clear()
    assert not table.fresh(100.0)
    assert table.version == ""


def test_another_daemons_version_gets_everything():
    first, second, table = Publication(), Publication(), RunnerTable()
    first.put(entry("a"))
    told(first, table)
    second.put(entry("b"))
    assert second.known(table.version) is None
    update, changes = told(second, table)
    assert update.full
    assert (changes.ended, [e.name for e in changes.begun]) == (("a",), ["b"])


@pytest.mark.parametrize("version", ["", "x", "-1", "{}-0", "{}-99", "{}-1 ", "{}-١", "{}--1", "{}-" + "1" * 5000])
def test_versions_that_were_never_given_out(version):
    publication = Publication()
    epoch = publication.update(None, 15.0).version.partition("-")[0]
    assert publication.known(version.format(epoch)) is None
    assert publication.known(f"{epoch}-1") == 1


def test_who_missed_too_much_gets_everything(monkeypatch):
    monkeypatch.setattr(publication_module, "MAX_GONE", 3)
    publication, table = Publication(), RunnerTable()
    for number in range(6):
        publication.put(entry(f"r{number}"))
    told(publication, table)
    for number in range(5):
        publication.remove(f"r{number}")
    update, _ = told(publication, table)
    assert update.full
    assert len(table) == 1


def test_a_change_that_does_not_fit_changes_nothing():
    publication, table = Publication(), RunnerTable()
    publication.put(entry("a"))
    told(publication, table)
    before = table.version
    lost = msgspec.structs.replace(publication.update(1, 15.0), size=2)
    with pytest.raises(TableError):
        table.apply(lost, 0.0)
    assert (table.version, len(table)) == (before, 1)
    with pytest.raises(TableError):
        RunnerTable().apply(publication.update(1, 15.0), 0.0)  # changes to nothing


ONE = (
    b'{"version":"0123456789abcdef-1","max_age":15,"full":true,"size":1,"runners":[{"runner":"a",'
    b'"addresses":["10.0.0.1"],"credential_sha256":"%s","rules":%s}]}'
)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b"nonsense",
        b'{"version":"v","max_age":15,"full":true,"size":0}',
        b'{"version":"0123456789abcdef-1","max_age":1e9,"full":true,"size":0}',
        b'{"version":"0123456789abcdef-1","max_age":15,"full":true,"size":0,"more":1}',
        b'{"version":"0123456789abcdef-1","max_age":15,"full":true,"size":1,"runners":[{"runner":"a"}]}',
        ONE % (b"short", b"[]"),
        ONE % (b"a" * 64, b'[["a.test",443,"any"]]'),
        ONE % (b"a" * 64, b'[["a.test",0,"tls"]]'),
    ],
)  # fmt: skip
def test_what_is_no_table(data):
    with pytest.raises(TableError):
        decode_update(data)


def test_the_smallest_tables():
    assert len(decode_update(ONE % (b"a" * 64, b'[["a.test",443,"tls"]]')).runners) == 1
    assert decode_update(b'{"version":"0123456789abcdef-1","max_age":15,"full":true,"size":0}').runners == ()


@pytest.mark.parametrize(
    ("text", "one"),
    [
        ("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("FD00:0::1", "fd00::1"), ("::1", "::1"),
    ],
)  # fmt: skip
def test_one_spelling_for_an_address(text, one):
    assert canonical_address(text) == one


@pytest.mark.parametrize("text", ["", "pod", "10.0.0", "10.0.0.1/32", "10.0.0.01"])
def test_no_addresses(text):
    with pytest.raises(GiveUpError) as caught:
        canonical_address(text)
    assert caught.value.reason == "runner_address_invalid"


def test_what_cannot_be_published(monkeypatch):
    with pytest.raises(ConfigurationError):
        runner_entry("r", ["10.0.0.1"], "a" * 64, [EgressRule("*.com")])
    for digest in ("", "A" * 64, "a" * 63):
        with pytest.raises(GiveUpError, match="digest"):
            runner_entry("r", ["10.0.0.1"], digest, [])
    with pytest.raises(GiveUpError, match="rules"):
        runner_entry("r", ["10.0.0.1"], "a" * 64, [EgressRule("a.test")] * 3001)
    for addresses in ([], [f"10.0.0.{number}" for number in range(MAX_ADDRESSES + 1)]):
        with pytest.raises(GiveUpError, match="addresses"):
            runner_entry("r", addresses, "a" * 64, [])
    monkeypatch.setattr(publication_module, "MAX_RUNNERS", 1)
    publication = Publication()
    publication.put(entry("a"))
    publication.put(entry("a", "10.0.0.2"))
    with pytest.raises(TryAgainError):
        publication.put(entry("b"))


NAMES = [f"r{number}" for number in range(5)]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES), st.integers(1, 3)),
        st.tuples(st.just("rules"), st.sampled_from(NAMES), st.integers(0, 2)),
        st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just(0)),
        st.tuples(st.just("poll"), st.just(""), st.integers(0, 2)),
        st.tuples(st.just("forget"), st.just(""), st.integers(0, 2)),
    ),
    max_size=60,
)


class Gateways:
    """Three gateways' tables, and what each serves by the changes that it was told."""

    def __init__(self) -> None:
        self.publication = Publication()
        self.model = {}
        self.tables = [RunnerTable() for _ in range(3)]
        self.served = [{} for _ in self.tables]
        self.removed_since = [set() for _ in self.tables]

    def do(self, what, name, number):
        getattr(self, what)(name, number)

    def put(self, name, number):
        self.model[name] = entry(name, f"10.0.0.{number}", "abcde"[NAMES.index(name)])
        self.publication.put(self.model[name])

    def rules(self, name, number):
        if name in self.model:
            self.model[name] = msgspec.structs.replace(self.model[name], rules=entry(name, rules=RULES[:number]).rules)
            self.publication.put(self.model[name])

    def remove(self, name, _):
        assert self.publication.remove(name) is (self.model.pop(name, None) is not None)
        for gone in self.removed_since:
            gone.add(name)

    def forget(self, _, which):
        self.tables[which].clear()
        self.served[which].clear()

    def poll(self, _, which):
        _, changes = told(self.publication, self.tables[which])
        served, removed = self.served[which], self.removed_since[which]
        assert removed & served.keys() <= set(changes.ended)
        for name in changes.ended:
            del served[name]
        for begun in changes.begun:
            assert begun.name not in served
            served[begun.name] = begun
        for changed in changes.changed:
            # The same runner as before but for its rules: nothing else may go on without being cut off.
            assert changed.name not in removed
            assert msgspec.structs.replace(served[changed.name], rules=changed.rules) == changed
            served[changed.name] = changed
        removed.clear()
        assert served == self.model


@given(STEPS)
def test_every_gateway_ends_with_the_same_table(steps):
    """Whenever each of three gateways polls or forgets; and who was withdrawn in between was cut."""
    gateways = Gateways()
    for what, name, number in steps:
        gateways.do(what, name, number)
    model = gateways.model
    for which, table in enumerate(gateways.tables):
        gateways.poll("", which)
        for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
            assert {e.name for e in table.at(address)} == {n for n, e in model.items() if address in e.addresses}
        for made in model.values():
            assert table.owner(made.credential_sha256) == made
        assert len(table) == len(model)


@given(st.binary(max_size=200))
def test_garbage_is_no_table(data):
    with contextlib.suppress(TableError):
        assert isinstance(decode_update(data), TableUpdate)
