"""The launcher: the one process that forks sandboxes. Standard library only, single-threaded, no asyncio.

It is a process of its own because forking from a large daemon is slow and gets slower as it grows,
because a parent-death signal follows the forking *thread*, and because joining a namespace changes the
whole process that does it.
"""
