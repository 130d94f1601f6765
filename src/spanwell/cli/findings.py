"""What `spanwell doctor` finds: one generator a topic, each yielding findings with a level and one sentence."""

from __future__ import annotations

import platform
from importlib import metadata

from spanwell import __version__
from spanwell._otel import registry
from spanwell._triggers import EAGER, LAST, TABLE
from spanwell.cli.config import load, value_text
from spanwell.cli.metric_findings import metric_findings
from spanwell.cli.probe import probe_endpoint, probe_sqlite
from spanwell.cli.probe_sampling import probe_sampler
from spanwell.exporters import NEEDS_OTLP, upstream_name
from spanwell.legs import unneeded_instrumentors
from spanwell.otlp_settings import transport
from spanwell.settings import Settings
from spanwell.where import aws_platform, on_lambda

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

OTHER_DISTROS = {"distro": "opentelemetry-distro", "aws_distro": "aws-opentelemetry-distro"}


class Finding:
    """One line of the report: `level` is ``ok``, ``note`` or ``problem``."""

    __slots__ = ("level", "text", "topic")

    def __init__(self, topic: str, level: str, text: str) -> None:
        self.topic = topic
        self.level = level
        self.text = text

    def as_json(self) -> dict[str, str]:
        """The three fields."""
        return {"topic": self.topic, "level": self.level, "text": self.text}


def findings(environ: Mapping[str, str], *, online: bool = True, probe: bool = True) -> Iterator[Finding]:
    """Everything there is to say about this environment; with `online` X-Ray is asked for its rules, and with `probe`
    too the endpoint is connected to."""
    settings = load(environ)
    for topic, found in (
        ("versions", _versions()),
        ("distro", _distro(environ)),
        ("settings", _settings(settings)),
        ("service", _service(settings, environ)),
        ("ids, sampler, propagators", _plugins(settings, online=online)),
        ("exporters", _exporters(settings, environ, online=online and probe)),
        ("insights", _insights(settings)),
        ("instrumentors", _instrumentors(settings)),
        ("losses", _losses(settings, environ)),
    ):
        for level, text in found:
            yield Finding(topic, level, text)


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _versions() -> Iterator[tuple[str, str]]:
    yield "ok", f"spanwell {__version__} on Python {platform.python_version()}"
    api, sdk = _version_of("opentelemetry-api"), _version_of("opentelemetry-sdk")
    yield (
        ("ok", f"opentelemetry-api {api}, opentelemetry-sdk {sdk}")
        if api == sdk
        else (
            "problem",
            f"opentelemetry-api {api} and opentelemetry-sdk {sdk} differ; install the same version of both",
        )
    )
    instrumentation = _version_of("opentelemetry-instrumentation")
    stray = sorted(
        f"{dist.metadata['Name']} {dist.version}"
        for dist in metadata.distributions()
        if (dist.metadata["Name"] or "").startswith("opentelemetry-instrumentation-")
        and dist.version != instrumentation
    )
    if stray:
        yield "note", f"not of opentelemetry-instrumentation {instrumentation}'s release: {', '.join(stray)}"


