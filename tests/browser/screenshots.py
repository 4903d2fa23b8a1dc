"""The pictures of the live page in `docs/pictures`, of a real daemon with real jobs: `make screenshots`.

Sources are those of the stand-in for GitHub. Names are chosen; everything else is what the daemon made of it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page
from sight import PHONE, Sight, launched
from stage import GITHUB, UNFINISHED, Stage

from orchestrator.testing.ports import free_port

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
DESKTOP = (1120, 760)
MOST_BYTES = 150_000
SLOW = """echo '+ npm ci'; sleep 2; echo 'added 812 packages'
echo '+ npm test'
for n in $(seq 1 400); do echo "ok $n"; sleep 2; done"""


@contextmanager
def github(folder: Path) -> Iterator[dict[str, Any]]:
    """A stand-in for GitHub with a few jobs for the label `linux`; settings of the daemon for it."""
    port = str(free_port())
    key = folder / "app.pem"
    program = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.testing.github", "--port", port, "--runner-url", f"http://{GITHUB}:{port}",
         "--label", "linux", "--jobs", "3", "--key-file", str(key), "--runner-folder", str(folder / "runner")],
        stdout=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    assert program.stdout is not None
    told: dict[str, str] = {}
    while "runner" not in told:
        name, _, value = program.stdout.readline().strip().partition("  ")
        told[name.strip()] = value.strip()
    app = dict(part.split("=") for part in told["app"].split())
    host = {"host": GITHUB, "port": int(port), "protocol": "http"}
    toolchain = {"toolchain": [str(Path(told["runner"]).parent)]}
    source = {
        "name": "acme", "url": told["scale sets"], "hosts": [host],
        "app": {**app, "installation_id": int(app["installation_id"]), "private_key_file": str(key)},
        "scale_sets": [{"name": "linux", "pool": "linux", "runner_command": [told["runner"]]}],
    }  # fmt: skip
    try:
        yield {
            "github": [source],
            "more_pools": [{"name": "linux", "capacity": 3, "egress": [host], "sandbox": toolchain}],
        }
    finally:
        program.terminate()
        program.wait(20)


def play(stage: Stage) -> dict[str, str]:
    """Jobs as a busy afternoon has them; ids by what is shown of them."""
    about = {"pipeline": "acme/shop main"}
    shown = {"job": stage.run("release v4.2.0", stage.release, **about)}
    for name in ("lint", "unit tests", "docs"):
        stage.run(name, "echo ok", **about)
    stage.run("integration (postgres)", "echo 'not ok 61 parses a date'; exit 1", pipeline="acme/shop pull 118")
    shown["refused"] = stage.run("deploy production", pool="deploy", deployment_environment="production", **about)
    stage.cancel(cancelled := stage.dispatch("nightly fuzzing", UNFINISHED))
    stage.reached(cancelled, "finished")
    stage.ask_for_exception()
    shown["running"] = stage.dispatch("unit tests (node 22)", SLOW, **about)
    for name in ("unit tests (node 20)", "build images"):
        stage.dispatch(name, SLOW, pipeline="acme/shop pull 121")
    stage.reached(
        stage.dispatch("deploy staging", SLOW, "deploy", deployment_environment="staging", **about), "running"
    )
    holder = stage.dispatch("untrusted: pull 121 from a fork", SLOW, "narrow")
    stage.reached(holder, "running")
    for number in range(122, 129):
        stage.dispatch(f"untrusted: pull {number} from a fork", SLOW, "narrow")
    stage.reached(shown["running"], "running")
    return shown


def keep(page: Page, name: str) -> None:
    """One picture, not too large for a repository."""
    picture = page.screenshot(animations="disabled")
    sys.stdout.write(f"page-{name}.png  {len(picture) // 1000} kB\n")
    if len(picture) > MOST_BYTES:
        raise SystemExit(f"page-{name}.png has {len(picture)} bytes; the bound is {MOST_BYTES}")
    (PICTURES / f"page-{name}.png").write_bytes(picture)


def settled(sight: Sight) -> None:
    sight.live()
    sight.page.get_by_text("Loading…").first.wait_for(state="hidden")
    time.sleep(1.2)  # the second in which ages and meters come to rest


LOOKS = (("", DESKTOP, "light"), ("-dark", DESKTOP, "dark"), ("-phone", PHONE, "light"), ("-phone-dark", PHONE, "dark"))


def sights(browser: Browser, stage: Stage, faults: list[str]) -> Iterator[tuple[str, Sight]]:
    """The page in each size and theme, one after the other."""
    for suffix, size, theme in LOOKS:
        sight = Sight(browser, stage, size=size, theme=theme, timezone_id="UTC", locale="en-GB")
        yield suffix, sight
        sight.close()
        faults += sight.faults


def main() -> int:
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="screenshots-") as name, launched() as browser:
        folder, gate = Path(name), Path(name) / "gate"
        gate.mkdir()
        way = {"name": "corp", "label": "Corporate account", "issuer": "https://idp.example", "client_id": "page"}
        way |= {"viewer": [{"groups": "engineering"}]}
        with Stage(gate, page={"anonymous": "never", "providers": [way]}) as stage:
            for suffix, sight in sights(browser, stage, faults):
                sight.page.goto(stage.url)
                sight.page.get_by_role("link", name="Corporate account").wait_for()
                keep(sight.page, f"sign-in{suffix}")
        with github(folder) as settings, Stage(folder, **settings) as stage:
            shown = play(stage)
            views = {view: view for view in ("jobs", "activity", "pools", "sources", "approvals")}
            views |= {"overview": ""} | {about: f"jobs/{job_id}" for about, job_id in shown.items()}
            for suffix, sight in sights(browser, stage, faults):
                sight.sign_in()
                for view, route in views.items():
                    sight.turn(route)
                    settled(sight)
                    keep(sight.page, view + suffix)
    return 1 if faults and sys.stderr.write("\n".join(faults) + "\n") else 0


if __name__ == "__main__":
    sys.exit(main())
