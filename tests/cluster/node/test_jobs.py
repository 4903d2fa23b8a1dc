"""Jobs that truly run: what comes back of them, each way that they end, and what they can see and reach."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator

import pytest
from node import PYTHON
from product import ALLOWED, Product, installed

from orchestrator.backends.kubernetes.config import AGENT_UID, JOB_UID

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(240)]

LINES = 3000
MISSING = "runner.local/nobody-has-this:1"
PROBE = r"""
import json, os, socket, sys, urllib.error, urllib.request

def fetch(url):
    try:
        with urllib.request.build_opener().open(url, timeout=10) as answer:  # reads the environment anew
            return answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code

def connect(host, port):
    try:
        socket.create_connection((host, port), 3).close()
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return type(error).__name__
    return "connected"

allowed, node, port, api, other = sys.argv[1:]
through = {name: fetch(url) for name, url in {
    "allowed": f"http://{allowed}:{port}/by-the-gateway", "forbidden": f"http://forbidden.example:{port}/no",
    "by address": "http://192.0.2.7/no", "other port": f"http://{allowed}:1/no"}.items()}
proxy = os.environ.pop("http_proxy")
os.environ["http_proxy"] = "http://runner:wrong@" + proxy.rpartition("@")[2]
through["wrong credential"] = fetch(f"http://{allowed}:{port}/no")
os.environ["http_proxy"] = "http://" + proxy.rpartition("@")[2]
through["no credential"] = fetch(f"http://{allowed}:{port}/no")
directly = {"witness": connect(node, int(port)), "API server": connect(api, 443), "another pod": connect(other, 3128),
            "metadata": connect("169.254.169.254", 80), "outside": connect("192.0.2.1", 443)}
try:
    directly["name"] = socket.getaddrinfo(allowed, 80)
except OSError as error:
    directly["name"] = type(error).__name__
print(json.dumps([through, directly]))
"""


@pytest.fixture(scope="module")
def site(described, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One installation for all tests here; each has jobs of its own."""
    pools = {
        "shell": {},
        "python": {"kubernetes": {"image": PYTHON}},
        "nowhere": {"kubernetes": {"image": MISSING}},
        "tiny": {"kubernetes": {"ephemeral_storage": "128Ki"}},
        "closed": {"trust_tier": "untrusted", "egress": []},
    }
    with installed(described(tmp_path_factory.mktemp("site"), pools)) as made:
        yield made


def test_the_log_arrives_complete_and_the_exit_code_is_the_jobs(site: Product):
    script = (
        f'echo "$GREETING"; i=0; while [ $i -lt {LINES} ]; do echo "line $i"; i=$((i+1)); done; '
        'head -c 40000 /dev/zero | tr "\\0" x; echo; echo "to the other stream" >&2; exit 7'
    )
    job = site.submit("shell", script, environment={"GREETING": "it's\nhere: $HOME ü"})
    found = site.finished(job)
    assert (found["result"], found["reason"], found["exit_code"]) == ("failure", "exit_nonzero", 7), found
    begin = "\n".join(["it's", "here: $HOME ü", *(f"line {number}" for number in range(LINES)), ""])
    output = site.output(job)
    # Container runtimes copy the two streams side by side and log a long line in pieces: only the order within a stream
    # is kept, so the other stream's line may stand anywhere.
    assert output.count("to the other stream\n") == 1
    assert output.replace("to the other stream\n", "") == begin + "x" * 40000 + "\n"
    assert found["leftovers"] == []
    assert found["alarms"] == []


@pytest.mark.parametrize(
    ("script", "result", "reason", "code"),
    [
        ("true", "success", "completed", 0),
        ("sh -c 'kill -SEGV $$'", "failure", "killed_by_signal", 139),
        ("tail /dev/zero", "error", "out_of_memory", 137),
        ("no-such-command", "failure", "exit_nonzero", 127),
    ],
)
def test_an_end_is_told_by_its_cause(site: Product, script, result, reason, code):
    found = site.finished(site.submit("shell", script))
    assert (found["result"], found["reason"], found["exit_code"]) == (result, reason, code), found
    site.until(lambda: found["runner"]["uid"] not in [pod["metadata"]["uid"] for pod in site.pods_of("shell")])


def test_a_job_that_takes_too_long_is_ended(site: Product):
    job = site.submit("shell", "trap '' TERM; echo begun; sleep 600 & wait", timeout_seconds=5)
    found = site.finished(job)
    assert (found["result"], found["reason"]) == ("timeout", "run_timeout"), found
    assert site.output(job) == "begun\n"
    site.until(lambda: not site.pods_of("shell"))


