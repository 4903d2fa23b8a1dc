"""Folders that an unprivileged user cannot walk to, made reachable in a mount namespace of the launcher's own."""

from __future__ import annotations

import os

from orchestrator.backends.sandbox.launcher import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def stage(mountpoint: str, folders: Sequence[tuple[str, str]]) -> None:
    """Bind each (source, name below `mountpoint`) on a small tmpfs that only this process and its children see.

    Raises:
        OSError: root without CAP_SYS_ADMIN, or a source that does not exist.
    """
    kernel.unshare(kernel.CLONE_NEWNS)
    # slave: an unmount on the host still reaches us, nothing of ours reaches the host
    kernel.mount("none", "/", "none", kernel.MS_REC | kernel.MS_SLAVE)
    opened = [os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for source, _ in folders]
    kernel.mount("tmpfs", mountpoint, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64k,mode=0755")
    for descriptor, (_, name) in zip(opened, folders, strict=True):
        target = os.path.join(mountpoint, name)
        os.makedirs(target, 0o755)
        kernel.mount(f"/proc/self/fd/{descriptor}", target, "none", kernel.MS_BIND | kernel.MS_REC)
        os.close(descriptor)
    flags = kernel.MS_REMOUNT | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("none", mountpoint, "none", flags)
