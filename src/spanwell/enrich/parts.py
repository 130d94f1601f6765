"""The parts of `Ended`, in their order, each imported when the first span needs it."""

from __future__ import annotations

from spanwell.enrich.ended import Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spanwell.enrich.app_signals import AppSignals
    from spanwell.enrich.ended import Derive


def parts(
    *, fixed: Mapping[str, str] | None = None, annotations: Sequence[str] = (), signals: AppSignals | None = None
) -> Iterator[Part]:
    """AWS calls, statements, the user; and what is asked for: `fixed` attributes of every span, the names of
    Application Signals, and as `annotations` the keys of attributes that X-Ray is to index, `*` at the end of one
    standing for anything."""
    yield Part("AWS calls", _aws_calls, ("rpc.system", "rpc.system.name"))
    yield Part("statements", _statements, ("db.query.text", "db.statement"))
    yield Part("the user", _same_user, ("user.id", "enduser.id"))
    if fixed:
        from spanwell.enrich.attributes import StaticAttributes

        static = StaticAttributes(fixed)
        yield Part("static attributes", lambda: static)
    if signals is not None:
        yield Part("Application Signals", lambda: signals.derive)
    if annotations:
        from spanwell.enrich.annotations import Annotations
        from spanwell.enrich.attributes import Keys

        listed = Annotations(Keys(annotations))
        yield Part("annotations", lambda: listed)


def _aws_calls() -> Derive:
    from spanwell.enrich.aws_calls import AwsCalls

    return AwsCalls()


def _statements() -> Derive:
    from spanwell.enrich.statements import Statements

    return Statements()


def _same_user() -> Derive:
    from spanwell.enrich.attributes import same_user

    return same_user
