# Plain calls show what is tried.
# ruff: noqa: PTH108, PTH114, PTH116, PTH118, PTH123, PTH208, SIM115
"""Runs inside a sandbox and tries to get out. Prints JSON: probe to what happened ("ok" or an errno name)."""

import ctypes
import errno
import fcntl
import json
import os
import resource
import socket
import sys
import threading

open_fds = [fd for fd in os.listdir("/proc/self/fd") if os.access(f"/proc/self/fd/{fd}", os.F_OK)]
CALLS = json.loads(os.environ["CALLS"])
HOST = json.loads(os.environ["HOST"])
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
results = {}


def attempt(name):
    def run(function):
        try:
            answer = function()
            results[name] = "ok" if answer is None else answer
        except OSError as error:
            results[name] = errno.errorcode.get(error.errno, str(error.errno))
        except ValueError as error:
            results[name] = f"ValueError {error}"

    return run


def call(number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(arg) for arg in args))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def write_to(path):
    with open(path, "r+") as file:
        old = file.read(64)
        file.seek(0)
        file.write(old)


def append_to(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as probe:
        probe.settimeout(3)
        probe.connect(address)


for path in (
    "/etc/shadow",
    "/root",
    "/home",
    "/sys/kernel",
    "/dev/mem",
    "/dev/kmsg",
    "/dev/sda",
    "/var/run/docker.sock",
):
    attempt(f"look {path}")(lambda path=path: os.stat(path) and None)
for path in HOST["hidden"]:
    attempt("look hidden")(lambda path=path: os.stat(path) and None)
for path in ("/usr/x", "/etc/x", "/x", "/run/orchestrator/x", "/dev/x", "/usr/bin/sh", "/proc/x", "/dev/pts/x"):
    attempt(f"make {path}")(lambda path=path: append_to(path))
for path in (
    "/etc/passwd",
    "/etc/resolv.conf",
    "/run/orchestrator/agent.pyc",
    "/run/orchestrator/bin/orchestrator-token",
):
    attempt(f"write {path}")(lambda path=path: append_to(path))
attempt("write token")(lambda: append_to("/run/orchestrator/token"))
attempt("unlink token")(lambda: os.unlink("/run/orchestrator/token"))
for path in (
    "kernel/core_pattern",
    "kernel/hostname",
    "vm/overcommit_memory",
    "user/max_user_namespaces",
    "kernel/ns_last_pid",
):
    attempt(f"sysctl {path}")(lambda path=path: write_to(f"/proc/sys/{path}"))
attempt("sysrq")(lambda: append_to("/proc/sysrq-trigger"))
attempt("kcore")(lambda: os.close(os.open("/proc/kcore", os.O_RDONLY)))
attempt("oom_score")(lambda: os.write(os.open("/proc/1/oom_score_adj", os.O_WRONLY), b"-1000") and None)
attempt("mknod")(lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0)))
attempt("setuid")(lambda: os.setuid(0))
attempt("setgroups")(lambda: os.setgroups([0]))
attempt("raise processes")(lambda: resource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6)))
attempt("nice")(lambda: os.nice(-5) and None)
attempt("sethostname")(lambda: socket.sethostname("mine"))
for name, number in CALLS["denied"].items():
    attempt(f"call {name}")(lambda number=number: call(number, 0, 0, 0, 0, 0, 0))
