"""The page on static secrets: its hook does what the page says, and its settings are fit."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs/how-to/retire-static-secrets.md").read_text("utf-8")
ADMIN = """#!/bin/sh
printf '%s %s ' "$1" "$2" >> "$HOME/told"; cat >> "$HOME/told"; echo >> "$HOME/told"; echo noise
"""


@pytest.fixture
def hook(tmp_path):
    [script] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for name, text in (("hook", script), ("registry-admin", ADMIN)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(**given):
        environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin"}
        done = subprocess.run(
            [tmp_path / "hook"], input=json.dumps(given), env=environment, capture_output=True, text=True, timeout=20
        )
        return done.returncode, done.stdout, (tmp_path / "told").read_text().splitlines()

    return run


def test_its_hook_does_the_three_steps_and_prints_nothing(hook):
    assert hook(step="make", current="old", proposed="new", rotation="r") == (0, "", ["add --stdin new"])
    assert hook(step="finish", old="old", current="new") == (0, "", ["add --stdin new", "drop --stdin old"])
    code, said, told = hook(step="remove", current="new")
    assert (code, said, told[-1]) == (0, "", "drop --stdin new")
