"""Sections that are one script each: a row runs it in its environment with its argument; it prints figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.contenders import Contender
from benchmarks.table import MB, US, Column, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.rounds import Sample
    from benchmarks.sections import Bench


@dataclass(frozen=True)
class Script:
    """rows: key -> (title, environment, first argument). counts: the second one, in a quick run and a full one.

    once: it takes a minute, and one round is enough.
    """

    name: str
    title: str
    file: str
    rows: Mapping[str, tuple[str, str, str]]
    columns: tuple[Column, ...]
    base: str = ""
    counts: tuple[str, str] | None = None
    once: bool = False

    def measure(self, bench: Bench) -> Result:
        """Run every row in turns."""
        from benchmarks.sections import APPS

        counts = () if self.counts is None else (self.counts[0 if bench.quick else 1],)

        def job(key: str) -> Callable[[], Sample]:
            _, environment, argument = self.rows[key]
            plain = Contender(key, key, environment)

            def sample() -> Sample:
                child = bench.child(plain, ("python", str(APPS / self.file), argument, *counts), timeout=180)
                return {metric: float(value) for metric, value in child.answer.items()}

            return sample

        wanted = bench.wanted(tuple(self.rows))
        titles = {key: self.rows[key][0] for key in wanted}
        if self.once:
            bench = replace(bench, repeats=1)
        found = bench.rows(titles, {key: job(key) for key in wanted}, share=0.05, warm=False)
        return Result(self.name, self.title, self.columns, found, self.base)


_LOSSES = (
    Column("lost", "spans lost", 1, "plain", 0),
    Column("uncounted", "of them not counted", 1, "plain", 0),
    Column("cpu", "CPU us a span, export included", US),
    Column("held", "MB more at the peak", MB, "plain"),
)

SCRIPTS = (
    Script(
        "decision",
        "CPU of a sampling decision that keeps; 25 rules, the last matches, no path comes twice",
        "decisions.py",
        {
            "sdk": ("SDK's ParentBased(TraceIdRatioBased)", "upstream", "sdk"),
            "adot": ("ADOT's X-Ray sampler", "adot", "adot"),
            "xray": ("spanwell `xray`", "spanwell", "xray"),
            "tail": ("spanwell `tail` over `xray`", "spanwell", "tail"),
            "budget": ("spanwell `budget`", "spanwell", "budget"),
        },
        (
            Column("prefix", "prefix globs, us", US, digits=2),
            Column("varied", "several globs in each rule, us", US, digits=2),
            Column("sampled", "sampled parent, us", US, digits=2),
            Column("unsampled", "unsampled parent, us", US, digits=2),
        ),
        "sdk",
        ("4000", "40000"),
    ),
    Script(
        "glob",
        "A glob that fails late (ADOT's is only measured on the short text: it backtracks)",
        "globs.py",
        {"adot": ("ADOT", "adot", "adot"), "spanwell": ("spanwell", "spanwell", "spanwell")},
        (
            Column("short", "4 stars, 200 characters, us", US, "plain"),
            Column("long", "4 stars, 10,000 characters, us", US, "plain"),
            Column("worst", "128-character patterns, 10,000 characters, worst, us", US, "plain"),
        ),
    ),
    Script(
        "tail",
        "CPU of a span in a trace of five; memory under 1,000 concurrent traces that never end",
        "tails.py",
        {
            "always": ("SDK, its default sampler, recording", "spanwell", "always"),
            "tail": ("`tail` with its defaults", "spanwell", "tail"),
        },
        (Column("span", "span us", US, digits=2), Column("held", "held MB", MB, "plain")),
        "always",
        ("2000", "10000"),
    ),
    Script(
        "headers",
        "CPU of the context of one message, W3C and X-Ray headers both",
        "headers.py",
        {
            "upstream": ("upstream's composite", "adot", "upstream"),
            "spanwell": ("spanwell", "spanwell", "spanwell"),
        },
        (
            Column("inject", "inject, us", US, digits=2),
            Column("extract", "extract, us", US, digits=2),
        ),
        "upstream",
        ("4000", "40000"),
    ),
    Script(
        "enrichment",
        "CPU of enrichment, redaction and quiet together, a span (mean of HTTP server, HTTP client, SQL, DynamoDB)",
        "enrichment.py",
        {
            "repeated": ("values that come again", "spanwell", "repeated"),
            "varied": ("new values in every span", "spanwell", "varied"),
        },
        (Column("span", "span us", US, "plain", 2),),
        "",
        ("2000", "8000"),
    ),
    Script(
        "insights",
        "All detectors and RED metrics, nothing else of ours before them; no-op exporter",
        "insights.py",
        {
            "batch": ("plain SDK, BatchSpanProcessor", "spanwell", "batch"),
            "insights": ("insights and RED metrics", "spanwell", "insights"),
        },
        (
            Column("pair", "SERVER+CLIENT pair us", US),
            Column("span", "of it a span, us", US, digits=2),
            Column("short", "span of a trace of 100, us", US),
            Column("long", "span of a trace of 10,000, us", US),
            Column("held", "10,000 live traces of 5, MB", MB, "plain"),
        ),
        "batch",
        ("4000", "16000"),
    ),
    Script(
        "encoding",
        "CPU of a span's way to the bytes of an OTLP request of 512; five attributes",
        "encoding.py",
        {
            "upstream": ("upstream's encoder", "upstream", "upstream"),
            "spanwell": ("spanwell", "spanwell", "spanwell"),
        },
        (
            Column("repeated", "attributes that come again, us", US, digits=2),
            Column("varied", "3 of 5 new, us", US, digits=2),
            Column("events", "and an event, us", US, digits=2),
        ),
        "upstream",
        ("4096", "20480"),
    ),
    Script(
        "export",
        "CPU of a span from its end to a receiver: encode and send, 512 a request",
        "exporting.py",
        {
            "upstream": ("upstream's OTLP exporter", "upstream", "upstream"),
            "spanwell": ("spanwell's", "spanwell", "spanwell"),
        },
        (
            Column("repeated", "encode and send, repeated values, us", US, digits=2),
            Column("varied", "encode and send, varied values, us", US, digits=2),
        ),
        "upstream",
        ("4000", "20000"),
    ),
    Script(
        "burst",
        "200,000 spans in a tight loop; the receiver answers after up to 50 ms",
        "bursts.py",
        {
            "sdk": ("SDK's BatchSpanProcessor, upstream's OTLP exporter", "upstream", "sdk"),
            "spanwell": ("spanwell, no enrichment", "spanwell", "spanwell"),
        },
        _LOSSES,
        "sdk",
        ("20000", "200000"),
    ),
    Script(
        "steady",
        "20,000 spans a second for a minute; the same receiver",
        "bursts.py",
        {
            "sdk": ("SDK's BatchSpanProcessor, upstream's OTLP exporter", "upstream", "sdk-steady"),
            "spanwell": ("spanwell, no enrichment", "spanwell", "spanwell-steady"),
        },
        _LOSSES,
        "sdk",
        ("1", "60"),
        once=True,
    ),
)
