"""`orchestrator manifests` and the folder `manifests/`: the same bytes each time, valid everywhere, current."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.settings import load_settings
from orchestrator.settings.gateway import load_gateway_settings

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("*.yaml"))
IMAGES = yaml.safe_dump({"kubernetes": {"image": "orchestrator:1", "agent_image": "agent:1"}})
MINORS = range(29, 38)
"""Of Kubernetes 1: the first and the last are looked at each time, the others when there is time."""
VERSIONS = [
    pytest.param(f"1.{minor}", marks=() if minor in (MINORS[0], MINORS[-1]) else pytest.mark.slow) for minor in MINORS
]
KUBECTL = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")

by_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["manifests", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def parsed(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one is not None]


def identity(one: dict[str, Any]) -> tuple[str, str, str]:
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]


def test_there_are_three_examples():
    assert [path.stem for path in EXAMPLES] == ["gvisor", "minimal", "production"]


@by_example
def test_two_renders_are_byte_identical(example: Path, tmp_path: Path):
    for name in ("one", "two"):
        run("--config", str(example), "--output", str(tmp_path / name))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "kustomization.yaml" in files
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_render_in_another_process_is_byte_identical():
    """Another process has another hash seed: no order may come from a set."""
    command = [sys.executable, "-m", "orchestrator", "manifests", "--config", str(EXAMPLES[2])]
    seeds = [subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True) for seed in "12"]
    assert seeds[0].stdout == seeds[1].stdout
    assert len(seeds[0].stdout) > 10_000


@pytest.fixture(scope="module")
def different_documents() -> list[dict[str, Any]]:
    """Of all examples, each document once: what they share need not be looked at three times."""
    documents: list[dict[str, Any]] = []
    for example in EXAMPLES:
        documents += [one for one in parsed(run("--config", str(example))) if one not in documents]
    return documents


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_valid_on(different_documents: list[dict[str, Any]], version: str):
    too_new = 0
    for one in different_documents:
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            too_new += 1
            assert version == "1.29"
            assert one["kind"].startswith("ValidatingAdmissionPolicy")
    assert (too_new > 0) == (version == "1.29"), "admission policies are stable since 1.30"


@by_example
def test_the_settings_are_in_it_word_for_word(example: Path):
    daemon, gateway = (one["data"] for one in parsed(run("--config", str(example))) if one["kind"] == "ConfigMap")
    assert daemon == {"orchestrator.yaml": example.read_text(encoding="utf-8")}
    assert gateway.keys() == {"gateway.yaml"}


@by_example
def test_the_gateway_can_read_its_settings(example: Path, tmp_path: Path):
    path = tmp_path / "gateway.yaml"
    (text,) = (
        one["data"]["gateway.yaml"]
        for one in parsed(run("--config", str(example)))
        if one["kind"] == "ConfigMap" and "gateway.yaml" in one["data"]
    )
    path.write_text(text, encoding="utf-8")
    settings, ours = load_gateway_settings(path), load_settings(example)
    assert settings.daemon_url == ours.kubernetes.runner_api.url
    assert (settings.port, settings.max_bytes_up) == (3128, ours.egress.max_bytes_up)


@pytest.mark.parametrize(
    ("server", "named"),
    [("", "http://orchestrator.orchestrator.svc:8455"), ("server: {public_url: https://runners.example}\n", None)],
)
def test_the_issuer_has_a_name_that_others_can_look_up(tmp_path: Path, server: str, named: str | None):
    """Its own default is the address it listens on, which in a pod is every address."""
    path = tmp_path / "orchestrator.yaml"
    path.write_text(f"{server}pools: [{{name: default, backend: kubernetes}}]\n{IMAGES}", encoding="utf-8")
    (pod,) = (
        one["spec"]["template"]["spec"]
        for one in parsed(run("--config", str(path)))
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "orchestrator"
    )
    environment = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert environment.get("ORCHESTRATOR_SERVER__PUBLIC_URL") == named


def test_files_of_a_pool_that_is_gone_go_too_and_others_stay(tmp_path: Path):
    out = tmp_path / "out"
    run("--config", str(EXAMPLES[0]), "--output", str(out))
    (out / "mine.yaml").write_text("kind: Mine\n", encoding="utf-8")
    assert (out / "pool-untrusted.yaml").exists()
    run("--config", str(EXAMPLES[1]), "--output", str(out))
    assert not (out / "pool-untrusted.yaml").exists()
    assert {"pool-default.yaml", "mine.yaml"} <= {path.name for path in out.iterdir()}


@pytest.mark.parametrize("name", ["kustomization.yaml", "daemon.yaml"])
def test_a_file_of_somebody_else_is_never_overwritten(tmp_path: Path, name: str):
    """As when a site's own folder is named, whose kustomization says what is added."""
    (tmp_path / name).write_text("resources: [../cluster]\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["manifests", "--config", str(EXAMPLES[1]), "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert name in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing was written"
    assert (tmp_path / name).read_text(encoding="utf-8") == "resources: [../cluster]\n"


def test_a_file_that_is_no_text_stays(tmp_path: Path):
    (tmp_path / "theirs.yaml").write_bytes(b"\xff\xfe\x00")
    run("--config", str(EXAMPLES[1]), "--output", str(tmp_path))
    assert (tmp_path / "theirs.yaml").read_bytes() == b"\xff\xfe\x00"


@pytest.mark.parametrize("named", ["image", "agent_image"])
def test_an_image_that_is_not_named_is_asked_for(tmp_path: Path, named: str):
    config = tmp_path / "half.yaml"
    text = f"pools: [{{name: one, backend: kubernetes}}]\nkubernetes: {{{named}: 'some:1'}}\n"
    config.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["manifests", "--config", str(config)])
    assert result.exit_code == 1
    assert f"kubernetes.{'agent_image' if named == 'image' else 'image'} is not set" in result.stderr


