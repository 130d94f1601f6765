"""What is measured: each section runs its contenders side by side and gives one table."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import children, contenders, envs
from benchmarks.contenders import Contender
from benchmarks.rounds import Sample, Samples, interleave
from benchmarks.scripts import SCRIPTS
from benchmarks.table import MB, MS, US, Column, Result, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.envs import Environment
    from benchmarks.stubs import Stubs

APPS = Path(__file__).with_name("apps")
START = (Column("cpu", "CPU ms", MS), Column("wall", "wall ms", MS), Column("rss", "peak MB", MB, "plain"))


@dataclass(frozen=True)
class Bench:
    """What every section needs: environments (or why one is missing), stubs, amounts, where to report."""

    environments: Mapping[str, Environment | str]
    stubs: Stubs
    repeats: int
    quick: bool
    budget: float
    progress: Callable[[str], None]
    only: frozenset[str] = frozenset()
    home: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))

    def child(
        self, contender: Contender, command: tuple[str, ...], *, timeout: float = 60, collector: str = "http"
    ) -> children.Child:
        """Run `command` as `contender` runs it. Raises `ChildError`."""
        environment = self.environments[contender.environment]
        if isinstance(environment, str):
            raise children.ChildError(f"no environment: {environment}")
        environ = contenders.environ(contender, environment, self.stubs.ports, self.home, collector=collector)
        program, *rest = (*contender.launcher, *command)
        return children.run((str(environment.bin / program), *rest), environ, timeout)

    def traced(self, contender: Contender, command: tuple[str, ...]) -> children.Child:
        """As `child`, and make sure that its telemetry came in: a broken tracer is a cheap one."""
        before = self.stubs.received()
        child = self.child(contender, command)
        if contender.key != "bare" and self.stubs.received() == before:
            raise children.ChildError("no telemetry came in")
        return child

    def wanted(self, keys: tuple[str, ...]) -> list[str]:
        """Those of `keys` that this run measures."""
        return [key for key in keys if not self.only or key in self.only]

    def rows(
        self,
        titles: Mapping[str, str],
        jobs: Mapping[str, Callable[[], Sample]],
        *,
        share: float,
        warm: bool = True,
    ) -> list[Row]:
        """Interleave `jobs` in `share` of the whole time; a row for each."""
        found = interleave(
            jobs,
            repeats=self.repeats,
            warm=warm,
            budget=self.budget * share,
            progress=self.progress,
        )
        return [Row(key, titles[key], samples) for key, samples in found.items()]


def _titles(keys: list[str]) -> dict[str, str]:
    return {key: contenders.ALL[key].title for key in keys}


def _start(
    name: str,
    title: str,
    command: tuple[str, ...],
    keys: tuple[str, ...],
    *,
    share: float,
    traced: bool,
    letters: str = "a",
) -> Section:
    def measure(bench: Bench) -> Result:
        def job(key: str) -> Callable[[], Sample]:
            def sample() -> Sample:
                run = bench.traced if traced else bench.child
                child = run(contenders.ALL[key], ("python", *command))
                return {"cpu": child.cpu, "wall": child.wall, "rss": child.peak_rss}

            return sample

        wanted = bench.wanted(keys)
        rows = bench.rows(_titles(wanted), {key: job(key) for key in wanted}, share=share)
        return Result(name, title, START, rows, base="bare")

    return Section(name, letters, keys, measure)


def _request(bench: Bench) -> Result:
    count = "40" if bench.quick else "200"

    def job(key: str) -> Callable[[], Sample]:
        def sample() -> Sample:
            child = bench.traced(contenders.ALL[key], ("python", str(APPS / "many.py"), count))
            return {
                "cpu": child.figure("cpu_request"),
                "wall": child.figure("wall_request"),
                "rss": child.peak_rss,
            }

        return sample

    wanted = bench.wanted(REQUEST)
    rows = bench.rows(_titles(wanted), {key: job(key) for key in wanted}, share=0.2)
    title = "A request: Flask test client -> requests -> DynamoDB GetItem, export included"
    columns = (
        Column("cpu", "CPU us", US),
        Column("wall", "wall us", US),
        Column("rss", "peak MB", MB, "plain"),
    )
    return Result("request", title, columns, rows, base="bare")


# key -> (title, whose environment and variables, pipeline of apps/spans.py)
PIPELINES = {
    "api": ("API alone, no SDK", "upstream", "api"),
    "sdk": ("plain SDK, no processor", "upstream", "sdk"),
    "batch": ("plain SDK, BatchSpanProcessor (exported: upstream's OTLP)", "upstream", "batch"),
    "upstream": ("upstream's distro", "upstream", "configured"),
    "adot": ("ADOT", "adot", "configured"),
    "adot-signals": ("ADOT, Application Signals", "adot-signals", "configured"),
    "adot-unsampled": ("ADOT, Application Signals, sampling off", "adot-signals-unsampled", "configured"),
    "spanwell": ("spanwell", "instrument", "configured"),
    "spanwell-plain": ("spanwell, redaction and quiet off", "instrument-plain", "configured"),
    "insights-plain": ("the same, with insights and metrics", "instrument-insights-plain", "configured"),
    "insights": ("spanwell, everything: with insights and metrics", "instrument-insights", "configured"),
    "insights-unsampled": ("the same, sampling off", "instrument-insights-unsampled", "configured"),
    "insights-unsampled-plain": (
        "sampling, redaction and quiet off, with insights and metrics",
        "instrument-insights-unsampled-plain",
        "configured",
    ),
}


def _span(bench: Bench) -> Result:
    count = "2000" if bench.quick else "16000"

    def job(key: str) -> Callable[[], Sample]:
        _, contender, pipeline = PIPELINES[key]
        given = contenders.ALL[contender]
        plain = Contender(key, given.title, given.environment, (), given.variables)

        def sample() -> Sample:
            child = bench.child(plain, ("python", str(APPS / "spans.py"), pipeline, count))
            return {name: child.figure(name) for name in child.answer or ("span",)}

        return sample

    wanted = bench.wanted(tuple(PIPELINES))
    titles = {key: PIPELINES[key][0] for key in wanted}
    rows = bench.rows(titles, {key: job(key) for key in wanted}, share=0.15, warm=False)
    columns = (
        Column("span", "span us", US),
        Column("pair", "SERVER+CLIENT pair us", US),
        Column("pair_exported", "pair us, exported", US),
    )
    title = "CPU of a span: start and end, 5 to 9 attributes, no-op exporter; the last column through OTLP"
    return Result("span", title, columns, rows, base="batch")


def _exit(bench: Bench) -> Result:
    """The contenders of a round wait at the same time: what is measured is sleep, not work."""

    def sample(key: str, collector: str) -> float:
        command = ("python", str(APPS / "ending.py"))
        child = bench.child(contenders.ALL[key], command, timeout=90, collector=collector)
        return child.end - child.figure("over")

    def measure(key: str) -> Samples:
        samples = Samples()
        for collector in ("dead", "hanging"):
            begin = time.monotonic()
            try:
                for number in range(min(bench.repeats, 3)):
                    if number and time.monotonic() - begin > 30:
                        break
                    samples.add({collector: sample(key, collector)})
            except children.ChildError as failure:
                samples.notes[collector] = str(failure)
        return samples

    wanted = bench.wanted(EXIT)
    bench.progress("exits, all at the same time")
    with ThreadPoolExecutor(max_workers=len(wanted) or 1) as pool:
        found = dict(zip(wanted, pool.map(measure, wanted), strict=True))
    rows = [Row(key, contenders.ALL[key].title, samples) for key, samples in found.items()]
    columns = (
        Column("dead", "nothing listens, s", 1, "plain", 2),
        Column("hanging", "accepts and never answers, s", 1, "plain", 2),
    )
    return Result("exit", "Exit: from the last statement to the end of the process", columns, rows, base="")


def _size(bench: Bench) -> Result:
    rows = []
    bare = bench.environments["bare"]
    for key in bench.wanted(SIZE):
        environment = bench.environments[key]
        samples = Samples()
        if isinstance(environment, str) or isinstance(bare, str):
            samples.error = f"no environment: {environment if isinstance(environment, str) else bare}"
        else:
            (files, compiled), (less, less_compiled) = map(envs.apparent_bytes, (environment.prefix, bare.prefix))
            extra = compiled - less_compiled
            samples.add({"size": files - less + extra, "compiled": extra})
            samples.add({"dists": len(environment.packages) - len(bare.packages)})
        rows.append(Row(key, key, samples))
    columns = (
        Column("size", "MB", MB, "plain"),
        Column("compiled", "of it bytecode", MB, "plain"),
        Column("dists", "distributions", 1, "plain", 0),
    )
    return Result("size", "Installed size over the application's own packages", columns, rows, base="")


@dataclass(frozen=True)
class Section:
    """A measurement by name; `letters` group sections, `keys` are the contenders it may have."""

    name: str
    letters: str
    keys: tuple[str, ...]
    measure: Callable[[Bench], Result]
    scripts: Mapping[str, tuple[str, str, str]] | None = None

    def environments(self, only: frozenset[str]) -> set[str]:
        """The environments that this section needs for the contenders of `only` (all, if empty)."""
        keys = [key for key in self.keys if not only or key in only]
        if self.scripts is not None:
            return {self.scripts[key][1] for key in keys}
        if self.name == "size":
            return {"bare", *keys}
        if self.name == "span":
            return {contenders.ALL[PIPELINES[key][1]].environment for key in keys}
        return {contenders.ALL[key].environment for key in keys}


PASS = ("bare", "upstream", "adot", "run", "instrument")
APP = (
    "bare",
    "upstream",
    "upstream-metrics",
    "adot",
    "adot-signals",
    "xray",
    "run",
    "run-metrics",
    "instrument",
)
HANDLER = ("bare", "upstream", "adot", "xray", "run", "instrument")
REQUEST = ("bare", "upstream", "adot", "adot-signals", "xray", "run", "instrument")
EXIT = ("upstream", "upstream-default", "adot", "adot-default", "run", "run-default", "instrument")
SIZE = ("upstream", "adot", "xray", "spanwell")

SECTIONS = (
    _start("pass", "Cold start of `python -c pass`", ("-c", "pass"), PASS, share=0.08, traced=False),
    _start(
        "import",
        "Cold start of an application that imports flask, requests and boto3",
        (str(APPS / "imported.py"),),
        APP,
        share=0.2,
        traced=False,
        letters="ad",
    ),
    _start(
        "first",
        "The same application, made and serving one request",
        (str(APPS / "first.py"),),
        APP,
        share=0.17,
        traced=True,
    ),
    _start(
        "handler",
        "Cold start of a boto3-only handler, one GetItem",
        (str(APPS / "handler.py"),),
        HANDLER,
        share=0.1,
        traced=True,
    ),
    Section("span", "b", tuple(PIPELINES), _span),
    Section("request", "cd", REQUEST, _request),
    *(Section(script.name, "g", tuple(script.rows), script.measure, script.rows) for script in SCRIPTS),
    Section("size", "e", SIZE, _size),
    Section("exit", "f", EXIT, _exit),
)
