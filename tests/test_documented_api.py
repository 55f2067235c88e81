"""The package offers every documented name, with the documented parameters and defaults.

`documented_api.toml` holds the documented names. Those it lists as not built yet must really be
absent, so that the list can only shrink.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import tomllib
from collections.abc import Iterable, Iterator
from inspect import Parameter, Signature
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TABLE = tomllib.loads((Path(__file__).parent / "documented_api.toml").read_text(encoding="utf-8"))
NOT_BUILT_YET: list[str] = TABLE["not_built_yet"]
SIGNATURES: dict[str, str] = TABLE["functions"] | TABLE["classes"] | TABLE["methods"]
DOCUMENTED: list[str] = [
    *SIGNATURES,
    *TABLE["properties"],
    *TABLE["attributes"],
    *TABLE["namespaces"],
    *TABLE["top_level"],
]

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class AbsentError(LookupError):
    """Raised when nothing stands under a dotted name."""


def find(dotted: str) -> Any:
    """Return what stands under a dotted name, importing modules only as the name needs them."""
    parts = dotted.split(".")
    found: Any = _import(parts[0])
    for length, part in enumerate(parts[1:], start=2):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            if not isinstance(found, ModuleType):
                raise AbsentError(f"{dotted}: {error}") from error
            found = _import(".".join(parts[:length]))
    return found


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A missing dependency of an existing module is a failure, not an absent name.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise AbsentError(f"no module or attribute {module}") from error


def owner_and_member(dotted: str) -> tuple[Any, str]:
    owner, _, member = dotted.rpartition(".")
    return find(owner), member


def documented_signature(text: str) -> Signature:
    """Read a signature written in Python syntax; defaults are literals or dotted names."""
    function = ast.parse(f"def documented{text}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    n_required = len(arguments.args) - len(arguments.defaults)
    defaults = [None] * n_required + list(arguments.defaults)
    parameters = [
        _parameter(argument, Parameter.POSITIONAL_OR_KEYWORD, default)
        for argument, default in zip(arguments.args, defaults, strict=True)
    ]
    if arguments.vararg:
        parameters.append(_parameter(arguments.vararg, Parameter.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters.append(_parameter(argument, Parameter.KEYWORD_ONLY, default))
    if arguments.kwarg:
        parameters.append(_parameter(arguments.kwarg, Parameter.VAR_KEYWORD))
    return Signature(parameters)


def _parameter(argument: ast.arg, kind: Any, default: ast.expr | None = None) -> Parameter:
    if default is None:
        return Parameter(argument.arg, kind)
    try:
        value = ast.literal_eval(default)
    except ValueError:
        value = find(ast.unparse(default))
    return Parameter(argument.arg, kind, default=value)


def actual_signature(dotted: str) -> Signature:
    """Return a callable's signature as its caller sees it, without `self`."""
    owner, member = owner_and_member(dotted)
    signature = inspect.signature(getattr(owner, member))
    if not isinstance(owner, type):
        return signature
    if isinstance(inspect.getattr_static(owner, member), (staticmethod, classmethod)):
        return signature
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def departures(documented: Signature, actual: Signature) -> Iterator[str]:
    """Say where a signature breaks a call that its documentation allows."""
    yield from _departures_of_parameters(documented, actual)
    yield from _departures_of_order(documented, actual)
    yield from _departures_of_additions(documented, actual)


def _departures_of_parameters(documented: Signature, actual: Signature) -> Iterator[str]:
    for name, wanted in documented.parameters.items():
        if wanted.kind in VARIADIC:
            if wanted.kind not in [found.kind for found in actual.parameters.values()]:
                yield f"{wanted} is missing"
            continue
        found = actual.parameters.get(name)
        if found is None or found.kind in VARIADIC:
            yield f"{name} is missing"
            continue
        if found.kind != wanted.kind:
            yield f"{name} is {found.kind.description}, documented {wanted.kind.description}"
        if not _same_default(wanted.default, found.default):
            yield f"{name} has default {found.default!r}, documented {wanted.default!r}"