def test_settings_without_a_cluster_pool_say_so(tmp_path: Path):
    config = tmp_path / "local.yaml"
    config.write_text("pools: [{name: local}]\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["manifests", "--config", str(config)])
    assert result.exit_code == 1
    assert "nothing to render" in result.stderr


def test_a_pool_that_demands_digests_gets_them(tmp_path: Path):
    config = tmp_path / "tags.yaml"
    pool = {"name": "one", "backend": "kubernetes", "kubernetes": {"image": "debian:12", "require_digest": True}}
    config.write_text(yaml.safe_dump({"pools": [pool]}) + IMAGES, encoding="utf-8")
    result = CliRunner().invoke(app, ["manifests", "--config", str(config)])
    assert result.exit_code == 1
    assert "digest" in result.stderr


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("manifests_generate", ROOT / "manifests" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_base_and_overlays_are_current():
    """Fails when rendering or an example has changed: run `make manifests` and read the difference."""
    expected = generator().rendered()
    folder = ROOT / "manifests"
    found = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for part in ("base", "overlays")
        for path in (folder / part).rglob("*.yaml")
    }
    assert found.keys() == expected.keys()
    for name, text in expected.items():
        assert found[name] == text, name


def test_what_a_prometheus_operator_reads_is_current():
    """Fails when alerts have changed: run `make manifests`."""
    program = generator()
    assert (ROOT / "manifests" / program.FOR_AN_OPERATOR).read_text(encoding="utf-8") == program.for_an_operator()


@by_example
def test_kubectl_puts_base_and_overlay_together_to_what_is_rendered(example: Path):
    if KUBECTL is None:
        pytest.skip("NO KUBECTL: it is neither beside this Python nor on PATH")
    overlay = ROOT / "manifests" / "overlays" / example.stem
    built = subprocess.run([KUBECTL, "kustomize", str(overlay)], capture_output=True, text=True, check=True).stdout
    assert {identity(one): one for one in parsed(built)} == {
        identity(one): one for one in parsed(run("--config", str(example)))
    }


def test_the_base_is_more_than_a_few_crumbs():
    shared = [one for path in (ROOT / "manifests" / "base").glob("*.yaml") for one in parsed(path.read_text("utf-8"))]
    assert {"Deployment", "Namespace", "ServiceAccount", "Service", "NetworkPolicy"} <= {one["kind"] for one in shared}
