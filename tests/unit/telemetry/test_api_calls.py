from orchestrator.model.api import BOUNDS, ApiCounts
from orchestrator.testing.scraping import metrics, scrape


def counted() -> ApiCounts:
    counts = ApiCounts()
    counts.answered("create", "pods", 201, 0.02)
    counts.answered("create", "pods", 201, 0.3)
    counts.answered("create", "pods", 429, 0.001)
    counts.answered("list", "pods", 0, 60.0)
    counts.failures["create", "pods", "api_busy"] += 1
    counts.failures["list", "pods", "api_unavailable"] += 1
    counts.failures["get", "pods", "api_not_found"] += 4
    counts.retries["get", "pods", "api_unauthorized"] += 2
    return counts


def test_requests_of_all_clients_are_added_up() -> None:
    registry = metrics()
    both = [counted(), counted()]
    registry.watch_api(lambda: both)
    seen = scrape(registry)
    name = "kubernetes_request_duration_seconds"
    assert seen[f"{name}_count", "pods", "2xx", "create"] == 4
    assert abs(seen[f"{name}_sum", "pods", "2xx", "create"] - 0.64) < 1e-9
    assert seen[f"{name}_bucket", "0.025", "pods", "2xx", "create"] == 2
    assert seen[f"{name}_bucket", "+Inf", "pods", "2xx", "create"] == 4
    assert seen[f"{name}_bucket", str(BOUNDS[-1]), "pods", "none", "list"] == 0
    assert seen[f"{name}_count", "pods", "4xx", "create"] == 2
    assert seen["kubernetes_request_failed_total", "api_not_found", "pods", "get"] == 8
    assert seen["kubernetes_request_retry_total", "api_unauthorized", "pods", "get"] == 4


def test_what_is_part_of_the_conversation_is_no_error_of_the_system() -> None:
    registry = metrics()
    registry.watch_api(lambda: [counted()])
    errors = {key[1:]: value for key, value in scrape(registry).items() if key[0] == "cicd_system_errors_total"}
    assert errors == {("kubernetes", "api_busy"): 1, ("kubernetes", "api_unavailable"): 1}


def test_a_time_on_a_bound_belongs_below_it() -> None:
    counts = ApiCounts()
    for bound in BOUNDS:
        counts.answered("get", "pods", 200, bound)
    assert counts.times()["get", "pods", "2xx"].counts == (*[1] * len(BOUNDS), 0)
