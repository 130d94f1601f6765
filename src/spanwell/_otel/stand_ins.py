"""Imports that a start can do without: what OpenTelemetry's modules, and wrapt, get in the place of some of theirs.

Nothing here is used where the real module has been imported already.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any


class _Packaging:
    """Stand-ins for the two names that `opentelemetry.instrumentation.dependencies` takes from packaging."""

    class Requirement:
        pass

    class InvalidRequirement(Exception):
        pass


class _Later:
    """A module that is imported when something of it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        import importlib

        return getattr(importlib.import_module(self._name), attribute)


class _Calls:
    """A module of which functions are taken by name, that is imported when one of them is called."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            import importlib

            return getattr(importlib.import_module(self._name), attribute)(*args, **kwargs)

        call.__name__ = attribute
        return call


class _TypingExtensions:
    """What the API and the SDK take from typing_extensions while they are imported."""

    @staticmethod
    def deprecated(message: str, *, category: type[Warning] = DeprecationWarning, stacklevel: int = 1) -> Any:
        """As theirs for functions; a class is only marked."""

        def mark(what: Any) -> Any:
            what.__deprecated__ = message
            if isinstance(what, type):
                return what
            from functools import wraps
            from warnings import warn

            @wraps(what)
            def warned(*args: Any, **kwargs: Any) -> Any:
                warn(message, category, stacklevel=stacklevel + 1)
                return what(*args, **kwargs)

            return warned

        return mark

    @staticmethod
    def assert_never(value: Any) -> Any:
        raise AssertionError(f"Expected code to be unreachable, but got: {value!r}")


class _Fields:
    """The methods of a class of `_Dataclasses`."""

    _names: tuple[str, ...]
    _defaults: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = self._names
        given = {**self._defaults, **dict(zip(names, args, strict=False)), **kwargs}
        if len(args) > len(names) or given.keys() != set(names):
            raise TypeError(f"{type(self).__name__} takes {', '.join(names)}")
        for name in names:
            object.__setattr__(self, name, given[name])

    def __eq__(self, other: object) -> Any:
        return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self) -> int:
        return hash(_values(self))

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in zip(self._names, _values(self), strict=True)]
        return f"{type(self).__qualname__}({', '.join(shown)})"


def _values(made: Any) -> tuple[Any, ...]:
    return tuple(getattr(made, name) for name in made._names)


def _refuse(self: Any, name: str, *value: Any) -> None:
    raise AttributeError(f"cannot assign to field {name!r}")


class _Dataclasses:
    """`dataclass` for the four classes of the API and the SDK that are made at every start: plain fields, some with a
    default."""

    @staticmethod
    def dataclass(made: Any = None, *, frozen: bool = False) -> Any:
        """The class with the methods that the real one would write for it."""

        def fill(made: Any) -> Any:
            names = tuple(made.__annotations__)
            made._names = names
            made._defaults = {name: vars(made)[name] for name in names if name in vars(made)}
            for method in ("__init__", "__eq__", "__repr__"):
                setattr(made, method, vars(_Fields)[method])
            made.__hash__ = _Fields.__hash__ if frozen else None
            if frozen:
                made.__setattr__ = made.__delattr__ = _refuse
            return made

        return fill if made is None else fill(made)


class _Urllib:
    parse = _Later("urllib.parse")


class _PackagingPackage:
    version = _Later("packaging.version")


_EXTENSIONS = {"typing_extensions": _TypingExtensions}
_DATACLASSES = {"dataclasses": _Dataclasses}

# module -> {what its import statements name: what they get instead}. packaging costs 12 ms of CPU and is needed for
# odd requirements only; asyncio 7 ms, needed by wrapt when a coroutine is synchronised. typing_extensions,
# dataclasses and inspect, which both import, cost 13 ms of the SDK's 35 and are needed to define classes; platform,
# subprocess and urllib.parse 4 ms, for resource detectors that spanwell has its own of, and for odd headers.
STAND_INS: dict[str, dict[str, Any]] = {
    "opentelemetry.instrumentation.dependencies": {"packaging.requirements": _Packaging},
    "wrapt.synchronization": {"asyncio": _Later("asyncio")},
    "opentelemetry.attributes": _EXTENSIONS,
    "opentelemetry.baggage.propagation": {"urllib.parse": _Calls("urllib.parse")},
    "opentelemetry.instrumentation._semconv": {"packaging": _PackagingPackage},
    "opentelemetry.metrics._internal": _DATACLASSES,
    "opentelemetry.metrics._internal.instrument": _DATACLASSES,
    "opentelemetry.propagators.composite": _EXTENSIONS,
    "opentelemetry.sdk._shared_internal": {"inspect": _Later("inspect")},
    "opentelemetry.sdk.resources": {
        "platform": _Later("platform"),
        "subprocess": _Later("subprocess"),
        "urllib": _Urllib,
    },
    "opentelemetry.sdk.trace": {**_EXTENSIONS, **_DATACLASSES},
    "opentelemetry.sdk.util": _EXTENSIONS,
    "opentelemetry.sdk.util.instrumentation": _EXTENSIONS,
    "opentelemetry.semconv._incubating.attributes.db_attributes": _EXTENSIONS,
    "opentelemetry.semconv._incubating.attributes.http_attributes": _EXTENSIONS,
    "opentelemetry.semconv._incubating.attributes.net_attributes": _EXTENSIONS,
    "opentelemetry.semconv._incubating.attributes.otel_attributes": _EXTENSIONS,
    "opentelemetry.semconv._incubating.attributes.rpc_attributes": _EXTENSIONS,
    "opentelemetry.semconv.resource": _EXTENSIONS,
    "opentelemetry.trace": _EXTENSIONS,
    "opentelemetry.util._decorator": {"inspect": _Later("inspect")},
    "opentelemetry.util.re": {**_EXTENSIONS, "urllib.parse": _Calls("urllib.parse")},
}


def begin(module: ModuleType) -> None:
    """Before the code of a module in STAND_INS runs.

    Only that module's own import statements see the stand-ins, through its own `__builtins__`: no other import,
    in no thread, is touched.
    """
    import builtins
    import sys

    instead = {name: value for name, value in STAND_INS[module.__name__].items() if name not in sys.modules}

    def own_import(name: str, *args: Any, **kwargs: Any) -> Any:
        return instead[name] if name in instead else builtins.__import__(name, *args, **kwargs)

    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": own_import}


def end(module: Any) -> None:
    """After it: the module gets its builtins back, and packaging as soon as one of its checks is called."""
    import builtins

    module.__dict__["__builtins__"] = vars(builtins)
    if getattr(module, "Requirement", None) is not _Packaging.Requirement:
        return
    for name in ("get_dependency_conflicts", "get_dist_dependency_conflicts"):
        original = getattr(module, name, None)
        if original is not None:
            setattr(module, name, _with_packaging(module, original))


def _with_packaging(module: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    from functools import wraps

    @wraps(original)
    def check(*args: Any, **kwargs: Any) -> Any:
        from packaging import requirements

        module.Requirement = requirements.Requirement
        module.InvalidRequirement = requirements.InvalidRequirement
        return original(*args, **kwargs)

    return check