attempt("clone newuser")(lambda: call(CALLS["clone"], 0x10000000 | 17, 0, 0, 0, 0))
attempt("clone newnet")(lambda: call(CALLS["clone"], 0x40000000 | 17, 0, 0, 0, 0))
attempt("clone3")(lambda: call(435, 0, 0))
attempt("unknown call")(lambda: call(470, 0, 0))
attempt("x32 call")(lambda: call(0x40000000 | 39))
attempt("personality")(lambda: call(CALLS["personality"], 0x0040000))
attempt("personality ask")(lambda: call(CALLS["personality"], 0xFFFFFFFF))
for name, number in (("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541C), ("FIONREAD", 0x541B)):
    attempt(f"ioctl {name}")(lambda number=number: fcntl.ioctl(os.pipe()[0], number, b"\0" * 8) and None)
for name, family, kind, protocol in (
    ("packet", 17, socket.SOCK_RAW, 0),
    ("vsock", 40, socket.SOCK_STREAM, 0),
    ("alg", 38, 5, 0),
    ("key", 15, 3, 2),
    ("bluetooth", 31, 3, 1),
    ("xdp", 44, 3, 0),
    ("rds", 21, 5, 0),
    ("netfilter", 16, 3, 12),
    ("audit", 16, 3, 9),
    ("route", 16, 3, 0),
    ("raw", 2, 3, 1),
    ("raw6", 10, 3, 58),
    ("tcp", 2, 1, 0),
    ("udp6", 10, 2, 0),
    ("unix", 1, 1, 0),
):
    attempt(f"socket {name}")(lambda f=family, k=kind, p=protocol: socket.socket(f, k, p).close())
attempt("connect host loopback")(lambda: connect(socket.AF_INET, ("127.0.0.1", HOST["port"])))
attempt("connect host abstract")(lambda: connect(socket.AF_UNIX, "\0" + HOST["abstract"]))
attempt("connect outside")(lambda: connect(socket.AF_INET, ("192.0.2.1", 443)))
attempt("connect metadata")(lambda: connect(socket.AF_INET, ("169.254.169.254", 80)))
attempt("connect outside 6")(lambda: connect(socket.AF_INET6, ("2001:db8::1", 443)))
attempt("udp dns")(lambda: connect(socket.AF_INET, ("192.0.2.53", 53), socket.SOCK_DGRAM))


def _resolves():
    try:
        return bool(socket.getaddrinfo("example.com", 443))
    except socket.gaierror:
        return False


attempt("resolve")(lambda: "resolved" if _resolves() else "no")
attempt("interfaces")(lambda: ",".join(sorted(name for _, name in socket.if_nameindex())))
attempt("kill init")(lambda: os.kill(1, 9))
attempt("foreign processes")(lambda: str(len([p for p in os.listdir("/proc") if p.isdigit() and int(p) > 60])))
attempt("uid")(lambda: f"{os.getuid()} {os.geteuid()} {os.getgid()} {os.getgroups()}")
attempt("uid_map")(lambda: " ".join(open("/proc/self/uid_map").read().split()))
attempt("hostname")(lambda: socket.gethostname())
attempt("fds")(lambda: ",".join(sorted(fd for fd in open_fds if int(fd) > 2)))
attempt("own environ")(lambda: open("/proc/self/environ").read())
attempt("init environ")(lambda: open("/proc/1/environ").read())
attempt("init memory")(lambda: open("/proc/1/mem", "rb").close())
attempt("init fds")(lambda: os.listdir("/proc/1/fd"))
attempt("init argv")(lambda: open("/proc/1/cmdline").read())


@attempt("init trace")
def _():
    ctypes.set_errno(0)
    if libc.ptrace(16, 1, 0, 0) != 0:  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "")


attempt("no_new_privs")(lambda: next(x.split()[1] for x in open("/proc/self/status") if x.startswith("NoNewPrivs")))
attempt("caps")(lambda: ",".join(sorted({x.split()[1] for x in open("/proc/self/status") if x.startswith("Cap")})))
attempt("cgroup")(lambda: ",".join(sorted({x.strip().split(":")[2] for x in open("/proc/self/cgroup")})))
thread = threading.Thread(target=lambda: results.__setitem__("thread", "ok"))
thread.start()
thread.join()
child = os.fork()
if child == 0:
    os._exit(7)
attempt("fork")(lambda: str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
attempt("usr is read-only")(lambda: str(bool(os.statvfs("/usr").f_flag & os.ST_RDONLY)))
writable = []
for folder, folders, files in os.walk("/", topdown=True):
    if folder == "/":
        folders[:] = [name for name in folders if name not in ("proc", "usr")]
    if not os.path.islink(folder) and os.access(folder, os.W_OK):
        writable.append(folder)
    for name in files:
        path = os.path.join(folder, name)
        if not os.path.islink(path) and not path.startswith("/dev/") and os.access(path, os.W_OK):
            writable.append(path)
results["writable"] = [path for path in writable if not path.startswith("/job/")]
json.dump(results, sys.stdout)
