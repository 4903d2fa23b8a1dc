"""The drawing of a job's phases, made from the table that the engine obeys (`model/phase.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from itertools import count, pairwise

from orchestrator.model.phase import MOVES, Phase

_MEANINGS: Mapping[Phase, str] = {
    Phase.QUEUED: "policy is asked",
    Phase.WAITING: "for a place in the pool, with a reason",
    Phase.PROVISIONING: "its one runner is being made",
    Phase.BINDING: "the agent proves the denial and claims",
    Phase.RUNNING: "user code; the identity is worth something",
    Phase.TEARDOWN: "revoke, delete, look",
    Phase.FINISHED: "verified: nothing is left",
}

_LEFT, _BOX_WIDTH, _BOX_HEIGHT, _STEP, _TOP = 250, 320, 52, 92, 24
_WIDTH = 800
_LANE_GAP = 56
_STYLE = """
  .ground { fill: #ffffff } .box { fill: #eef3fb; stroke: #36527d; stroke-width: 1.5 }
  .line { fill: none; stroke: #36527d; stroke-width: 1.5 } .head { fill: #36527d }
  .name { font: 600 16px sans-serif; fill: #14223a } .note { font: 13px sans-serif; fill: #33435c }
  .event { font: 13px monospace; fill: #7a3b00 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #12161d } .box { fill: #1d2a3f; stroke: #8fb0e6 } .line { stroke: #8fb0e6 } .head { fill: #8fb0e6 }
    .name { fill: #f2f6fd } .note { fill: #c3cfe2 } .event { fill: #ffb870 }
  }
"""
_TIP = """<defs>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path class="head" d="M0 0 L8 4 L0 8 z"/></marker>
</defs>
"""
_ORDER = list(Phase)


def lifecycle_drawing() -> str:
    """The drawing as SVG. Phases run downwards; moves that skip or go back run in lanes at the sides."""
    height = _TOP * 2 + _STEP * (len(_ORDER) - 1) + _BOX_HEIGHT
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n',
        "<title>The phases of a job and the facts that move it</title>\n",
        f"<style>{_STYLE}</style>\n",
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>\n',
        _TIP,
        *(_box(phase) for phase in _ORDER),
        *_steps(),
        *_lanes(),
        "</svg>\n",
    ]
    return "".join(parts)


def _top(phase: Phase) -> int:
    return _TOP + _STEP * _ORDER.index(phase)


def _box(phase: Phase) -> str:
    top, middle = _top(phase), _LEFT + _BOX_WIDTH // 2
    return (
        f'<rect class="box" x="{_LEFT}" y="{top}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="8"/>\n'
        f'<text class="name" x="{middle}" y="{top + 21}" text-anchor="middle">{phase.value}</text>\n'
        f'<text class="note" x="{middle}" y="{top + 41}" text-anchor="middle">{escape(_MEANINGS[phase])}</text>\n'
    )


def _steps() -> Iterator[str]:
    """Moves to the next phase: straight down."""
    middle = _LEFT + _BOX_WIDTH // 2
    for phase, below in pairwise(_ORDER):
        names = [kind.__name__ for kind, target in MOVES[phase].items() if target is below]
        if names:
            start, end = _top(phase) + _BOX_HEIGHT, _top(below)
            yield f'<path class="line" marker-end="url(#tip)" d="M{middle} {start} V{end}"/>\n'
            yield f'<text class="event" x="{middle + 10}" y="{(start + end) // 2 + 5}">{" or ".join(names)}</text>\n'


def _lanes() -> Iterator[str]:
    """All other moves, one lane for each fact and its target: ends at the right, the rest at the left."""
    groups: dict[tuple[str, Phase], list[Phase]] = {}
    for phase, moves in MOVES.items():
        for kind, target in moves.items():
            if target is not phase and _ORDER.index(target) != _ORDER.index(phase) + 1:
                groups.setdefault((kind.__name__, target), []).append(phase)
    left, right = count(-1, -1), count(1)
    for (name, target), origins in groups.items():
        yield from _lane(name, target, origins, next(right if target is Phase.TEARDOWN else left))


def _lane(name: str, target: Phase, origins: list[Phase], number: int) -> Iterator[str]:
    """A line from each origin to the target's side; `number` counts lanes outwards, negative at the left."""
    side = _LEFT + _BOX_WIDTH if number > 0 else _LEFT
    x = side + number * _LANE_GAP
    entry = _top(target) + _BOX_HEIGHT // 2
    shift_down = 0 if number > 0 else 20 * -number - 30  # lanes at the left leave a box at heights of their own
    for origin in origins:
        exit_y = _top(origin) + _BOX_HEIGHT // 2 + shift_down
        yield f'<path class="line" d="M{side} {exit_y} H{x} V{entry}"/>\n'
    yield f'<path class="line" marker-end="url(#tip)" d="M{x} {entry} H{side}"/>\n'
    last = _top(origins[-1]) + _BOX_HEIGHT // 2
    anchor, shift = ("start", 8) if number > 0 else ("end", -8)
    middle = (2 * entry + last) // 3 + 4
    yield f'<text class="event" x="{x + shift}" y="{middle}" text-anchor="{anchor}">{name}</text>\n'