def test_a_cancelled_job_ends_at_once(site: Product):
    job = site.submit("shell", "echo begun; sleep 600")
    site.says(job, "begun")
    site.cancel(job)
    found = site.finished(job)
    assert (found["result"], found["reason"]) == ("cancellation", "cancelled"), found
    assert site.pods_of("shell") == []


def test_what_policy_denies_gets_no_pod(site: Product):
    found = site.finished(site.submit("shell", "true", deployment_environment="prod"))
    assert (found["result"], found["reason"], found["runner"]) == ("denied", "policy_denied", None), found


def test_an_image_that_cannot_be_pulled_is_the_reason(site: Product):
    job = site.submit("nowhere", "true")
    site.until(lambda: (site.job(job)["wait"] or {}).get("reason") == "image_pull" or site.job(job)["result"])
    found = site.finished(job)
    assert (found["result"], found["reason"]) == ("error", "image_pull_failed"), found
    assert MISSING in found["message"]
    site.until(lambda: not site.pods_of("nowhere"))


def test_a_pod_that_was_put_out_says_so(site: Product):
    """The kubelet evicts a pod that uses more of the machine's disk than it asked for: here, by its log."""
    job = site.submit("tiny", "i=0; while [ $i -lt 20000 ]; do echo line $i of many; i=$((i+1)); done; sleep 600")
    found = site.finished(job, 150)
    assert (found["result"], found["reason"]) == ("error", "runner_evicted"), found


def test_a_pod_that_somebody_deletes_says_so(site: Product):
    job = site.submit("shell", "echo begun; sleep 600")
    site.says(job, "begun")
    pod = site.pod_of(job)["metadata"]["name"]
    site.node.admin.call("DELETE", f"{site.pods(site.pool_namespace('shell'))}/{pod}", {"gracePeriodSeconds": 0})
    found = site.finished(job)
    assert (found["result"], found["reason"]) == ("error", "runner_deleted"), found


def test_job_and_agent_are_apart_and_neither_has_a_right_of_the_machine(site: Product):
    script = """
    id -u; stat -c %u /run/orchestrator/job.sh; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
    for place in /run/orchestrator/job.sh /run/orchestrator/planted /etc/planted /planted; do
        (echo planted >> $place) 2>&1 | sed 's/.*: //'
    done
    ls /proc | grep -c '^[0-9]' ; cat /proc/1/cmdline | tr '\\0' ' '; echo
    ls /run/orchestrator-identity; ls /var/run/secrets 2>&1 | sed 's/.*: //'
    env | grep -c '^KUBERNETES_SERVICE_TOKEN' || true
    """
    job = site.submit("shell", script)
    found = site.finished(job)
    assert found["result"] == "success", (found, site.output(job))
    lines = site.output(job).splitlines()
    assert lines[:2] == [str(JOB_UID), str(AGENT_UID)]
    status = dict(line.split(":\t") for line in lines[2:6])
    assert status == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert lines[6] in ("Permission denied", "Read-only file system")
    assert lines[7:10] == ["Read-only file system"] * 3
    assert int(lines[10]) <= 6, "only the job's own processes"
    assert "orchestrator" not in lines[11].replace("/run/orchestrator", ""), lines[11]
    assert lines[12:] == ["token", "No such file or directory", "0"]


def test_the_token_is_good_once_and_only_here(site: Product):
    """The very file that the kubelet wrote: the runner API knows its pod, the API server refuses it."""
    job = site.submit("shell", "echo begun; sleep 600")
    site.says(job, "begun")
    uid = site.job(job)["runner"]["uid"]
    token = site.node.projected_token(uid)
    stranger = type(site.node.admin)(site.node.admin.url, site.node.admin.ca, token)
    assert stranger.ask("GET", "/api/v1/namespaces/default/pods")[0] == 401
    assert stranger.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})[0] == 401
    assert claim(site, token) == (409, "already_bound")
    alarms = site.job(job)["alarms"]
    assert [one["alarm"] for one in alarms] == ["second_claim"], alarms
    assert claim(site, token[:-4] + "AAAA") == (401, "runner_unknown")
    site.cancel(job)
    site.finished(job)
    assert claim(site, token) == (401, "runner_unknown"), "the record knows at once"


def claim(site: Product, token: str) -> tuple[int, str]:
    """Status and reason of a claim at the daemon's own listener, whose certificate names the node's address."""
    trust = ssl.create_default_context(cafile=str(site.state / "runner-api-ca.pem"))
    connection = http.client.HTTPConnection(site.node.address, site.runner_port)
    plain = socket.create_connection(("127.0.0.1", site.runner_port), 30)
    connection.sock = trust.wrap_socket(plain, server_hostname=site.node.address)
    body = json.dumps({"proof": {"denied": ["all"], "reached": []}})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/runner/v1/claim", body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()).get("reason", "")
    finally:
        connection.close()


