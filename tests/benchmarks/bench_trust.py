"""What one answer of the trust map costs: in a map of one grant and in one of 1,000, each way it can end.

The small map is the floor: what is asked beyond it is the price of size. All in processor time of one process.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from orchestrator.identity.trust.answers import Grant, Refusal
from orchestrator.identity.trust.globs import MAX_TEXT_CHARS, Glob
from orchestrator.identity.trust.trust_map import TrustMap

GRANTS = 1000
TURNS, EACH = 15, 300
AUDIENCE = "sts.amazonaws.com"
ROLE = "arn:aws:iam::123456789012:role/app"
BOUND_MICROSECONDS = 100.0


def content(grants: int, *, one_repository: bool = False) -> dict[str, Any]:
    """A document of so many grants: each for a repository of its own, or all for one, told apart by role."""
    return {
        "trust_map": 1,
        "environment": "prod",
        "targets": {"aws": {"kind": "aws", "audience": AUDIENCE, "session_seconds": 900}},
        "grants": [
            {
                "name": f"app-{number}",
                "when": {
                    "caller_issuer": {"equals": "https://ci.example"},
                    "repository_id": {"equals": "1" if one_repository else str(number + 1)},
                    "ref": {"matches": "refs/heads/release/*"},
                    "ref_protected": {"equals": "true"},
                    "trust_tier": {"equals": "protected"},
                    "workflow_ref": {"matches": "acme/*/.github/workflows/release.yml@refs/heads/**"},
                },
                "target": "aws",
                "roles": [f"{ROLE}-{number}"],
                "max_ttl_seconds": 300,
                "session_tags": {"repository": {"claim": "repository"}, "stage": {"value": "prod"}},
                "transitive": ["repository"],
            }
            for number in range(grants)
        ],
    }


FACTS = {
    "environment": "prod",
    "caller_issuer": "https://ci.example",
    "repository_id": "500",
    "repository": "acme/app-500",
    "ref": "refs/heads/release/2027.1",
    "ref_protected": "true",
    "trust_tier": "protected",
    "workflow_ref": "acme/app-500/.github/workflows/release.yml@refs/heads/release/2027.1",
    "actor": "somebody",
    "sha": "a" * 40,
}


def load(folder: Path, name: str, document: dict[str, Any]) -> tuple[TrustMap, float]:
    """The map, and the seconds that loading took."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document))
    began = time.process_time()
    return TrustMap.load([path]), time.process_time() - began


def microseconds(once: Callable[[], object]) -> float:
    times = []
    for _ in range(TURNS):
        began = time.process_time()
        for _ in range(EACH):
            once()
        times.append((time.process_time() - began) / EACH * 1e6)
    return statistics.median(times)


def asking(trust_map: TrustMap, facts: Mapping[str, str], role: str, code: str) -> Callable[[], object]:
    """A question, after a look that it ends as meant; `code` is empty for a grant."""
    answer = trust_map.grant(facts, AUDIENCE, role)
    assert isinstance(answer, Grant if not code else Refusal)
    assert not isinstance(answer, Refusal) or answer.code == code
    return lambda: trust_map.grant(facts, AUDIENCE, role)


def main() -> None:
    with TemporaryDirectory() as folder:
        small, _ = load(Path(folder), "small", content(1))
        large, seconds = load(Path(folder), "large", content(GRANTS))
        narrow, _ = load(Path(folder), "narrow", content(GRANTS, one_repository=True))
    first = FACTS | {"repository_id": "1"}
    cases = {
        "granted": (asking(large, FACTS, "", ""), asking(small, first, "", "")),
        "granted_by_role": (asking(large, FACTS, f"{ROLE}-499", ""), asking(small, first, f"{ROLE}-0", "")),
        "granted_one_repository": (asking(narrow, first, f"{ROLE}-999", ""), asking(small, first, f"{ROLE}-0", "")),
        "claim_mismatch": (
            asking(large, FACTS | {"ref": "refs/heads/main"}, "", "trust_claim_mismatch"),
            asking(small, first | {"ref": "refs/heads/main"}, "", "trust_claim_mismatch"),
        ),
        "role_not_mapped": (asking(large, FACTS, "x", "role_not_mapped"), asking(small, first, "x", "role_not_mapped")),
        "no_grant": (
            asking(large, FACTS | {"repository_id": "x"}, "", "trust_no_grant"),
            asking(small, first | {"repository_id": "x"}, "", "trust_no_grant"),
        ),
    }
    figures: dict[str, dict[str, Any]] = {}
    for name, (question, floor) in cases.items():
        ours, least = microseconds(question), microseconds(floor)
        figures[name] = {
            "ours": round(ours, 1),
            "floor": round(least, 1),
            "ratio": round(ours / least, 2),
            "unit": f"µs an answer, {GRANTS} grants against 1; bound {BOUND_MICROSECONDS:g}",
        }
    figures["worst_glob"] = {
        "ours": round(worst_glob(), 1), "floor": None, "ratio": None,
        "unit": f"µs for the worst pattern and a text of {MAX_TEXT_CHARS} characters",
    }  # fmt: skip
    figures["load"] = {
        "ours": round(seconds * 1000), "floor": None, "ratio": None, "unit": f"ms to load {GRANTS} grants, all checks"
    }  # fmt: skip
    for name, figure in figures.items():
        print(f"{name}: {figure}")
    target = Path("build/bench/trust.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")
    slow = [name for name in cases if figures[name]["ours"] > BOUND_MICROSECONDS]
    if slow:
        raise SystemExit(f"over the bound: {', '.join(slow)}")


def worst_glob() -> float:
    glob, text = Glob("**a" * 80 + "**b"), "a" * MAX_TEXT_CHARS
    return microseconds(lambda: glob.matches(text))


if __name__ == "__main__":
    main()
