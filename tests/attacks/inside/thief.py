"""Looks for anybody's credentials but its own: environment, files, memory, sockets. Prints JSON of what it found."""

import ctypes
import errno
import json
import os
import sys

MARK = b"victims-own-" + b"mark"
mine = open(os.environ["ORCHESTRATOR_TOKEN_FILE"], "rb").read().strip()
found, refused = [], []
libc = ctypes.CDLL(None, use_errno=True)


def tried(name, act):
    try:
        act()
    except OSError as error:
        refused.append(f"{name}: {errno.errorcode.get(error.errno, error.errno)}")
    else:
        found.append(name)


def attach(pid):
    ctypes.set_errno(0)
    if libc.ptrace(16, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def peek(pid):
    local = ctypes.create_string_buffer(16)

    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    ours = Vector(ctypes.cast(local, ctypes.c_void_p), 16)
    theirs = Vector(ctypes.c_void_p(0x400000), 16)
    ctypes.set_errno(0)
    if libc.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")


# The agent, process 1, had everything the job's start needed.
tried("memory of the agent", lambda: open("/proc/1/mem", "rb").read(1))
tried("environment of the agent", lambda: open("/proc/1/environ", "rb").read())
tried("trace of the agent", lambda: attach(1))
tried("vm_readv of the agent", lambda: peek(1))

processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]
for pid in processes:
    try:
        if pid != os.getpid() and MARK in open(f"/proc/{pid}/environ", "rb").read():
            found.append(f"the victim's process {pid}")
    except OSError:
        continue

seen = 0
for top in ("/tmp", "/dev/shm", "/run", "/var", "/home", "/root", "/etc", "/job", os.getcwd()):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if os.path.isfile(path) and os.path.getsize(path) < 1 << 20:
                    seen += 1
                    text = open(path, "rb").read()
            except OSError:
                continue
            if os.path.isfile(path) and MARK in text:
                found.append(path)

with open("/proc/net/unix") as sockets:
    strangers = [line.split()[-1] for line in sockets.readlines()[1:] if line.split()[-1].startswith(("@", "/"))]
found += [f"socket {name}" for name in strangers]

environment = open("/proc/self/environ", "rb").read()
if mine in environment or b"ey" + b"J" in environment:
    found.append("a credential in the environment")
print(json.dumps({"found": found, "refused": refused, "processes": len(processes), "files": seen}))
sys.exit(0)