def _distro(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    names = [entry.name for entry in metadata.entry_points(group="opentelemetry_distro")]
    chosen = environ.get("OTEL_PYTHON_DISTRO")
    if chosen not in (None, "", "spanwell"):
        yield "problem", f"OTEL_PYTHON_DISTRO={chosen}: opentelemetry-instrument starts another distro, not spanwell"
        return
    others = [OTHER_DISTROS.get(name, name) for name in names if name != "spanwell"]
    if "spanwell" not in names:
        yield "problem", "the opentelemetry_distro entry point of spanwell is missing; install the package again"
    elif others and not chosen:
        yield (
            "problem",
            f"also installed: {', '.join(others)}; opentelemetry-instrument takes the first distro it finds, so set"
            " OTEL_PYTHON_DISTRO=spanwell or uninstall the other (`spanwell run` is not affected)",
        )
    else:
        yield "ok", "spanwell is the distro"
    configurator = environ.get("OTEL_PYTHON_CONFIGURATOR")
    if configurator not in (None, "", "spanwell"):
        yield "note", f"OTEL_PYTHON_CONFIGURATOR={configurator}: that configurator sets up the SDK, not spanwell's"


def _settings(settings: Settings) -> Iterator[tuple[str, str]]:
    for problem in settings.problems:
        yield "problem", problem
    chosen = [row for row in Settings.rows() if settings.chosen(row)]
    for row in chosen:
        yield "ok", f"{row.variable}={value_text(settings, row)} ({settings.source(row)})"
    if not chosen:
        yield "ok", "everything has its default; `spanwell config --all` lists it"
    if settings.sdk_disabled:
        yield "note", "OTEL_SDK_DISABLED=true: nothing is traced"


def _service(settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if settings.service_name or "service.name=" in settings.resource_attributes:
        yield "ok", f"service.name is set by you{': ' if settings.service_name else ''}{settings.service_name}"
    else:
        yield "note", "service.name is guessed from the platform or the command; set OTEL_SERVICE_NAME to choose"
    if settings.chosen(Settings.resource_detectors):
        for name in settings.resource_detectors:
            finding = _loads(
                "resource detector", name, "opentelemetry_resource_detector", ("otel", "spanwell_aws", "*")
            )
            if finding[0] != "ok":
                yield finding
    yield "ok", f"platform: {aws_platform(environ) or 'not AWS (no network call is made to find out)'}"


def _plugins(settings: Settings, *, online: bool) -> Iterator[tuple[str, str]]:
    yield _loads("id generator", settings.id_generator, "opentelemetry_id_generator", ("spanwell_xray",))
    yield from probe_sampler(settings, online=online)
    known = ("baggage", "tracecontext", "xray", "spanwell_xray", "none")
    found = [(name, _loads("propagator", name, "opentelemetry_propagator", known)) for name in settings.propagators]
    good = [name for name, (level, _) in found if level == "ok"]
    yield "ok" if good else "problem", f"propagators {', '.join(good) or '(none is left)'}"
    yield from (finding for _, finding in found if finding[0] != "ok")


def _loads(what: str, name: str, group: str, known: tuple[str, ...]) -> tuple[str, str]:
    if name not in known:
        try:
            registry.load_entry_point(group, name)
        except Exception as error:
            said = NEEDS_OTLP if name == "otlp_proto_http" and isinstance(error, LookupError) else error
            return "problem", f"{what} {name}: {said}; it is left out"
    return "ok", f"{what} {name}"


def _exporters(settings: Settings, environ: Mapping[str, str], *, online: bool) -> Iterator[tuple[str, str]]:
    names = [name for name in settings.traces_exporter if name != "none"]
    if not names:
        yield "note", "OTEL_TRACES_EXPORTER=none: spans go nowhere"
    for name in names:
        if name == "otlp":
            yield from probe_endpoint(settings, environ, online=online)
        elif name == "sqlite":
            yield from probe_sqlite(settings, environ)
        else:
            yield _loads("exporter", name, "opentelemetry_traces_exporter", ("console",))
    for signal, chosen in (("metrics", settings.metrics_exporter), ("logs", settings.logs_exporter)):
        yield from _signal(signal, [name for name in chosen if name != "none"], settings)
    yield from metric_findings(settings, on_lambda=on_lambda(environ))


def _signal(signal: str, names: list[str], settings: Settings) -> Iterator[tuple[str, str]]:
    if not names:
        yield "ok", f"{signal} are off (OTEL_{signal.upper()}_EXPORTER=none)"
    for name in names:
        shown = upstream_name(name, transport(settings, signal))
        level, text = _loads(f"{signal} exporter", shown, f"opentelemetry_{signal}_exporter", ())
        yield level, text if level != "ok" else f"{signal} exporter {name}"


def _instrumentors(settings: Settings) -> Iterator[tuple[str, str]]:
    when: dict[str, list[str]] = {
        "deferred": [],
        "with the SDK": [],
        "missing": [],
        "disabled": [],
        "not needed": [],
    }
    for entry in sorted(registry.instrumentor_entry_points(), key=lambda entry: entry.name):
        state = _state(entry, settings)
        if state in when:
            when[state].append(entry.name)
        else:
            yield "problem", f"{entry.name}: {state}"
    for state, text in (
        ("deferred", "deferred until their library is imported"),
        ("with the SDK", "applied with the SDK's set-up"),
        ("disabled", "switched off by OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"),
        ("not needed", "not needed, as nothing exports or marks log records"),
        ("missing", "of no use here, their library is not installed"),
    ):
        if when[state]:
            yield "ok", f"{text}: {', '.join(when[state])}"


def _state(entry: Any, settings: Settings) -> str:
    disabled = settings.disabled_instrumentations
    if entry.name in unneeded_instrumentors(settings):
        return "not needed"
    if entry.name in disabled or "*" in disabled:
        return "disabled"
    try:
        conflict = registry.entry_point_conflict(entry)
    except Exception as error:
        return f"cannot be checked: {error}"
    if conflict is not None:
        return "missing" if conflict.missing else conflict.text
    if entry.name in EAGER or entry.name in LAST or not settings.lazy_instrumentation:
        return "with the SDK"
    return "deferred" if entry.name in TABLE else "with the SDK"


def _insights(settings: Settings) -> Iterator[tuple[str, str]]:
    """In a process they are made, and their settings read, when the first local root has ended."""
    if not settings.insights:
        yield "ok", "off; SPANWELL_INSIGHTS=true says on traces what is slow, failing or repeated"
        return
    from spanwell.insight_parts import detectors

    problems: list[str] = []
    loaded = detectors(settings, problems.append)
    yield from (("problem", problem) for problem in problems)
    yield "ok", f"{len(loaded.local) + len(loaded.over_time)} detectors look at what each local root saw"


def _losses(settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if "sqlite" not in settings.traces_exporter:
        yield "ok", "each process logs at its end what it lost (the sqlite exporter would also keep a record)"
        return
    from spanwell.cli.probe import recorded_losses

    yield from recorded_losses(settings, environ)
