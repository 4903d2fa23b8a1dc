"""The node that tests run pods on: its address, its containerd, and images for it. For tests and the demo alike."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ROOT / "build/images"
BUSYBOX = "runner.local/busybox:1"
PYTHON = "runner.local/python:1"
"""Debian with Python: the base that `make images` made, and a stand-in for GitHub's runner."""
RUN_SH = "/opt/github-runner/run.sh"
"""The stand-in for GitHub's runner in that image."""

Json = dict[str, Any]


class NoNodeError(Exception):
    """Why no pod can really run here, for people."""


def kubectl(*arguments: str, timeout: float = 120) -> str:
    """Its output; an AssertionError with its words when it fails."""
    program = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if program is None:
        raise NoNodeError("kubectl is neither beside this Python nor on PATH")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
    return done.stdout


@dataclass
class Admin:
    """The API server, spoken to with the token of KUBECONFIG, or with another one."""

    url: str
    ca: str
    token: str

    @classmethod
    def of_kubeconfig(cls, path: str) -> Admin:
        document = yaml.safe_load(Path(path).read_text("utf-8"))
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        if "token" not in user:
            raise NoNodeError("the user of KUBECONFIG has no bearer token")
        data = cluster.get("certificate-authority-data")
        ca = base64.b64decode(data).decode() if data else Path(cluster["certificate-authority"]).read_text("utf-8")
        return cls(cluster["server"], ca, user["token"])

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Json]:
        """Status and document."""
        parts = urlsplit(self.url)
        context = ssl.create_default_context(cadata=self.ca)
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context, timeout=20)
        try:
            sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, {"text": text.decode("utf-8", "replace")}

    def call(self, method: str, path: str, body: Any = None) -> Json:
        status, document = self.ask(method, path, body)
        assert status < 300, (method, path, status, document)
        return document


@dataclass
class Node:
    """One machine of the cluster, this one: its pods reach listeners at `address`."""

    admin: Admin
    kubeconfig: str
    folder: Path
    address: str

    @classmethod
    def found(cls) -> Node:
        """Raises NoNodeError with the reason."""
        kubeconfig, folder = os.environ.get("KUBECONFIG", ""), os.environ.get("CLUSTER_DIR", "")
        if not kubeconfig:
            raise NoNodeError("KUBECONFIG is not set")
        if not folder or not Path(folder, "containerd.sock").exists():
            raise NoNodeError("the cluster has no node whose containerd is at $CLUSTER_DIR/containerd.sock")
        admin = Admin.of_kubeconfig(kubeconfig)
        nodes = admin.call("GET", "/api/v1/nodes")["items"]
        addresses = [one["address"] for node in nodes for one in node["status"]["addresses"]
                     if one["type"] == "InternalIP"]  # fmt: skip
        if len(addresses) != 1:
            raise NoNodeError(f"the cluster has {len(addresses)} nodes instead of one on this machine")
        for name in ("agent", "daemon"):
            if not (IMAGES / f"{name}.oci.tar").is_file():
                raise NoNodeError(f"build/images/{name}.oci.tar is missing; `make images` builds it")
        return cls(admin, kubeconfig, Path(folder), addresses[0])

    def process(self, name: str) -> psutil.Process:
        """A part of the node: `containerd` or `kubelet`."""
        for one in psutil.process_iter(["name", "cwd"]):
            if one.info["name"] == name and str(one.info["cwd"]) == str(self.folder):
                return one
        raise NoNodeError(f"{name} of the cluster in {self.folder} does not run")

    def projected_token(self, uid: str) -> str:
        """The very token that the kubelet put into a running pod."""
        root = Path(f"/proc/{self.process('kubelet').pid}/root")
        volume = f"kubelet/pods/{uid}/volumes/kubernetes.io~projected/identity/token"
        return (root / str(self.folder / volume).lstrip("/")).read_text("ascii")

    @cached_property
    def ctr(self) -> list[str]:
        """The command that speaks to the node's containerd about images."""
        program = Path(self.process("containerd").exe()).with_name("ctr")
        return [str(program), "--address", str(self.folder / "containerd.sock"), "--namespace", "k8s.io", "images"]

    def load(self, archive: Path) -> str:
        """Import an OCI or Docker archive; the image's name."""
        with tarfile.open(archive) as outer:
            names = outer.getnames()
            if "index.json" in names:
                described = json.loads(outer.extractfile("index.json").read())["manifests"][0]
                name = described["annotations"]["io.containerd.image.name"]
            else:
                name = json.loads(outer.extractfile("manifest.json").read())[0]["RepoTags"][0]
        done = subprocess.run([*self.ctr, "import", str(archive)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return str(name)


def of_layers(name: str, layers: list[Path], target: Path) -> Path:
    """A Docker archive of uncompressed tars, each one layer, the lowest first (Docker image specification 1.2)."""
    with tarfile.open(target, "w") as outer, tempfile.TemporaryDirectory() as place:
        digests = []
        for number, layer in enumerate(layers):
            with layer.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
            outer.add(layer.resolve(), f"layer{number}.tar")
        config = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one}" for one in digests]},
        }
        described = [
            {
                "Config": "config.json",
                "RepoTags": [name],
                "Layers": [f"layer{number}.tar" for number in range(len(layers))],
            }
        ]
        for path, document in (("config.json", config), ("manifest.json", described)):
            written = Path(place, path)
            written.write_text(json.dumps(document))
            outer.add(written, path)
    return target


def runner_layer(target: Path) -> Path:
    """A layer with the stand-in for GitHub's runner program."""
    program = f"{Path(RUN_SH).parent}/runner.py"
    script = f'#!/bin/sh\nexec python3 -I -S {program} "$@"\n'.encode()
    source = (ROOT / "orchestrator/testing/github/runner.py").read_bytes()
    with tarfile.open(target, "w") as layer:
        for path, data, mode in ((RUN_SH, script, 0o755), (program, source, 0o644)):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(data), mode
            layer.addfile(entry, io.BytesIO(data))
    return target


def python_base(packages: Path) -> Path:
    """Debian with the packages that a file lists, as a tar; made on first use and kept beside the images.

    Raises:
        NoNodeError: it cannot be made here.
    """
    sys.path.insert(0, str(ROOT / "images"))
    from steps import base
    from steps.buildah import BuildError

    try:
        return base.root(packages, IMAGES)
    except BuildError as error:
        raise NoNodeError(str(error)) from None
    finally:
        sys.path.remove(str(ROOT / "images"))
