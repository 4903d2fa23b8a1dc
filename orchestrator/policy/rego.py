"""The embedded Rego interpreter (regorus), wrapped so that its ways of saying *no answer* cannot be mistaken.

Everything that touches the `regorus` module is here. Its traps, each held by a test: JSON text goes in, never
Python objects (one build of it turned `False` into 0, and 0 is true in Rego); a failure may be a panic that
derives from BaseException alone; an object belongs to the thread that made it; *undefined* is the string
`"<undefined>"`; a data document shadows a rule of the same path without a word.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import re
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import regorus

ENGINE_NAME = f"regorus/{importlib.metadata.version('gordon-to-regorus')}"

_UNDEFINED = '"<undefined>"'
_LOCATION = re.compile(r"^\s*-->\s*(?P<file>.+):(?P<line>\d+):(?P<col>\d+)\s*$", re.MULTILINE)
_ERROR = re.compile(r"^error:\s*(?P<text>.+)$", re.MULTILINE)
_VALUE = re.compile(r'(?<=Got )`.*`|"(?:[^"\\]|\\.)*"')

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Module:
    """One Rego file: its path relative to the bundle, with forward slashes, and its text."""

    path: str
    text: str

    @property
    def is_test(self) -> bool:
        return self.path.endswith("_test.rego")


class RegoFailureError(Exception):
    """The interpreter refused or panicked. The message names file and line, never a value of the input."""

    def __init__(self, message: str, *, file: str = "", line: int = 0) -> None:
        super().__init__(f"{file}:{line}: {message}" if file else message)
        self.file = file
        self.line = line
        self.text = message


def _failure(error: BaseException) -> RegoFailureError:
    """What the interpreter said, without source excerpt, native stack and values (they may be the job's)."""
    text = str(error).split("\n\nStack backtrace", 1)[0]
    where = _LOCATION.search(text)
    what = _ERROR.search(text)
    message = _VALUE.sub("…", what.group("text") if what else text.strip().splitlines()[0] if text.strip() else "")
    message = message[:300] or type(error).__name__
    if where is None:
        return RegoFailureError(message)
    return RegoFailureError(message, file=where.group("file"), line=int(where.group("line")))


def _guarded(call: Callable[[], T]) -> T:
    try:
        return call()
    except (RegoFailureError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 -- a Rust panic derives from BaseException alone
        failure = _failure(error)
    raise failure


class _Shelf(threading.local):
    """Each thread's interpreters. Nothing else holds one for longer than a call.

    The interpreter's object can be let go in its own thread only, but Python frees what is left in a
    traceback's cycle in whichever thread its collector happens to run.
    """

    def __init__(self) -> None:
        self.engines: dict[int, Any] = {}
        self.returned: deque[int] = deque()


_shelf = _Shelf()
_keys = itertools.count()


def _give_back(owner: int, returned: deque[int], key: int) -> None:
    """Let an interpreter go now if this is its thread, else when that thread next makes one, or ends."""
    if threading.get_ident() == owner:
        _shelf.engines.pop(key, None)
    else:
        returned.append(key)


class RegoProgram:
    """Modules and data, ready to be asked. Use it, and let it go, in the thread that made it.

    Args:
        modules: the Rego files; all are parsed at once.
        data_json: the `data` document as JSON text, an object.
        coverage: record which lines were evaluated.

    Raises:
        RegoFailureError: a module does not parse, or the data is not a JSON object.
    """

    def __init__(self, modules: Sequence[Module], data_json: str = "{}", *, coverage: bool = False) -> None:
        while _shelf.returned:
            _shelf.engines.pop(_shelf.returned.popleft(), None)
        self._key = next(_keys)
        _shelf.engines[self._key] = regorus.Engine()
        weakref.finalize(self, _give_back, threading.get_ident(), _shelf.returned, self._key).atexit = False
        self._engine.set_gather_prints(True)
        for module in modules:
            _guarded(lambda module=module: self._engine.add_policy(module.path, module.text))  # type: ignore[misc]
        _guarded(lambda: self._engine.add_data_json(data_json))
        if coverage:
            _guarded(lambda: self._engine.set_enable_coverage(True))

    @property
    def _engine(self) -> Any:
        engine = _shelf.engines.get(self._key)
        if engine is None:
            raise RegoFailureError("a Rego program was used in another thread than the one that made it")
        return engine

    def _call(self, method: str) -> Any:
        # The bound method stays on the stack: a frame that a traceback keeps must not hold the interpreter.
        return _guarded(lambda: getattr(self._engine, method)())  # noqa: PLW0108

    def rule(self, path: str, input_json: str) -> str | None:
        """The value of a rule as JSON text, None where it is undefined.

        Raises:
            RegoFailureError: no such rule, a builtin's error, a conflict, input that is not JSON, a panic.
        """
        _guarded(lambda: self._engine.set_input_json(input_json))
        answer: str = _guarded(lambda: self._engine.eval_rule_as_json(path))
        return None if answer == _UNDEFINED else answer

    def all_rules(self, input_json: str) -> None:
        """Evaluate every rule of every module, only to learn whether one fails.

        Raises:
            RegoFailureError: an unsafe variable, a recursion, a conflict, a builtin's error.
        """
        _guarded(lambda: self._engine.set_input_json(input_json))
        _guarded(lambda: self._engine.eval_query_as_json("data"))

    def syntax(self) -> Sequence[Mapping[str, Any]]:
        """Each module's syntax tree as plain JSON, in the order the modules were given."""
        trees: list[Mapping[str, Any]] = json.loads(self._call("get_ast_as_json"))
        return trees

    def covered_lines(self) -> Mapping[str, tuple[frozenset[int], frozenset[int]]]:
        """Module path to the lines that were evaluated, and those that could have been and were not."""
        report = json.loads(self._call("get_coverage_report_as_json"))
        return {file["path"]: (frozenset(file["covered"]), frozenset(file["not_covered"])) for file in report["files"]}

    def prints(self) -> Sequence[str]:
        """What `print` said since the last call; tests may print, policies may not."""
        lines: list[str] = self._call("take_prints")
        return lines
