"""What goes into the layer and what stays out; pure, by names."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")

EXTRAS = ("instruments",)
"""A function's libraries are instrumented when it imports them, so all the small instrumentors are there."""

LEFT_OUT = (
    # For people at a terminal: the commands, what reads traces back, the demo, what is for the tests of users.
    "spanwell/cli/*",
    "spanwell/explore/*",
    "spanwell/testing/*",
    "spanwell/_shop/*",
    "spanwell/__main__.py",
    # What starts processes that are no functions.
    "spanwell/_boot/*",
    "spanwell/distro.py",
    "opentelemetry/instrumentation/auto_instrumentation/*",
    "opentelemetry/instrumentation/bootstrap*.py",
    # For type checkers, compilers and shells.
    "*.pyi",
    "*/py.typed",
    "*.c",
    "wrapt-stubs/*",
    "bin/*",
    # Machine code: 6 MB for all runtimes and both architectures. wrapt does the same in Python.
    "*.so",
    # Who installed it, and what was installed: it lists files that are left out here.
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/WHEEL",
    "*.dist-info/direct_url.json",
    "*.dist-info/uv_*",
    "*.dist-info/top_level.txt",
)

FORBIDDEN = frozenset(
    {"boto3", "botocore", "certifi", "charset_normalizer", "grpc", "google", "idna", "requests", "urllib3"}
)
"""Packages that have no business in the layer: a build that finds one fails."""

WORKS_WITHOUT_MACHINE_CODE = frozenset({"wrapt"})

UNCHANGED = (
    # Its messages quote docstrings.
    "spanwell/settings.py",
)

RARE = (
    # The instrumentors of what hardly any function imports, or never.
    *(
        f"opentelemetry/instrumentation/{name}/*"
        for name in (
            "aio_pika",
            "aiohttp_server",
            "aiokafka",
            "celery",
            "confluent_kafka",
            "falcon",
            "grpc",
            "kafka",
            "pika",
            "tornado",
        )
    ),
    "opentelemetry/instrumentation/sqlcommenter*.py",
    # spanwell checks versions and finds resources itself.
    "packaging/*",
    "opentelemetry/sdk/extension/aws/*",
    "opentelemetry/propagators/aws/*",
    "opentelemetry/sdk/_configuration/*",
    # What spanwell has in their place, or no function uses. Logs over OTLP need packages that are not in the layer.
    "opentelemetry/sdk/_logs/*",
    "opentelemetry/sdk/*/in_memory_*.py",
    "opentelemetry/semconv/_incubating/metrics/*",
    "opentelemetry/semconv/_incubating/attributes/gen_ai_attributes.py",
    "opentelemetry/semconv/_incubating/attributes/system_attributes.py",
    "opentelemetry/instrumentation/*/sqlcommenter_middleware.py",
    "opentelemetry/sdk/trace/_sampling_experimental/*",
    "opentelemetry/instrumentation/botocore/extensions/bedrock*.py",
    "asgiref/typing.py",
    "asgiref/server.py",
    "asgiref/testing.py",
    "asgiref/wsgi.py",
    "asgiref/timeout.py",
    # Exporters of long-lived processes, samplers that poll, read files or learn, detectors of other places.
    "spanwell/declarative.py",
    "spanwell/attach.py",
    "spanwell/environment_variables.py",
    "spanwell/export/cloudwatch_*.py",
    "spanwell/export/dead_letter.py",
    "spanwell/export/dynamodb*.py",
    "spanwell/export/emf_logs.py",
    "spanwell/export/kinesis*.py",
    "spanwell/export/signals*.py",
    "spanwell/export/sqlite*.py",
    "spanwell/export/span_rows.py",
    "spanwell/schema.py",
    "spanwell/export/xray_api.py",
    "spanwell/enrich/app_signals.py",
    "spanwell/enrich/signal_counts.py",
    "spanwell/enrich/container.py",
    "spanwell/enrich/kubernetes.py",
    "spanwell/sampling/adaptive*.py",
    "spanwell/sampling/centralized.py",
    "spanwell/sampling/client.py",
    "spanwell/sampling/glob.py",
    "spanwell/sampling/local.py",
    "spanwell/sampling/polling.py",
    "spanwell/sampling/remote.py",
    "spanwell/sampling/rules*.py",
    "spanwell/sampling/tail*.py",
    "spanwell/sampling/targets.py",
)
"""Modules whose bytecode is only in the zips of a single version; elsewhere Python compiles them when asked."""

CONVENTIONS = "opentelemetry/semconv/"


_WORD = re.compile(rb"[a-z_0-9]+")


def wanted(name: str) -> bool:
    """Whether the file `name` of an installed package goes into the layer."""
    return not _any(name, LEFT_OUT)


def slimmed(name: str) -> bool:
    """Whether comments and docstrings go."""
    return name.endswith(".py") and not _any(name, UNCHANGED)


def rare(name: str, words: Container[str]) -> bool:
    """Whether the zip for all versions has no bytecode of the module.

    `words` are those in the sources but the conventions': of these, a hundred small modules, a few are ever imported.
    """
    module = name.rpartition("/")[2].removesuffix(".py")
    unused = name.startswith(CONVENTIONS) and module != "__init__" and module not in words
    return unused or _any(name, RARE)


def words(sources: Iterable[tuple[str, bytes]]) -> set[str]:
    """The words in (name, content) of sources, for `rare`."""
    texts = (data for name, data in sources if name.endswith(".py") and not name.startswith(CONVENTIONS))
    return {word.decode() for text in texts for word in _WORD.findall(text)}


def is_license(name: str) -> bool:
    """Whether this is the text of a licence or a notice."""
    folder, _, rest = name.partition(".dist-info/")
    return bool(rest) and "/" not in folder and rest.upper().startswith(("LICEN", "NOTICE", "COPYING", "AUTHORS"))


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def headers(metadata: str) -> str:
    """What programs read of METADATA: names, versions and requirements, without the description."""
    kept = ("Metadata-Version:", "Name:", "Version:", "License-Expression:", "Requires-Python:", "Requires-Dist:")
    head = metadata.partition("\n\n")[0].splitlines()
    return "\n".join(line for line in head if line.startswith((*kept, "Provides-Extra:"))) + "\n"
