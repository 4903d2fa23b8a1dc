"""Writes wherever it can, for whoever comes later, and leaves a process behind. Prints JSON of where it could."""

import json
import os
import subprocess
import sys

PLANTED = "planted-by-an-earlier-job"
written = []
for top in ("/", "/usr", "/usr/local", "/etc", "/opt", "/var", "/var/tmp", "/tmp", "/dev/shm", "/run", "/job",
            "/run/orchestrator", os.path.expanduser("~"), os.getcwd()):  # fmt: skip
    path = os.path.join(top, PLANTED)
    try:
        with open(path, "w") as file:
            file.write(PLANTED)
        written.append(path)
    except OSError:
        continue
subprocess.Popen(
    ["sh", "-c", f"exec -a {PLANTED} sleep 300"], start_new_session=True, stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)  # fmt: skip
print(json.dumps({"written": written}))
sys.stdout.flush()
