"""How long a job waits for its runner, cold and warm; the figures go to build/bench/kubernetes_start.json."""

from __future__ import annotations

import datetime as dt
import json
import statistics
from collections.abc import Iterator

import pytest
from node import ROOT
from product import Product, installed

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(300)]

JOBS = 5


@pytest.fixture(scope="module")
def site(described, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    shape = {"cpu": "600m"}
    pools = {"cold": {"kubernetes": shape}, "warm": {"kubernetes": shape | {"warm": 1}}}
    with installed(described(tmp_path_factory.mktemp("site"), pools)) as made:
        yield made


def seconds(found: dict, end: str) -> float:
    moments = [dt.datetime.fromisoformat(found[name]) for name in ("offered_at", end)]
    return (moments[1] - moments[0]).total_seconds()


def waiting(site: Product) -> list[dict]:
    """Warm pods whose agent runs, asking for work."""
    return [
        pod for pod in site.pods_of("warm")
        if pod["metadata"]["name"].startswith("warm-") and not pod["metadata"].get("deletionTimestamp")
        and any("running" in one.get("state", {}) for one in pod["status"].get("initContainerStatuses", []))
    ]  # fmt: skip


def test_a_warm_runner_is_taken_and_replaced_and_sooner_than_a_cold_one(site: Product):
    taken: dict[str, list[float]] = {"cold": [], "warm": []}
    used: set[str] = set()
    for _ in range(JOBS):
        for pool, times in taken.items():
            ready = site.until(lambda: waiting(site), 60)
            found = site.finished(site.submit(pool, "echo done"))
            assert found["result"] == "success", (found, site.log)
            times.append(seconds(found, "bound_at"))
            uids = {pod["metadata"]["uid"] for pod in ready}
            assert (found["runner"]["uid"] in uids) == (pool == "warm"), "a job of that pool, and of no other, takes it"
            assert found["runner"]["uid"] not in used, "no runner is used twice"
            used.add(found["runner"]["uid"])
    figures = {
        f"start_{pool}": {"ours": round(statistics.median(times), 3), "worst": round(max(times), 3), "unit": "s"}
        for pool, times in taken.items()
    }
    path = ROOT / "build/bench/kubernetes_start.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps(figures))
    assert statistics.median(taken["warm"]) < statistics.median(taken["cold"])
