"""`python -m benchmarks.coldstart`: what a layer adds to init, the first and the warm invocations of a function.

Runs the real runtime client with each layer in turns (tests/support/lambda_runtime.py) and prints, or writes
(docs/lambda-benchmark.md), the tables. Needs the test environments of the Pythons (`python tests/run.py` makes them);
as root, layers stand at /opt itself, which other vendors' scripts expect.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from benchmarks import machine, rival_layers  # noqa: E402
from benchmarks.children import ChildError  # noqa: E402
from benchmarks.coldstart_report import APPS, NONE, Found, document  # noqa: E402
from benchmarks.envs import BuildError  # noqa: E402
from benchmarks.rounds import Sample, interleave  # noqa: E402
from support.lambda_folders import Missing, interpreter  # noqa: E402
from support.lambda_layer import unpacked  # noqa: E402
from support.lambda_runtime import Runtime, trace_header  # noqa: E402

DOCUMENT = ROOT / "docs" / "lambda-benchmark.md"
TASK = ROOT / "benchmarks" / "apps" / "coldstart"
PYTHONS = ("3.12", "3.13")
ROUNDS = 15
WARM = 40


@dataclass(frozen=True)
class Variant:
    """A layer and how it is used. `layer` gives the folder for a Python version."""

    title: str
    layer: Callable[[str], str | Path | None]
    sampled: bool = True
    otlp: bool = False
    """Whether it sends OTLP over HTTP: then the stub takes that, as a collector on the same machine would."""
    env: dict[str, str] = field(default_factory=dict)


Layer = str | Path | BuildError | None


def measure(variant: Variant, app: str, python: str, *, opt: bool, layer: Layer) -> Sample:
    """One cold start, its first invocation and WARM more. Raises ChildError when the function fails."""
    if isinstance(layer, BuildError):
        raise ChildError(f"the layer cannot be built: {layer}")
    options = {"handler": f"{app}.handler", "python": python, "env": variant.env, "opt": opt, "aws": True}
    try:
        lam = Runtime(TASK, layer=layer, **options)
        if variant.otlp and lam.aws is not None:
            lam.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = lam.aws.url
        with lam:
            return _figures(lam, variant.sampled)
    except (AssertionError, Missing) as error:
        raise ChildError(str(error)[-500:]) from error


def _figures(lam: Runtime, sampled: bool) -> Sample:
    init, init_cpu = lam.init_ms / 1e3, lam.cpu_ms() / 1e3
    first, first_billed = _invoke(lam, sampled)
    first_cpu = lam.cpu_ms() / 1e3 - init_cpu
    warm = [_invoke(lam, sampled) for _ in range(WARM)]
    return {
        "init": init,
        "init_cpu": init_cpu,
        "first": first,
        "first_billed": first_billed,
        "first_cpu": first_cpu,
        "together": init + first,
        "warm": median(one for one, _ in warm),
        "warm_billed": median(one for _, one in warm),
        "rss": lam.rss_mb() * 1e6,
    }


def _invoke(lam: Runtime, sampled: bool) -> tuple[float, float]:
    answer = lam.invoke({}, trace=trace_header(sampled=sampled), timeout=30)
    assert answer.payload == {"statusCode": 200}
    return answer.milliseconds / 1e3, answer.billed_milliseconds / 1e3


def variants(layer: str) -> dict[str, Variant]:
    """Key -> variant; `layer` is ours: "source", or a folder like an unpacked zip."""

    def ours(python: str) -> str | Path:
        return layer if layer == "source" else Path(layer)

    found = {
        NONE: Variant("no layer", lambda python: None),
        "sampled": Variant("spanwell, sampled", ours),
        "unsampled": Variant("spanwell, unsampled", ours, sampled=False),
        "eager": Variant(
            "spanwell, sampled, `SPANWELL_LAMBDA_EAGER=true`", ours, env={"SPANWELL_LAMBDA_EAGER": "true"}
        ),
    }
    return found | _rivals()


def _rivals() -> dict[str, Variant]:
    """Other vendors' layers, built from their packages."""

    def layer(name: str) -> Callable[[str], Path]:
        return lambda python: rival_layers.build(name, interpreter(python), python)

    wrapper = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/otel-instrument"}
    lite = {**wrapper, "AWS_LAMBDA_LITE_MODE": "true"}
    return {
        "adot": Variant("ADOT", layer("adot"), env=wrapper),
        "adot-fast": Variant("ADOT, fast start", layer("adot"), env=lite),
        "upstream": Variant("OpenTelemetry's", layer("upstream"), otlp=True, env=wrapper),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and perhaps write; 1 if a variant failed."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="spanwell-coldstart-") as folder:
        layer = str(unpacked(Path(folder))) if options.layer == "zip" else options.layer
        return _measure_all(options, variants(layer))


def _measure_all(options: argparse.Namespace, chosen: dict[str, Variant]) -> int:
    chosen = {key: one for key, one in chosen.items() if key == NONE or not options.only or key in options.only}
    opt = os.geteuid() == 0 and not options.no_namespace
    lines = [line for line in machine.describe(sys.executable) if not line.startswith("Python")]
    results: dict[str, dict[str, Found]] = {}
    for python in options.pythons:
        layers = {key: _built(one, python) for key, one in chosen.items()}
        for app in options.apps:
            jobs = {
                key: (lambda one=one, key=key: measure(one, app, python, opt=opt, layer=layers[key]))  # noqa: B023
                for key, one in chosen.items()
            }
            _say(f"== Python {python}, {app}")
            results.setdefault(python, {})[app] = interleave(jobs, repeats=options.rounds, progress=_say)
    titles = {key: one.title for key, one in chosen.items()}
    text = document(lines, results, titles, "python -m benchmarks.coldstart --write")
    print(text)
    if options.write:
        DOCUMENT.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(_raw(results), indent=1))
    return 1 if any(s.error for apps in results.values() for found in apps.values() for s in found.values()) else 0


def _built(variant: Variant, python: str) -> Layer:
    try:
        return variant.layer(python)
    except BuildError as error:
        return error


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coldstart", description=__doc__)
    parser.add_argument("--pythons", type=_names, default=PYTHONS, metavar="3.12,3.13")
    parser.add_argument("--apps", type=_names, default=tuple(APPS), metavar="hello,client")
    parser.add_argument("--only", type=_names, default=(), metavar="sampled,adot", help="only these and no layer")
    parser.add_argument(
        "--layer", default="source", metavar="FOLDER", help="an unpacked layer in place of the source"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-namespace", action="store_true", help="do not mount the layer on /opt")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw samples")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _raw(results: dict[str, dict[str, Found]]) -> dict[str, dict[str, dict[str, object]]]:
    return {
        python: {
            app: {key: s.values or {"error": s.error} for key, s in found.items()} for app, found in apps.items()
        }
        for python, apps in results.items()
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
