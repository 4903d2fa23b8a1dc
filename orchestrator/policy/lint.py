"""What a bundle's syntax must satisfy before it is evaluated at all. Pure.

Regorus is lazy: an unknown function in a branch that is not reached loads without complaint and fails on the
day the branch is reached; a reference to data that does not exist is undefined, so that a rule written with
`not` lets things through. Both are found here, as is everything that reaches outside of the input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.policy.builtins import PURE, impurity
from orchestrator.policy.engine import ENTRYPOINT
from orchestrator.policy.syntax import Call, Path, Reference, Rule, Syntax, With, walk_rule


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding: where, in which rule, what, and what to do."""

    file: str
    line: int
    rule: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.message} ({self.fix})"


@dataclass(frozen=True, slots=True)
class _Index:
    """What the bundle defines: packages, rules by full path, functions with their numbers of arguments."""

    packages: frozenset[Path]
    rules: frozenset[Path]
    functions: Mapping[Path, frozenset[int]]
    data: Mapping[str, Any]

    def knows(self, path: Path) -> bool:
        """Whether `path` (below `data`) can have a value: a package, a rule or what is in it, or a data document."""
        if not path:
            return True
        if any(package[: len(path)] == path for package in self.packages):
            return True
        if any(path[: len(rule)] == rule or rule[: len(path)] == path for rule in self.rules):
            return True
        return path[0] in self.data and not any(package == path[: len(package)] for package in self.packages)


def lint(modules: Sequence[Syntax], tests: Sequence[Syntax], data: Mapping[str, Any]) -> Sequence[Issue]:
    """All findings in file order; an empty list is a pass."""
    everything = (*modules, *tests)
    index = _index(everything, data)
    issues = list(_check_data(everything, data))
    issues += _check_entrypoint(modules)
    issues += _check_duplicates(everything)
    issues += _check_packages(everything, index)
    for module in everything:
        issues += _check_imports(module, index)
        in_test = module.file.endswith("_test.rego")
        for rule in module.rules:
            issues += _check_name(module, rule)
            for found in walk_rule(rule):
                issues += _check_node(module, rule, found, index, in_test=in_test)
    return issues


def _index(modules: Iterable[Syntax], data: Mapping[str, Any]) -> _Index:
    functions: dict[Path, set[int]] = {}
    rules: set[Path] = set()
    for module in modules:
        for rule in module.rules:
            full = module.package + rule.name
            rules.add(full)
            if rule.arguments is not None:
                functions.setdefault(full, set()).add(rule.arguments)
    packages = frozenset(module.package for module in modules)
    return _Index(packages, frozenset(rules), {k: frozenset(v) for k, v in functions.items()}, data)


def _check_data(modules: Iterable[Syntax], data: Mapping[str, Any]) -> Iterator[Issue]:
    for module in modules:
        if _overlaps(module.package, data):
            path = ".".join(("data", *module.package))
            yield Issue(module.file, 1, "package", f"{path} is also in a data file, which would replace rules",
                        "move the data to a key that is no package")  # fmt: skip


def _overlaps(package: Path, data: Any) -> bool:
    """Whether the data document has a value at the package's path, or something that is no object above it."""
    for part in package:
        if not isinstance(data, Mapping):
            return True
        if part not in data:
            return False
        data = data[part]
    return True


def _check_entrypoint(modules: Iterable[Syntax]) -> Iterator[Issue]:
    wanted = tuple(ENTRYPOINT.split(".")[1:])
    if not any(module.package + rule.name == wanted for module in modules for rule in module.rules):
        yield Issue("bundle", 0, "decision", f"nothing defines {ENTRYPOINT}",
                    "add `default decision := {\"allow\": false, ...}` to package orchestrator")  # fmt: skip


