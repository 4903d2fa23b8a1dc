"""Tries to set the clock that deadlines and tokens go by. Prints JSON."""

import ctypes
import json
import os
import time

results = {}
libc = ctypes.CDLL(None, use_errno=True)


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def outcome(name, code):
    results[name] = "SET" if code == 0 else os.strerror(ctypes.get_errno())


before = time.time()
ctypes.set_errno(0)
outcome("clock_settime", libc.clock_settime(0, ctypes.byref(Timespec(int(before) - 86400, 0))))
ctypes.set_errno(0)
outcome("settimeofday", libc.settimeofday(ctypes.byref(Timespec(int(before) + 86400, 0)), None))
try:
    os.unshare(0x80)  # CLONE_NEWTIME
    results["a time namespace"] = "SET"
except (OSError, AttributeError) as error:
    results["a time namespace"] = str(error)
results["moved"] = abs(time.time() - before) > 60
print(json.dumps(results))
