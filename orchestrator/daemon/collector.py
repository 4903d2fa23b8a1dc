"""The cycle collector, set for a program that makes a great deal at its start and short-lived things ever after."""

from __future__ import annotations

import gc

_NEW_OBJECTS = 10_000
"""Containers made, less those freed, before the collector looks at the new ones. Almost all of ours go by themselves;
those of a job under way would be looked at again and again, as each look finds the jobs of that moment."""


def spare_the_loop() -> None:
    """Never look again at what is there now: a quarter of a million objects, modules and their classes, which a full
    collection went through for a tenth of a second, with every job waiting. To be called once, when all rooms are open.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
