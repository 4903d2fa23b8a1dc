"""Looks for what an earlier job has left: files, processes, its own traces. Prints JSON."""

import json
import os

PLANTED = "planted-by-an-" + "earlier-job"
HOME = os.path.expanduser("~")
found = []
for top in ("/", "/tmp", "/var", "/dev/shm", "/run", "/job", "/etc", "/opt", HOME, os.getcwd()):
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys", "/usr")]
        found += [os.path.join(folder, name) for name in names if name == PLANTED]
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if PLANTED.encode() in open(f"/proc/{pid}/cmdline", "rb").read():
            found.append(f"process {pid}")
    except OSError:
        continue
here = sorted(name for name in os.listdir(os.getcwd()) if name != ".job.sh")
print(json.dumps({"found": sorted(set(found)), "here": here}))
