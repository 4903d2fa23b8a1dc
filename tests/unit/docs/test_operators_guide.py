"""What the operator's guide shows of kustomize builds, and its tables name the guards that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.backends.kubernetes.guards import GUARDS
from orchestrator.cli.main import app

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "operate-on-kubernetes.md").read_text(encoding="utf-8")
KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")


def block(start: str) -> str:
    """The fenced block that begins so, without its fences."""
    found = re.search(rf"```\w*\n({re.escape(start)}\n.*?)```", PAGE, re.DOTALL)
    assert found, start
    return found[1]


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    settings = tmp_path / "orchestrator.yaml"
    settings.write_text(block("# orchestrator.yaml"), encoding="utf-8")
    done = CliRunner().invoke(app, ["manifests", "-c", str(settings), "-o", str(tmp_path / "cluster")])
    assert done.exit_code == 0, done.output
    return tmp_path


@pytest.mark.skipif(KUBECTL is None, reason="NO KUBECTL: it is neither beside this Python nor on PATH")
def test_what_is_the_sites_own_goes_over_what_is_rendered(rendered: Path):
    site = rendered / "site"
    (site / "policy").mkdir(parents=True)
    kustomization, volumes = block("# site/kustomization.yaml").split("---\n")
    (site / "kustomization.yaml").write_text(kustomization)
    (site / "volumes.yaml").write_text(volumes)
    for generator in yaml.safe_load(kustomization)["configMapGenerator"]:
        for name in generator["files"]:
            (site / name).write_text("{}")
    built = subprocess.run(
        [str(KUBECTL), "kustomize", str(site)], capture_output=True, text=True, check=False, timeout=60
    )
    assert built.returncode == 0, built.stderr
    documents = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(built.stdout)}
    pod = documents["Deployment", "orchestrator"]["spec"]["template"]["spec"]
    volumes_of = {one["name"]: one for one in pod["volumes"]}
    mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    assert {"settings", "state", "tmp", "policy", "issuers"} == volumes_of.keys() == mounts.keys()
    for name in ("policy", "issuers"):
        assert ("ConfigMap", volumes_of[name]["configMap"]["name"]) in documents
        assert f"{mounts[name]}" in PAGE.split("# site/kustomization.yaml")[0], "the settings name it"


def test_each_guard_and_each_file_has_its_line(rendered: Path):
    for guard in GUARDS.values():
        assert f"`{guard.name}`" in PAGE, guard.name
    for path in (rendered / "cluster").glob("*.yaml"):
        if path.stem != "kustomization":
            assert f"`{path.name.replace('default', 'NAME')}`" in PAGE, path.name