def _same_default(wanted: object, found: object) -> bool:
    if repr(wanted) == repr(found):
        return True
    # 1 == True: a flag and a number are told apart by type.
    return isinstance(wanted, bool) == isinstance(found, bool) and bool(wanted == found)


def _departures_of_order(documented: Signature, actual: Signature) -> Iterator[str]:
    wanted = [name for name, p in documented.parameters.items() if p.kind not in VARIADIC]
    shared = [name for name in actual.parameters if name in wanted]
    if shared != [name for name in wanted if name in shared]:
        yield f"order is {shared}, documented {wanted}"


def _departures_of_additions(documented: Signature, actual: Signature) -> Iterator[str]:
    positional = [name for name, p in documented.parameters.items() if p.kind in POSITIONAL]
    variadic = [p.kind for p in documented.parameters.values() if p.kind in VARIADIC]
    for place, (name, added) in enumerate(actual.parameters.items()):
        if name in documented.parameters or added.kind in variadic:
            continue
        if added.kind in VARIADIC:
            yield f"{added} is added: it would swallow misspelled arguments"
        elif added.default is Parameter.empty:
            yield f"{name} is added without a default"
        elif added.kind in POSITIONAL and place < len(positional):
            yield f"{name} is added before the documented positional {positional[place:]}"


def is_field(owner: type, member: str) -> bool:
    """Tell whether instances declare a value: a dataclass field, an annotation or a property."""
    if any(member in inspect.get_annotations(base) for base in owner.__mro__):
        return True
    static = inspect.getattr_static(owner, member, None)
    return static is not None and not inspect.isroutine(static)


def is_property(owner: type, member: str) -> bool:
    static = inspect.getattr_static(owner, member, None)
    return isinstance(static, (property, functools.cached_property))


def stands_in_list(name: str) -> bool:
    """Tell whether a name, or what it belongs to, is listed as not built."""
    return any(f"{name}.".startswith(f"{listed}.") for listed in NOT_BUILT_YET)


def built(names: Iterable[str]) -> list[str]:
    return [name for name in names if not stands_in_list(name)]


@pytest.mark.parametrize("name", [name for name in built(SIGNATURES) if SIGNATURES[name]])
def test_signature_is_the_documented_one(name: str) -> None:
    assert callable(find(name)), f"{name} is documented as callable"
    wanted = documented_signature(SIGNATURES[name])
    actual = actual_signature(name)
    problems = list(departures(wanted, actual))
    assert not problems, f"{name}{actual}, documented {wanted}: " + "; ".join(problems)


@pytest.mark.parametrize("name", built([*TABLE["functions"], *TABLE["methods"]]))
def test_documented_function_is_not_a_class(name: str) -> None:
    assert not isinstance(find(name), type), f"{name} is documented as a function"


@pytest.mark.parametrize("name", built(TABLE["classes"]))
def test_documented_class_is_a_class(name: str) -> None:
    assert isinstance(find(name), type), f"{name} is documented as a class"


@pytest.mark.parametrize("name", built(TABLE["bases"]))
def test_class_derives_from_its_documented_base(name: str) -> None:
    assert issubclass(find(name), find(TABLE["bases"][name]))


@pytest.mark.parametrize("name", built(TABLE["properties"]))
def test_documented_property_is_a_property(name: str) -> None:
    assert is_property(*owner_and_member(name)), f"{name} is documented as a property"


@pytest.mark.parametrize("name", built(TABLE["attributes"]))
def test_documented_attribute_is_a_field(name: str) -> None:
    assert is_field(*owner_and_member(name)), f"{name} is documented as an attribute"


@pytest.mark.parametrize("name", built(TABLE["namespaces"]))
def test_namespace_is_an_instance_of_its_documented_class(name: str) -> None:
    assert isinstance(find(name), find(TABLE["namespaces"][name]))


