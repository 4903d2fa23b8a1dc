"""Which ports of a changed pool stay closed: what was rendered is what the daemon was started with."""

from __future__ import annotations

from orchestrator.daemon.cluster.closed_ports import closed_ports, closed_words, gateway_ports
from orchestrator.settings import Settings


def settings(*pools: tuple[str, str, tuple[int, ...]]) -> Settings:
    return Settings.model_validate(
        {
            "pools": [
                {
                    "name": name, "backend": backend,
                    "egress": [{"host": f"h{port}.example", "port": port} for port in ports],
                    "kubernetes": {"image": "registry.example/job:1"},
                }
                for name, backend, ports in pools
            ],
        }
    )  # fmt: skip


def test_a_port_that_any_pool_had_is_open_to_all():
    before = settings(("a", "kubernetes", (443,)), ("b", "kubernetes", (8443,)))
    assert gateway_ports(before) == {443, 8443}
    assert closed_ports(before, settings(("a", "kubernetes", (443, 8443)), ("b", "kubernetes", ()))) == {}


def test_new_ports_are_named_for_each_pool_of_pods_and_for_no_other():
    before = settings(("a", "kubernetes", (443,)), ("b", "kubernetes", (443,)), ("c", "sandbox", (443,)))
    after = settings(("a", "kubernetes", (443, 9000, 22)), ("b", "kubernetes", (443,)), ("c", "sandbox", (22,)))
    found = closed_ports(before, after)
    assert found == {"a": (22, 9000)}
    assert [len(words) for words in closed_words(found).values()] == [2]
