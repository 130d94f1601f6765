"""OTEL_CONFIG_FILE: OpenTelemetry's declarative configuration, with our settings and processors added.

Our settings stand in the file as ``distribution: {spanwell: {shutdown_timeout: 2}}``, the keys being the variables
without SPANWELL_ in lower case; environment variables win. Upstream's `configure_sdk` builds everything the file
names; spanwell adds its span processor, bounds the exit and leaves the exporters as the file has them.
"""

from __future__ import annotations

import os

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from spanwell import __version__, plugins
from spanwell._guard import guard, warn_once
from spanwell._otel import exporting, sdk
from spanwell.attach import promoter
from spanwell.ids import XRayIdGenerator
from spanwell.pipeline import enrichment, quiet_sampler, quiet_stages
from spanwell.propagators import install
from spanwell.sampling import observe
from spanwell.sampling.undecided import UndecidedSampler
from spanwell.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from opentelemetry.sdk.trace.sampling import Sampler

    from spanwell.configurator import Wiring

MISSING = "OTEL_CONFIG_FILE is set, but opentelemetry-configuration is not installed: pip install 'spanwell[config]'"


def section(path: str) -> tuple[str, Mapping[str, str]]:
    """(source name, variables) of the file's `distribution: spanwell:`, for `Settings.from_env`.

    Raises RuntimeError without the `config` extra, and what upstream raises for a file it cannot use.
    """
    return f"{path} (distribution: spanwell)", _variables(_load(path))


def _load(path: str) -> Any:
    try:
        from opentelemetry.configuration import load_config_file
    except ImportError as error:
        raise RuntimeError(MISSING) from error
    with exporting.quiet_config_loader():
        return load_config_file(path)


def _variables(config: Any) -> dict[str, str]:
    ours = (config.distribution or {}).get("spanwell")
    if not isinstance(ours, dict):
        return {}
    known = {row.variable for row in Settings.rows()}
    found: dict[str, str] = {}
    for key, value in ours.items():
        variable = f"SPANWELL_{str(key).upper()}"
        if variable in known:
            found[variable] = ",".join(map(str, value)) if isinstance(value, list) else _text(value)
        else:
            warn_once(f"config:{key}", "spanwell: distribution.spanwell.%s in OTEL_CONFIG_FILE is not a setting", key)
    return found


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def configure_from_file(settings: Settings, wiring: Wiring) -> None:
    """Set up the SDK from the file. A file that cannot be used costs all telemetry and is said in one line."""
    try:
        config = _load(settings.config_file)
        from opentelemetry.configuration import configure_sdk

        configure_sdk(config)
    except Exception as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        warn_once(
            "config", "spanwell: OTEL_CONFIG_FILE=%r: %s; nothing is traced", settings.config_file, problem[:500]
        )
        return
    if config.propagator is None:  # as the specification wants it, but see `install`
        install([])
    source = f"{settings.config_file} (distribution: spanwell)"
    adopted = Settings.from_env(os.environ, layers=((source, _variables(config)),))
    for problem in adopted.problems:
        warn_once(f"setting:{problem}", "spanwell: %s", problem)
    wiring.adopt(adopted)
    wiring.has_metrics = config.meter_provider is not None
    wiring.has_logs = config.logger_provider is not None
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        _join(provider, wiring, config.tracer_provider)
    _bound_exit(wiring)


def file_exporters(path: str) -> tuple[Resource, list[Any]]:
    """The resource and the exporters of spans that the file at `path` names, for the process that tests them.

    Sets the global tracer provider. Raises what `section` raises, and what upstream does for an exporter it cannot
    make.
    """
    config = _load(path)
    from opentelemetry.configuration import configure_sdk

    config.meter_provider = config.logger_provider = None  # nobody asked for what they would send at exit
    configure_sdk(config)
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return Resource.get_empty(), []
    sdk.without_exit_handler(provider)
    return provider.resource, sdk.span_exporters(provider)


def _join(provider: TracerProvider, wiring: Wiring, config: Any) -> None:
    """Our ids, sampler wrapper and enrichment go into what the file built; no tracer was handed out yet."""
    named_ids = config.id_generator is not None
    wiring.resource = provider.resource
    wiring.sampler = provider.sampler.get_description()
    wiring.exporters = [f"as in {wiring.settings.config_file}"]
    wiring.root_sampler = _with_options(provider.sampler, config)
    provider.sampler = quiet_sampler(UndecidedSampler(wiring.root_sampler), wiring.settings, wiring)
    if not named_ids:
        provider.id_generator = XRayIdGenerator()  # type: ignore[assignment]
    observe.register(metrics.get_meter("spanwell.sampling", __version__), wiring.root_sampler)
    if wiring.quiet is not None:
        observe.count_quiet(metrics.get_meter("spanwell", __version__), wiring.quiet)
    stages = quiet_stages(wiring.settings, wiring, promoter(provider))
    sdk.add_first(provider, enrichment(wiring.settings, wiring, stages))
    if wiring.has_metrics:
        with guard("metrics of insights"):
            _count(wiring)


def _count(wiring: Wiring) -> None:
    from spanwell.metrics import add_counted

    add_counted(sdk.metric_readers(metrics.get_meter_provider()), wiring.red)
    if wiring.vitals is not None:
        wiring.vitals.register(metrics.get_meter("spanwell", __version__))


def _with_options(built: Sampler, config: Any) -> Sampler:
    """The file's sampler with its options, where it is one of ours: upstream discards them."""
    named = dict(getattr(config.sampler, "additional_properties", None) or {})
    for name, options in named.items():
        factory = getattr(plugins, name, None) if name in plugins.__all__ else None
        if factory is not None and isinstance(options, dict) and options:
            made: Sampler = factory(argument(options))
            return made
    return built


def argument(options: Mapping[str, Any], separator: str = ",") -> str:
    """A sampler's options as OTEL_TRACES_SAMPLER_ARG has them; a mapping is a nested sampler with its options."""
    return separator.join(
        f"{key}={_nested(each) if isinstance(each, dict) else _text(each)}"
        for key, value in options.items()
        for each in (value if isinstance(value, list) else [value])
    )


def _nested(sampler: Mapping[str, Any]) -> str:
    """`{ratio: 0.1}` and `{xray: {endpoint: aws}}` as `(ratio;0.1)` and `(xray;endpoint=aws)`."""
    name, options = next(iter(sampler.items()), ("", None))
    given = argument(options, ";") if isinstance(options, dict) else "" if options is None else _text(options)
    return f"({name};{given})" if given else f"({name})"


def _bound_exit(wiring: Wiring) -> None:
    """The file's processors end within our budget, instead of 30 s each."""
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()):
        sdk.without_exit_handler(provider)
        for begin, finish in sdk.shutdowns(provider):
            wiring.exit.add(begin, finish)
