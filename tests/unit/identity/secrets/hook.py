"""An owner's program: `hook.py FOLDER`. The folder's `works.json` has the values that open the place.

`how` may hold words: *own* prints a value of its own, *one* has room for one only, *fail* ends with code 3 before
anything is done, *after* ends so when all is done, *much* prints without end, *short* prints a value that is too short,
*noise* writes all it knows on standard error, *sleep* does not end. With *before* and *behind* it says in a file of
that name that it is about to change the place, or has, and waits for the file `open`.
"""

import json
import os
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])


def read(name: str) -> str:
    return (folder / name).read_text() if (folder / name).exists() else ""


def write(name: str, text: str) -> None:
    (folder / f"{name}.tmp").write_text(text)
    (folder / f"{name}.tmp").rename(folder / name)


def gate(name: str) -> None:
    write(name, str(os.getpid()))
    while not (folder / "open").exists():
        time.sleep(0.005)


given = json.load(sys.stdin)
how = read("how").split()
with (folder / "asked").open("a") as log:
    log.write(json.dumps({**given, "environment": sorted(os.environ)}) + "\n")
if "noise" in how:
    print(given, file=sys.stderr)
if "fail" in how:
    sys.exit(3)
if "much" in how:
    print("x" * 200_000)
if "sleep" in how:
    time.sleep(600)
if "before" in how:
    gate("before")
works = json.loads(read("works.json"))
printed = ""
if given["step"] == "make":
    new = f"own-value-{len(works)}-{given['rotation']}" if "own" in how else given["proposed"]
    printed = new if "own" in how else ""
    works = [new] if "one" in how else [*(one for one in works if one != new), new]
elif given["step"] == "finish":
    works = [one for one in works if one != given["old"]]
else:
    works = [one for one in works if one != given["current"]]
write("works.json", json.dumps(works))
if "behind" in how:
    gate("behind")
if "after" in how:
    sys.exit(3)
print("short" if "short" in how else printed)