def _check_duplicates(modules: Iterable[Syntax]) -> Iterator[Issue]:
    defaults: Counter[Path] = Counter()
    tests: Counter[Path] = Counter()
    for module in modules:
        for rule in module.rules:
            full = module.package + rule.name
            name = ".".join(rule.name)
            if rule.is_default:
                defaults[full] += 1
                if defaults[full] == 2:
                    yield Issue(module.file, rule.line, name, "a second default", "keep one default for each rule")
            elif name.startswith(("test_", "todo_")):
                tests[full] += 1
                if tests[full] == 2:
                    yield Issue(module.file, rule.line, name, "a second test of this name; it can hide a failing one",
                                "give each test its own name")  # fmt: skip


def _check_packages(modules: Iterable[Syntax], index: _Index) -> Iterator[Issue]:
    """OPA refuses a rule of a package's name; regorus evaluates both as one, and fails on the day that matters."""
    for module in modules:
        for rule in module.rules:
            full = module.package + rule.name
            if any(package[: len(full)] == full for package in index.packages):
                path = ".".join(("data", *full))
                yield Issue(module.file, rule.line, ".".join(rule.name), f"{path} is also a package",
                            "give the rule or the package another name")  # fmt: skip


def _check_imports(module: Syntax, index: _Index) -> Iterator[Issue]:
    for item in module.imports:
        dotted = ".".join(item.path)
        if item.path[0] == "data":
            if not index.knows(item.path[1:]):
                yield Issue(module.file, item.line, "import", f"nothing defines {dotted}", "correct the path")
        elif item.path[0] != "input" and item.path != ("rego", "v1") and item.path[:2] != ("future", "keywords"):
            yield Issue(module.file, item.line, "import", f"cannot import {dotted}", "import from data or input")


def _check_name(module: Syntax, rule: Rule) -> Iterator[Issue]:
    name = ".".join(rule.name)
    if rule.arguments is not None and name in PURE:
        yield Issue(module.file, rule.line, name, "a function named like a builtin", "choose another name")
    if name == "input" or name == "data":
        yield Issue(module.file, rule.line, name, "a rule named like a document", "choose another name")


def _check_node(
    module: Syntax, rule: Rule, found: Call | Reference | With, index: _Index, *, in_test: bool
) -> Iterator[Issue]:
    name = ".".join(rule.name)
    match found:
        case With():
            if not in_test:
                yield Issue(module.file, found.line, name, "`with` outside of a test",
                            "pass what differs as an argument of a function")  # fmt: skip
        case Reference():
            resolved = module.resolve(found.path)
            dotted = ".".join(found.path)
            if why := impurity(dotted):
                yield Issue(module.file, found.line, name, f"{dotted} is not for policy", why)
            elif resolved[:1] == ("data",) and not in_test and not index.knows(resolved[1:]):
                yield Issue(module.file, found.line, name, f"nothing defines {'.'.join(resolved)}",
                            "correct the path, or add the key to the bundle's data")  # fmt: skip
        case Call():
            yield from _check_call(module, name, found, index, in_test=in_test)


def _check_call(module: Syntax, rule: str, call: Call, index: _Index, *, in_test: bool) -> Iterator[Issue]:
    dotted = ".".join(call.path)
    if why := impurity(dotted):
        yield Issue(module.file, call.line, rule, f"{dotted} is not for policy", why)
        return
    resolved = module.resolve(call.path)
    full = resolved[1:] if resolved[:1] == ("data",) else module.package + call.path
    if full in index.functions:
        arities = index.functions[full]
    elif dotted in PURE:
        arities = frozenset({PURE[dotted]})
    elif dotted == "print" and in_test:
        return
    else:
        what = f"{dotted or 'a computed name'} is neither a function of the bundle nor an allowed builtin"
        yield Issue(module.file, call.line, rule, what, "see the list of allowed builtins in the policy guide")
        return
    if call.arguments not in arities:
        wanted = " or ".join(str(arity) for arity in sorted(arities))
        yield Issue(module.file, call.line, rule, f"{dotted} takes {wanted} arguments, not {call.arguments}",
                    "give the right number of arguments")  # fmt: skip
