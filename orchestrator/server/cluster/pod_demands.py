"""What a pod would run and what it could reach on its node, read from its specification. Pure.

Everything else of a specification is the cluster's business and is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import msgspec

MAX_IMAGES = 64
"""Containers and image volumes of one pod; one with more is refused unseen."""
MAX_PRIVILEGES = 32
"""Privileges that are named; that there are any is never lost."""
_MAX_REFERENCE = 512
_MAX_NAME = 253

HARMLESS_CAPABILITIES = frozenset({"NET_BIND_SERVICE"})
"""The one capability that the restricted profile of Pod Security lets containers add."""

SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
"""Those that the baseline profile of Pod Security lets containers have."""

_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})\Z")


class ReviewError(ValueError):
    """A review that cannot be read. The message never repeats what was in it."""


class Struct(msgspec.Struct, frozen=True, rename="camel"):
    """Unknown fields are skipped: an API server knows more of an object than we ask about."""


class _Capabilities(Struct, frozen=True):
    add: list[str] | None = None


class _WindowsOptions(Struct, frozen=True):
    host_process: bool | None = None


class _Profile(Struct, frozen=True):
    type: str | None = None


class _SELinux(Struct, frozen=True):
    type: str | None = None
    user: str | None = None
    role: str | None = None


class _SecurityContext(Struct, frozen=True):
    privileged: bool | None = None
    seccomp_profile: _Profile | None = None
    app_armor_profile: _Profile | None = None
    se_linux_options: _SELinux | None = None
    capabilities: _Capabilities | None = None
    proc_mount: str | None = None
    windows_options: _WindowsOptions | None = None


class _Port(Struct, frozen=True):
    host_port: int | None = None


class _Container(Struct, frozen=True):
    name: str = ""
    image: str = ""
    security_context: _SecurityContext | None = None
    ports: list[_Port] | None = None


class _ImageVolume(Struct, frozen=True):
    reference: str = ""


class _Volume(Struct, frozen=True):
    name: str = ""
    host_path: msgspec.Raw = msgspec.Raw()
    image: _ImageVolume | None = None


class PodSpec(Struct, frozen=True):
    """The part of a PodSpec (core/v1) that is looked at."""

    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = None
    volumes: list[_Volume] | None = None
    host_network: bool | None = None
    host_pid: bool | None = msgspec.field(default=None, name="hostPID")
    host_ipc: bool | None = msgspec.field(default=None, name="hostIPC")
    security_context: _SecurityContext | None = None
    service_account_name: str | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image that would run, or be mounted. `digest` (`sha256:<hex>`) is empty where the reference names none."""

    container: str
    reference: str
    digest: str


@dataclass(frozen=True, slots=True)
class Demands:
    """`privileges` are words for what reaches from the pod into its node, such as `container app: privileged`."""

    images: tuple[Image, ...] = ()
    privileges: tuple[str, ...] = ()


_SPEC = msgspec.json.Decoder(PodSpec, strict=True)


def given(raw: msgspec.Raw) -> bool:
    """Whether there is a value, and not null."""
    return bytes(raw) not in (b"", b"null")


def read_spec(raw: msgspec.Raw) -> PodSpec:
    """Raises msgspec.DecodeError for what is no PodSpec."""
    return _SPEC.decode(raw)


def demands(spec: PodSpec) -> Demands:
    """What the pod asks for.

    Raises:
        ReviewError: more images than are looked at, or a reference longer than any.
    """
    images = tuple(islice(_images(spec), MAX_IMAGES + 1))
    if len(images) > MAX_IMAGES:
        raise ReviewError(f"the pod has more than {MAX_IMAGES} containers and image volumes")
    return Demands(images, tuple(islice(_privileges(spec), MAX_PRIVILEGES)))


def _containers(spec: PodSpec) -> Iterator[_Container]:
    for group in (spec.init_containers, spec.containers, spec.ephemeral_containers):
        yield from group or ()


def _images(spec: PodSpec) -> Iterator[Image]:
    for one in _containers(spec):
        yield _image(one.name, one.image)
    for volume in spec.volumes or ():
        if volume.image is not None:
            yield _image(f"volume {volume.name}", volume.image.reference)


def _image(container: str, reference: str) -> Image:
    if len(reference) > _MAX_REFERENCE:
        raise ReviewError(f"an image reference has more than {_MAX_REFERENCE} characters")
    found = _DIGEST.search(reference)
    return Image(container[:_MAX_NAME], reference, found[1] if found else "")


def _privileges(spec: PodSpec) -> Iterator[str]:
    """What Pod Security's baseline profile forbids for reaching into the node."""
    shared = (("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc))
    for word, value in shared:
        if value:
            yield f"pod: {word}"
    for word in _of_context(spec.security_context):
        yield f"pod: {word}"
    for volume in spec.volumes or ():
        if given(volume.host_path):
            yield f"volume {volume.name[:_MAX_NAME]}: hostPath"
    for one in _containers(spec):
        for word in _of_context(one.security_context):
            yield f"container {one.name[:_MAX_NAME]}: {word}"
        if any(port.host_port for port in one.ports or ()):
            yield f"container {one.name[:_MAX_NAME]}: hostPort"


def _of_context(context: _SecurityContext | None) -> Iterator[str]:
    if context is None:
        return
    if context.privileged:
        yield "privileged"
    if context.proc_mount not in (None, "", "Default"):
        yield "procMount"
    yield from _unconfined(context)
    if context.windows_options is not None and context.windows_options.host_process:
        yield "hostProcess"
    for name in (context.capabilities.add or ()) if context.capabilities is not None else ():
        if name.removeprefix("CAP_") not in HARMLESS_CAPABILITIES:
            yield f"capability {name[:64]}"


def _unconfined(context: _SecurityContext) -> Iterator[str]:
    """What the kernel would not be kept from doing for the container."""
    for word, profile in (("seccomp", context.seccomp_profile), ("AppArmor", context.app_armor_profile)):
        if profile is not None and profile.type == "Unconfined":
            yield f"{word} Unconfined"
    labels = context.se_linux_options
    if labels is not None and ((labels.type or "") not in SELINUX_TYPES or labels.user or labels.role):
        yield "SELinux options"
