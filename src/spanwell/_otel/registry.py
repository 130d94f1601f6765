"""Parts by name: samplers, entry points, instrumentors and whether they fit."""

from __future__ import annotations

from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from opentelemetry.sdk.trace.sampling import Sampler


@contextmanager
def readable_limits() -> Iterator[None]:
    """Hide bad OTEL_*_LIMIT variables: the SDK reads some while it is imported, and raises.

    `Settings` have reported them, and the limits are handed over as values.
    """
    import os

    bad = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("OTEL_") and name.endswith("_LIMIT") and value and not value.isdecimal()
    }
    for name in bad:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(bad)


def known_sampler(name: str, argument: str) -> Sampler | None:
    """The SDK's own sampler `name`, or None if it knows none. Raises ValueError for a bad ratio."""
    from opentelemetry.sdk.trace import sampling

    known: Mapping[str, Any] = getattr(sampling, "_KNOWN_SAMPLERS", {})
    made = known.get(name)
    if made is None or isinstance(made, sampling.Sampler):
        return made
    return made(float(argument) if argument else 1.0)  # type: ignore[no-any-return]


def load_entry_point(group: str, name: str) -> Any:
    """Load the entry point `name` of `group`; raises LookupError when nothing installed registers it."""
    return find_entry_point(group, name).load()


def find_entry_point(group: str, name: str) -> Any:
    """The entry point `name` of `group`, not loaded; raises LookupError when nothing installed registers it."""
    from opentelemetry.util._importlib_metadata import entry_points

    for entry in entry_points(group=group, name=name):
        return entry
    raise LookupError(f"no installed package registers {name!r} in {group}")


def instrumentor_entry_points() -> list[Any]:
    """Every registered instrumentor."""
    return entry_points_of("opentelemetry_instrumentor")


def entry_points_of(group: str) -> list[Any]:
    """Every entry point of `group` (the SDK's cached scan, so that packages are read once)."""
    from opentelemetry.util._importlib_metadata import entry_points

    return list(entry_points(group=group))


class Conflict:
    """Why an instrumentor does not fit: `missing` is true where its library is not installed at all."""

    def __init__(self, conflict: Any) -> None:
        self.missing = not (getattr(conflict, "found", None) or getattr(conflict, "found_any", None))
        self.text = str(conflict)


def dependency_conflict(instrumentor: Any, version_of: Callable[[str], str] | None) -> Conflict | None:
    """Why `instrumentor` does not fit the installed library, or None if it does.

    `version_of` is a cheap source of versions that raises LookupError where it does not know.
    """
    if version_of is not None and _plainly_fits(instrumentor, version_of):
        return None
    check = getattr(instrumentor, "_check_dependency_conflicts", None)
    conflict = check() if check is not None else None
    return Conflict(conflict) if conflict else None


def _plainly_fits(instrumentor: Any, version_of: Callable[[str], str]) -> bool:
    """Whether every requirement is plain and met; in any other case upstream, with packaging, has the word."""
    from spanwell._versions import NotPlain, satisfies

    try:
        return all(satisfies(each, version_of) for each in instrumentor.instrumentation_dependencies())
    except (NotPlain, LookupError):
        return False


def skip_checks(unneeded: Callable[[Any], bool]) -> None:
    """Let opentelemetry-instrument not check the library's version of the entry points that `unneeded` names.

    It parses every package's requirements at start, installed library or not (up to 32 ms); a deferred
    instrumentor's are checked when it is applied. There is no public hook between its scan and the check.
    """
    from opentelemetry.instrumentation.auto_instrumentation import _load

    finder = getattr(_load, "_EntryPointDistFinder", None)
    if finder is None:
        return
    original = finder.dist_for

    class Unneeded:
        requires = None

    def dist_for(self: Any, entry_point: Any) -> Any:
        return Unneeded if unneeded(entry_point) else original(self, entry_point)

    finder.dist_for = dist_for


def entry_point_conflict(entry: Any) -> Conflict | None:
    """As `dependency_conflict`, from the metadata of the distribution that registers `entry`."""
    from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts

    dist = getattr(entry, "dist", None)
    conflict = get_dist_dependency_conflicts(dist) if dist is not None else None
    return Conflict(conflict) if conflict else None