@pytest.mark.parametrize("name", built(TABLE["top_level"]))
def test_top_level_name_is_the_one_of_its_module(name: str) -> None:
    assert find(name) is find(TABLE["top_level"][name])


@pytest.mark.parametrize("name", NOT_BUILT_YET)
def test_name_listed_as_not_built_is_absent(name: str) -> None:
    try:
        found = find(name)
    except AbsentError:
        return
    pytest.fail(f"{name} is built ({found!r}): take it off not_built_yet in documented_api.toml")


def test_list_of_names_not_built_holds_documented_names_once() -> None:
    assert sorted(set(NOT_BUILT_YET)) == NOT_BUILT_YET, "sorted, each name once"
    assert not set(NOT_BUILT_YET) - set(DOCUMENTED), "names that are not documented"
    owners = [f"{name}." for name in NOT_BUILT_YET]
    implied = [name for name in NOT_BUILT_YET if name.startswith(tuple(owners))]
    assert not implied, "a listed class stands for its members"


EXAMPLE = "(data, key, n=5, *, dtype=numpy.float64, flag=True)"


@pytest.mark.parametrize(
    ("actual", "problem"),
    [
        ("(data, key, n=6, *, dtype=numpy.float64, flag=True)", "n has default 6"),
        ("(data, key, n, *, dtype=numpy.float64, flag=True)", "n has default"),
        ("(data, key, n=5, *, dtype=numpy.float32, flag=True)", "dtype has default"),
        ("(data, key, n=5, *, dtype=numpy.float64, flag=1)", "flag has default 1"),
        ("(data, key, n=5, *, dtype=numpy.float64)", "flag is missing"),
        ("(data, key, n=5, *, dtype=numpy.float64, **flag)", "flag is missing"),
        ("(key, data, n=5, *, dtype=numpy.float64, flag=True)", "order is"),
        ("(data, key, n=5, *, flag=True, dtype=numpy.float64)", "order is"),
        ("(data, key, *, n=5, dtype=numpy.float64, flag=True)", "n is keyword-only"),
        ("(data, key, n=5, dtype=numpy.float64, flag=True)", "dtype is positional or keyword"),
        ("(data, key, new=0, n=5, *, dtype=numpy.float64, flag=True)", "new is added before"),
        ("(data, key, n=5, *, dtype=numpy.float64, flag=True, new)", "new is added without"),
        ("(data, key, n=5, *new, dtype=numpy.float64, flag=True)", "new is added: it would"),
        ("(data, key, n=5, *, dtype=numpy.float64, flag=True, **new)", "new is added: it would"),
    ],
)
def test_departure_from_the_documented_signature_is_noticed(actual: str, problem: str) -> None:
    problems = list(departures(documented_signature(EXAMPLE), documented_signature(actual)))
    assert any(problem in found for found in problems), problems


@pytest.mark.parametrize(
    "actual",
    [
        EXAMPLE,
        "(data, key, n=5.0, *, new=0, dtype=numpy.float64, flag=True)",
        "(data, key, n=5, new=0, *, dtype=numpy.float64, flag=True)",
    ],
)
def test_optional_parameter_after_the_documented_ones_is_no_departure(actual: str) -> None:
    assert not list(departures(documented_signature(EXAMPLE), documented_signature(actual)))


def test_documented_free_keywords_must_stay_free() -> None:
    documented = documented_signature("(data, **kwargs)")
    assert list(departures(documented, documented_signature("(data, *, ax=None)")))
    assert not list(departures(documented, documented_signature("(data, *, ax=None, **options)")))


def test_name_under_an_existing_module_is_found_or_absent() -> None:
    assert find("inspect.Signature.bind") is Signature.bind
    for absent in ("inspect.Signature.unbind", "inspect.unsign", "importlib.absent.name"):
        with pytest.raises(AbsentError):
            find(absent)


def test_missing_dependency_is_not_an_absent_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_dependency.py").write_text("import dependency_that_is_not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="dependency_that_is_not_installed"):
        find("needs_dependency.name")
