"""The page's own files: whole, small, without markup from text, and with a word for everything that a job can be."""

from __future__ import annotations

import re

import pytest

from orchestrator.model.events import WaitReason
from orchestrator.model.outcome import Result
from orchestrator.model.phase import Phase
from orchestrator.server.page.activity import Kind
from orchestrator.server.page.files import CONTENT_SECURITY_POLICY, FOLDER, INDEX, load

FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir())}
NAMED = re.compile(r'"/page/([a-z.-]+)"')
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\(|Function\("
)
INLINE = re.compile(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=", re.IGNORECASE)
ELSEWHERE = re.compile(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", re.IGNORECASE)


def test_every_file_is_served_and_needed():
    assert FILES.keys() == load().keys()
    reached, ahead = set(), [INDEX]
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += NAMED.findall(FILES[name])
    assert reached == FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_short_and_makes_no_markup_from_text(name):
    text = FILES[name].replace("http://www.w3.org", "")  # the name of SVG
    assert len(text.splitlines()) <= 300
    assert MARKUP.findall(text) == []
    assert ELSEWHERE.findall(text) == []
    if name.endswith(".html"):
        assert INLINE.findall(text) == []


def test_the_policy_lets_nothing_inline_and_nothing_from_elsewhere():
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY
    assert "*" not in CONTENT_SECURITY_POLICY


def words_of(table: str) -> set[str]:
    """The names in a table of `words.js`."""
    found = re.search(rf"export const {table} = (\{{.*?\}});", FILES["words.js"], re.DOTALL)
    assert found is not None
    return set(re.findall(r"(?:^|[{,])\s*([a-z_]+):", found[1], re.MULTILINE))


def test_there_is_a_word_for_everything():
    assert words_of("PHASE_WORDS") == set(Phase)
    assert words_of("PHASE_MEANING") == set(Phase) - {Phase.FINISHED}
    assert words_of("RESULT_WORDS") == set(Result)
    assert words_of("WAIT_WORDS") == set(WaitReason)
    assert words_of("KINDS") == set(Kind)


def test_there_is_a_colour_and_a_picture_for_everything():
    tones = set(re.findall(r'\[data-tone="([a-z]+)"\]', FILES["parts.css"]))
    pictures = set(re.findall(r"^  ([a-z]+): \"", FILES["dom.js"], re.MULTILINE))
    assert {*Phase, *Result, *Kind} <= tones
    assert {*Phase, *Result, *Kind} <= pictures
    colours = re.findall(r"--tone: var\((--[a-z]+)\)", FILES["parts.css"])
    assert colours
    for colour in colours:
        assert re.search(rf"^  {colour}: light-dark\(", FILES["base.css"], re.MULTILINE), colour
