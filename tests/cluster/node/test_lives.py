"""Daemons and API servers that end while pods run: each job ends once, with the right code and all of its output."""

from __future__ import annotations

import http.client
import json
import signal

import pytest
from product import HELD, Product

from orchestrator.testing.ports import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.node, pytest.mark.timeout(240)]

LINES = 60
TALK = f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); sleep 0.1; done; {HELD}; exit 3"
"""Six seconds of output at least, and no end before it is let go."""


def whole(product: Product, job: str) -> None:
    """The job runs once, to its own end, and every line of it is here once."""
    product.let_go(product.pod_of(job))
    found = product.finished(job)
    assert (found["result"], found["exit_code"]) == ("failure", 3), (found, product.log)
    assert product.output(job).splitlines() == [f"line {number}" for number in range(LINES)]
    assert found["alarms"] == []
    assert found["leftovers"] == []
    product.until(lambda: not product.left())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
def test_the_next_daemon_finishes_what_runs(product: Product, number: signal.Signals):
    job = product.submit("shell", TALK)
    product.says(job, "line 10")
    uid = product.job(job)["runner"]["uid"]
    code = product.end(number)
    assert code == (0 if number is signal.SIGTERM else -number)
    (pod,) = product.pods_of("shell")
    assert (pod["metadata"]["uid"], pod["status"]["phase"]) == (uid, "Running"), "it goes on without a daemon"
    product.start()
    assert product.job(job)["runner"]["uid"] == uid
    whole(product, job)


def test_a_pod_that_ended_while_no_daemon_looked(product: Product):
    job = product.submit("shell", f"echo begun; {HELD}; echo over; exit 3")
    product.says(job, "begun")
    pod = product.pod_of(job)
    product.end(signal.SIGKILL)
    product.let_go(pod)
    product.until(lambda: product.pods_of("shell")[0]["status"]["phase"] == "Failed")
    product.start()
    found = product.finished(job)
    assert (found["result"], found["exit_code"]) == ("failure", 3), found
    assert product.output(job) == "begun\nover\n"


def test_a_standby_takes_over_from_a_killed_leader(product: Product):
    job = product.submit("shell", f"echo begun; {HELD}; exit 3")
    product.says(job, "begun")
    leader = product.daemons[-1]
    product.port = free_port()
    standby = product.start(ready=False)
    product.until(lambda: waits(product.port) or standby.poll() is not None, 30)
    assert standby.poll() is None, product.log
    leader.kill()
    leader.wait()
    product.until(lambda: product._leads(standby), 60)
    product.let_go(product.pod_of(job))
    found = product.finished(job)
    assert (found["result"], found["exit_code"]) == ("failure", 3), (found, product.log)
    assert standby.poll() is None
    again = product.submit("shell", "exit 0")
    assert product.finished(again)["result"] == "success"


def waits(port: int) -> bool:
    """Whether a daemon says that another one leads."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status == 503 and "leads" in json.loads(answer.read())["checks"]["leader"]
    except OSError:
        return False
    finally:
        connection.close()


def renewed(product: Product) -> str:
    """When the leader last renewed its Lease: RFC 3339 in UTC, which sorts as it is. Empty when nobody answers."""
    name = f"orchestrator-{product.installation}"
    path = f"/apis/coordination.k8s.io/v1/namespaces/{product.namespace}/leases/{name}"
    try:
        status, lease = product.node.admin.ask("GET", path)
    except OSError:
        return ""
    return lease["spec"]["renewTime"] if status == 200 else ""


def test_an_api_server_that_dies_in_the_middle_costs_nothing(product: Product, restart):
    job = product.submit("shell", TALK)
    product.says(job, "line 5")
    before = renewed(product)
    restart("kube-apiserver", 3)
    daemon = product.daemons[-1]
    product.until(lambda: daemon.poll() is not None or renewed(product) > before, 60)
    if daemon.poll() is not None:
        # The server took longer to come back than a Lease may go without renewal: the Deployment starts us again.
        assert "Lease" in product.log
        product.start()
    whole(product, job)
    assert product.daemons[-1].poll() is None
    again = product.submit("shell", "echo again")
    assert product.finished(again)["result"] == "success"