def test_the_gateway_is_the_only_way_out(site: Product, witness):
    (gateway,) = site.addresses[site.gateway_host]
    before = len(witness.visits)
    words = f"{ALLOWED} {site.node.address} {witness.port} 10.96.0.1 {gateway}"
    script = f"cat > probe.py <<'END'\n{PROBE}\nEND\npython3 probe.py {words}"
    job = site.submit("python", script)
    found = site.finished(job)
    assert found["result"] == "success", (found, site.output(job))
    through, directly = json.loads(site.output(job).splitlines()[-1])
    assert through == {
        "allowed": "welcome", "forbidden": 403, "by address": 403, "other port": 403,
        "wrong credential": 407, "no credential": 407,
    }  # fmt: skip
    assert directly == {
        "witness": "timeout", "API server": "timeout", "another pod": "connected", "metadata": "timeout",
        "outside": "timeout", "name": "gaierror",
    }  # fmt: skip
    visits = witness.visits[before:]
    assert [visit.path for visit in visits] == ["/by-the-gateway"]
    assert visits[0].client == gateway
    assert "proxy-authorization" not in visits[0].headers
    site.until(lambda: len(site.job(job)["egress"]) >= 4)
    verdicts = {(one["host"], one["allowed"]) for one in site.job(job)["egress"]}
    assert {(ALLOWED, True), ("forbidden.example", False)} <= verdicts
    trace = json.dumps(site.call("GET", f"/v1/jobs/{job}/trace"))
    assert "forbidden.example" in trace
    assert ALLOWED in trace


def test_two_runners_cannot_reach_each_other(site: Product):
    """Neither the agent's nor the job's ports: nobody reaches a runner."""
    listening = site.submit("shell", "echo begun; nc -l -p 9000 -e echo reached & sleep 60")
    site.says(listening, "begun")
    address = site.pod_of(listening)["status"]["podIP"]
    script = f"nc -w 3 {address} 9000 </dev/null 2>/dev/null && echo reached || echo refused"
    for pool in ("shell", "closed"):
        knocking = site.submit(pool, script)
        assert site.finished(knocking)["result"] == "success"
        assert site.output(knocking) == "refused\n"
    site.cancel(listening)
    site.finished(listening)


def test_without_its_network_policies_a_pool_starts_no_job(site: Product, witness):
    """The agent's own proof fails, whatever the guards say: no work is handed out."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{site.pool_namespace('closed')}/networkpolicies"
    policies = site.node.admin.call("GET", path)["items"]
    assert policies
    for one in policies:
        site.node.admin.call("DELETE", f"{path}/{one['metadata']['name']}")
    job = site.submit("closed", "echo never")
    found = site.finished(job, 120)
    assert (found["result"], found["reason"]) == ("error", "egress_unproven"), found
    assert "10.96.0.1" in found["message"]
    assert site.output(job) == ""
    for one in policies:
        metadata = {key: one["metadata"].get(key, {}) for key in ("name", "labels")}
        site.node.admin.call("POST", path, {"metadata": metadata, "spec": one["spec"]})
    again = site.submit("closed", "echo now")
    assert site.finished(again)["result"] == "success"
    assert site.output(again) == "now\n"


def test_a_pod_that_belongs_to_no_job_is_swept(site: Product):
    """A runner that a lost daemon may have left: marked as ours, known to nobody."""
    space = site.pool_namespace("shell")
    job = site.submit("shell", "echo begun; sleep 600")
    site.says(job, "begun")
    ours = site.pod_of(job)
    spec = {
        key: ours["spec"][key]
        for key in ("serviceAccountName", "automountServiceAccountToken", "securityContext", "restartPolicy")
    }
    container = {key: ours["spec"]["containers"][0][key] for key in ("name", "image", "resources", "securityContext")}
    spec["containers"] = [{**container, "command": ["sleep", "600"]}]
    metadata = {"name": "runner-0123456789abcdef", "labels": ours["metadata"]["labels"]}
    orphan = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    foreign = {**orphan, "metadata": {"name": "foreign", "labels": {"app.kubernetes.io/managed-by": "somebody"}}}
    for one in (orphan, foreign):
        site.node.admin.call("POST", site.pods(space), one)
    site.until(lambda: "runner-0123456789abcdef" not in [pod["metadata"]["name"] for pod in site.pods_of("shell")], 60)
    names = [pod["metadata"]["name"] for pod in site.pods_of("shell")]
    assert "foreign" in names, "what is not ours is left alone"
    assert ours["metadata"]["name"] in names
    site.cancel(job)
    site.finished(job)
    site.node.admin.call("DELETE", f"{site.pods(space)}/foreign", {"gracePeriodSeconds": 0})


def test_at_the_end_nothing_is_left(site: Product):
    site.until(lambda: not site.left(), 60)
