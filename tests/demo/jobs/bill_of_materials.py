"""The locked run-time dependencies as a CycloneDX 1.6 bill of materials, on standard output."""

import json
import re
import sys
from pathlib import Path

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def main() -> None:
    pins = PIN.findall(Path(sys.argv[1]).read_text(encoding="utf-8"))
    components = [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
        for name, version in pins
    ]
    if not components:
        sys.exit("no pinned requirement found")
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}
    json.dump(document, sys.stdout, indent=1)


main()
