"""Writes `base/` and `overlays/` from `examples/`: what all examples share is the base, the rest their overlays; and
`observability/`, what `orchestrator monitoring` prints and what a Prometheus operator reads.

Nothing here is edited by hand, so base and overlays cannot drift from what the daemon reads. Run by
`make manifests`; a test says when it is due, and another that base and overlay together are what the daemon renders.
"""

from __future__ import annotations

import copy
import shutil
import sys
from pathlib import Path
from typing import Any

from orchestrator.backends.kubernetes.render.groups import kustomization
from orchestrator.cli.operations.monitoring import Part, text_of
from orchestrator.daemon.cluster.manifests import KUSTOMIZATION, MONITORING, documents, yaml_text
from orchestrator.settings import load_settings

ROOT = Path(__file__).parent
PATCHES = "patches"
FOR_AN_OPERATOR = "observability/prometheus-operator.yaml"
"""For the base, whose installation is `default`; it is in no overlay, since most clusters do not know its kinds."""

Document = dict[str, Any]
Groups = dict[str, list[Document]]

_SAME = object()


def rendered() -> dict[str, str]:
    """Path below this folder to text, of every file that is generated."""
    examples = {path.stem: example_documents(path) for path in sorted((ROOT / "examples").glob("*.yaml"))}
    base = _base(list(examples.values()))
    files = _folder("base", base, kustomization(list(base)))
    for example, groups in examples.items():
        own: Groups = {}
        patches: list[Document] = []
        for name, group in groups.items():
            shared = {_identity(one): one for one in base.get(name, ())}
            for one in group:
                if _identity(one) not in shared:
                    own.setdefault(name, []).append(one)
                elif (patch := _patch(shared[_identity(one)], one)) is not _SAME:
                    patches.append({**_address(one), **patch, "metadata": _address(one)["metadata"]})
        top = kustomization(list(own))
        top["resources"].insert(0, "../../base")
        if patches:
            own[PATCHES] = patches
            top["patches"] = [{"path": f"{PATCHES}.yaml"}]
        files |= _folder(f"overlays/{example}", own, top)
    return files


def for_an_operator() -> str:
    """What the settings `kubernetes.prometheus_operator.enabled` add, in the smallest example."""
    path = ROOT / "examples/minimal.yaml"
    settings = load_settings(path)
    cluster = settings.kubernetes
    asked = cluster.prometheus_operator.model_copy(update={"enabled": True})
    changed = settings.model_copy(
        update={"kubernetes": cluster.model_copy(update={"prometheus_operator": asked})},
    )
    return yaml_text(documents(changed, path.read_text(encoding="utf-8"))[MONITORING])


def example_documents(path: Path) -> Groups:
    groups = documents(load_settings(path), path.read_text(encoding="utf-8"))
    return {name: group for name, group in groups.items() if name != KUSTOMIZATION}


def _base(examples: list[Groups]) -> Groups:
    """Documents that all have, as far as a patch can turn the first example's into each other's."""
    base: Groups = {}
    for name, group in examples[0].items():
        for one in group:
            others = [_find(other.get(name, []), one) for other in examples]
            if all(other is not None and _patch(one, other) is not None for other in others):
                base.setdefault(name, []).append(copy.deepcopy(one))
    return base


def _find(group: list[Document], wanted: Document) -> Document | None:
    return next((one for one in group if _identity(one) == _identity(wanted)), None)


def _address(one: Document) -> Document:
    metadata = {key: one["metadata"][key] for key in ("name", "namespace") if key in one["metadata"]}
    return {"apiVersion": one["apiVersion"], "kind": one["kind"], "metadata": metadata}


def _identity(one: Document) -> str:
    return repr(_address(one))


def _patch(old: Any, new: Any) -> Any:
    """A strategic merge patch from `old` to `new`; `_SAME` when there is nothing to do, None when there is none.

    Only what patches do for every kind: values of mappings set, and elements of lists that have the same names.
    """
    if old == new:
        return _SAME
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() - new.keys():
            return None
        parts = {key: _patch(old.get(key), new[key]) for key in new if old.get(key, _SAME) != new[key]}
        return None if None in parts.values() else parts
    if isinstance(old, list) and isinstance(new, list):
        names = [[one.get("name") if isinstance(one, dict) else None for one in each] for each in (old, new)]
        if names[0] != names[1] or None in names[0]:
            return None
        pairs = [(after["name"], _patch(before, after)) for before, after in zip(old, new, strict=True)]
        if any(part is None for _, part in pairs):
            return None
        return [{"name": name, **part} for name, part in pairs if part is not _SAME]
    return new


def _folder(folder: str, groups: Groups, top: Document) -> dict[str, str]:
    return {f"{folder}/{name}.yaml": yaml_text(group) for name, group in {**groups, KUSTOMIZATION: [top]}.items()}


def main() -> int:
    for folder in ("base", "overlays"):
        shutil.rmtree(ROOT / folder, ignore_errors=True)
    for name, text in rendered().items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(text, encoding="utf-8")
    (ROOT / "observability").mkdir(exist_ok=True)
    for part in Part:
        name = f"{part.value}.json" if part is Part.DASHBOARD else f"{part.value}.yaml"
        (ROOT / "observability" / name).write_text(text_of(part), encoding="utf-8")
    (ROOT / FOR_AN_OPERATOR).write_text(for_an_operator(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
