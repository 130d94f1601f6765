"""Every setting, declared once: the variable's name, its type, its default and one sentence.

`Settings.from_env(mapping)` is the only reader of the environment besides the boot module. A bad value never
stops the application: the default is used, and `Settings.problems` holds one line that names the variable, the
value and what is used instead. docs/settings.md is generated from these rows (`python -m spanwell.settings`).

Not a dataclass: importing `dataclasses` costs more than everything else that `spanwell run` does at start
(RATIONALE.md, "Settings without dataclasses").
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Generic, TypeVar, overload

    T = TypeVar("T")
    Names = tuple[str, ...]
    Pairs = tuple[tuple[str, str], ...]
else:
    Names = Pairs = tuple

    class _Subscriptable:
        def __class_getitem__(cls, _):
            return cls

    Generic, T = _Subscriptable, None

    def overload(function):
        return function


# --- types: text -> value; each raises ValueError with what it wants -----------------------------------------


def text(raw: str) -> str:
    """any text"""
    return raw


def secret(raw: str) -> str:
    """any text, never shown"""
    return raw


def names(raw: str) -> tuple[str, ...]:
    """a comma-separated list"""
    return tuple(part.strip() for part in raw.split(",") if part.strip())


def pairs(raw: str) -> tuple[tuple[str, str], ...]:
    """`key=value,…`"""
    found = []
    for part in names(raw):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise ValueError("`key=value,…`")
        if "%" in value:
            from urllib.parse import unquote

            value = unquote(value)
        found.append((key.strip(), value.strip()))
    return tuple(found)


def lines(raw: str) -> tuple[str, ...]:
    """a list separated by `;;`"""
    return tuple(part.strip() for part in raw.split(";;") if part.strip())


def boolean(raw: str) -> bool:
    """true or false"""
    value = raw.lower()
    if value in ("true", "1", "yes", "on"):
        return True
    if value in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false")


def otel_boolean(raw: str) -> bool:
    """true or false"""
    value = raw.lower()
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("true or false")


def seconds(raw: str) -> float:
    """a number of seconds, 0 or more"""
    value = float(raw)
    if not 0 <= value < float("inf"):
        raise ValueError("a number of seconds, 0 or more")
    return value


def natural(raw: str) -> int:
    """a whole number, 0 or more"""
    value = int(raw)
    if value < 0:
        raise ValueError("a whole number, 0 or more")
    return value


def positive(raw: str) -> int:
    """a whole number, 1 or more"""
    value = int(raw)
    if value < 1:
        raise ValueError("a whole number, 1 or more")
    return value


def days(raw: str) -> int:
    """a whole number from 1 to 36500"""
    value = positive(raw)
    if value > 36_500:
        raise ValueError("a whole number from 1 to 36500")
    return value


def choice(*allowed: str) -> Callable[[str], str]:
    """One of the words `allowed`, in any case."""

    def parse(raw: str) -> str:
        if raw.lower() not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return raw.lower()

    parse.__doc__ = "one of " + ", ".join(f"`{word}`" for word in allowed)
    return parse


class Setting(Generic[T]):
    """One row of the table: a descriptor that reads its value from the frozen `Settings`."""

    __slots__ = ("attribute", "default", "parse", "shown", "text", "variable")

    def __init__(
        self, variable: str, parse: Callable[[str], T], default: T, text: str, *, shown: str | None = None
    ) -> None:
        self.variable = variable
        self.parse = parse
        self.default = default
        self.text = text
        self.shown = shown
        self.attribute = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> Setting[T]: ...
        @overload
        def __get__(self, instance: Settings, owner: type) -> T: ...
        def __get__(self, instance: Settings | None, owner: type) -> Any: ...
    else:

        def __get__(self, instance, owner):
            return self if instance is None else instance._values[self.attribute]

        def __set__(self, instance, value):
            raise AttributeError(f"Settings are frozen: {self.attribute}")


PROTOCOLS = ("http/protobuf", "grpc", "http/json")
COMPRESSIONS = ("none", "gzip", "deflate")


class Settings:
    """The effective settings of one process, frozen. `sources` says where each value came from."""

    __slots__ = ("_values", "problems", "sources")
    _values: dict[str, Any]
    sources: dict[str, str]
    problems: tuple[str, ...]

    # --- spanwell's own -------------------------------------------------------------------------------------
    lazy_instrumentation = Setting(
        "SPANWELL_LAZY_INSTRUMENTATION",
        boolean,
        True,
        "Load an instrumentor when its library is first imported; false instruments everything at start.",
    )
    disabled = Setting(
        "SPANWELL_DISABLED",
        boolean,
        False,
        "Lambda: leave the function alone; nothing is imported and nothing wrapped.",
    )
    lambda_eager = Setting(
        "SPANWELL_LAMBDA_EAGER",
        boolean,
        False,
        "Lambda: set the SDK up during INIT, not at the first invocation that may be exported.",
    )
    lambda_flush_timeout = Setting(
        "SPANWELL_LAMBDA_FLUSH_TIMEOUT",
        seconds,
        0.9,
        "Lambda: seconds that exporting may hold up the response at most; each destination is tried once.",
    )
    lambda_metrics = Setting(
        "SPANWELL_LAMBDA_METRICS",
        choice("none", "emf"),
        "none",
        "Lambda: `emf` counts slow and failed invocations, sampled or not, as metrics on stdout (they are billed);"
        " cold starts and near timeouts where SPANWELL_CLOUDWATCH_METRICS lists them.",
    )
    otlp = Setting(
        "SPANWELL_OTLP",
        choice("spanwell", "upstream"),
        "spanwell",
        "Which exporter of traces `otlp` over HTTP means: spanwell's own, or upstream's, of the `otlp` extra.",
    )
    shutdown_timeout = Setting(
        "SPANWELL_SHUTDOWN_TIMEOUT",
        seconds,
        1.0,
        "Seconds that exporting what is left may hold up the exit of the process, over all exporters together.",
    )
    export_buffer_mb = Setting(
        "SPANWELL_EXPORT_BUFFER_MB",
        positive,
        32,
        "MB (10^6 bytes) of spans that wait for one exporter at most, where they wait in encoded form.",
    )
    export_drop = Setting(
        "SPANWELL_EXPORT_DROP",
        choice("oldest", "newest"),
        "oldest",
        "Which spans go, counted, when no more may wait for an exporter.",
    )
    sqlite_path = Setting(
        "SPANWELL_SQLITE_PATH",
        text,
        "",
        "File that the `sqlite` exporter writes and `spanwell traces` reads.",
        shown="spanwell/traces.db under XDG_STATE_HOME (else ~/.local/state)",
    )
    sqlite_max_mb = Setting(
        "SPANWELL_SQLITE_MAX_MB",
        positive,
        512,
        "Size in MB (10^6 bytes) above which the `sqlite` exporter removes the oldest traces.",
    )
    dynamodb_table = Setting(
        "SPANWELL_DYNAMODB_TABLE",
        text,
        "spanwell-traces",
        "Table of the traces exporter `dynamodb` and of `--store dynamodb`; `spanwell dynamodb create` makes it.",
    )
    retention_days = Setting(
        "SPANWELL_RETENTION_DAYS", days, 30, "Days after which DynamoDB deletes what `dynamodb` stored."
    )
    kinesis_stream = Setting(
        "SPANWELL_KINESIS_STREAM",
        text,
        "",
        "Name or ARN of the stream of the traces exporter `kinesis` (docs/kinesis.md); spanwell creates none.",
    )
    kinesis_format = Setting(
        "SPANWELL_KINESIS_FORMAT", choice("protobuf", "json"), "protobuf", "OTLP encoding of a Kinesis record."
    )
    kinesis_compression = Setting(
        "SPANWELL_KINESIS_COMPRESSION", choice("none", "gzip"), "none", "Compression of a Kinesis record."
    )
    kinesis_dead_letter = Setting(
        "SPANWELL_KINESIS_DEAD_LETTER",
        text,
        "",
        "File, of at most 64 MB, for the records that `kinesis` gives up, to be sent again (docs/kinesis.md).",
    )
    sqs_context = Setting(
        "SPANWELL_SQS_CONTEXT",
        boolean,
        True,
        "Send the trace context with SQS messages (AWSTraceHeader system attribute) and ask for it on receive.",
    )
    sqs_process_spans = Setting(
        "SPANWELL_SQS_PROCESS_SPANS",
        boolean,
        True,
        "Open a CONSUMER `process` span for each message while the application iterates a ReceiveMessage result.",
    )
    message_context = Setting[Names](
        "SPANWELL_MESSAGE_CONTEXT",
        names,
        (),
        "What carries the trace context besides the default: `sqs_attributes`, `eventbridge_detail`, `kinesis`,"
        " `firehose`; and what does not: `-sns`, `-eventbridge`, `-stepfunctions`, `-lambda`, `-kinesis_spans`"
        " (docs/aws-context.md).",
    )
    quiet = Setting[Names](
        "SPANWELL_QUIET",
        names,
        ("health", "polls", "credentials"),
        "What is exported only if it fails: `health`, `polls`, `credentials`, `path:<glob>`, `agent:<text>`,"
        " `host:<name>`; `none` for nothing (docs/quiet-and-traffic.md).",
    )
    log_ids = Setting(
        "SPANWELL_LOG_CORRELATION",
        boolean,
        True,
        "Put the trace and span id on every log record (logging, structlog, loguru); formats stay as they are"
        " (docs/logs.md).",
    )
    executors = Setting(
        "SPANWELL_EXECUTORS",
        boolean,
        True,
        "Let the context follow work into thread pools and process pools (docs/executors.md).",
    )
    baggage_keys = Setting[Names](
        "SPANWELL_BAGGAGE_KEYS",
        names,
        (),
        "Baggage entries that every span gets as attributes; `*` at the end of a key stands for anything.",
    )
    span_attributes = Setting[Pairs](
        "SPANWELL_SPAN_ATTRIBUTES",
        pairs,
        (),
        "Attributes that every span gets unless it has them; percent-encoded as in OTEL_RESOURCE_ATTRIBUTES.",
    )
    annotations = Setting[Names](
        "SPANWELL_ANNOTATIONS",
        names,
        (),
        "Attributes that X-Ray indexes; `*` at the end of a key stands for anything (docs/enrichment.md).",
    )
    application_signals = Setting(
        "SPANWELL_APPLICATION_SIGNALS",
        boolean,
        False,
        "CloudWatch Application Signals: its names of services and operations on spans, and its metrics"
        " (docs/metrics.md).",
        shown="OTEL_AWS_APPLICATION_SIGNALS_ENABLED",
    )
    redaction = Setting(
        "SPANWELL_REDACTION",
        boolean,
        True,
        "Remove credentials, tokens, e-mail addresses and card numbers from spans (docs/redaction.md).",
    )
    redact_keys = Setting[Names](
        "SPANWELL_REDACT_KEYS", names, (), "Attributes whose whole value is removed; `*` at the end of a key."
    )
    redact_keep_keys = Setting[Names](
        "SPANWELL_REDACT_KEEP_KEYS", names, (), "Attributes that are never changed; `*` at the end of a key."
    )
    redact_patterns = Setting[Names](
        "SPANWELL_REDACT_PATTERNS",
        lines,
        (),
        "More to remove: regular expressions, separated by `;;`.",
    )
    insights = Setting(
        "SPANWELL_INSIGHTS",
        boolean,
        False,
        "Say on a trace, in metrics and as log events what is slow, failing, retried or repeated (docs/insights.md).",
    )
    insight_thresholds = Setting[Names](
        "SPANWELL_INSIGHT_THRESHOLDS",
        names,
        (),
        "Thresholds of insights: `slow_trace.duration_ms=3000`, and for one operation"
        " `slow_trace.duration_ms@GET /export=20000`.",
    )
    insights_disabled = Setting[Names](
        "SPANWELL_INSIGHTS_DISABLED", names, (), "Insights that are not looked for, e.g. `cold_start,slow_db`."
    )
    cloudwatch_metrics = Setting[Names](
        "SPANWELL_CLOUDWATCH_METRICS",
        names,
        (),
        "What the metrics exporters `cloudwatch` and `emf` send beside `slow_trace`, `trace_errors` and"
        " `high_service_count`: insights (`slow_db`; `insights` for all) and metrics, by sets of dimensions"
        " (`entry.duration:operation+outcome/service`, `http.server.*`; docs/metrics.md).",
    )
    metrics_dimensions = Setting[Names](
        "SPANWELL_METRICS_DIMENSIONS",
        names,
        (),
        "Sets of attributes that become dimensions, for metrics without their own: `operation+outcome,service`.",
        shown="ServiceName alone",
    )
    metrics_namespace = Setting(
        "SPANWELL_METRICS_NAMESPACE",
        text,
        "DistributedTracing/Insights",
        "CloudWatch namespace of what `cloudwatch` and `emf` send beside insights, which stay in the default.",
    )
    emf_log_group = Setting(
        "SPANWELL_EMF_LOG_GROUP",
        text,
        "",
        "Log group that the metrics exporter `emf` writes to by PutLogEvents.",
        shown="stdout",
    )
    emf_log_stream = Setting(
        "SPANWELL_EMF_LOG_STREAM",
        text,
        "",
        "Log stream in SPANWELL_EMF_LOG_GROUP; it is created.",
        shown="one for each process",
    )
    emf_create_log_group = Setting(
        "SPANWELL_EMF_CREATE_LOG_GROUP", boolean, False, "Create SPANWELL_EMF_LOG_GROUP if it does not exist."
    )
    resource_timeout = Setting(
        "SPANWELL_RESOURCE_TIMEOUT",
        seconds,
        0.3,
        "Seconds that AWS resource detection may spend on the network in all; 0 uses local evidence only.",
    )
    startup_summary = Setting(
        "SPANWELL_STARTUP_SUMMARY",
        boolean,
        True,
        "Log one INFO line at start: service, exporter, sampler, propagators, instrumentors.",
    )

    # --- OpenTelemetry's, with this distro's defaults -----------------------------------------------------------
    sdk_disabled = Setting("OTEL_SDK_DISABLED", otel_boolean, False, "Switch all telemetry off.")
    config_file = Setting(
        "OTEL_CONFIG_FILE",
        text,
        "",
        "Declarative configuration (YAML); needs the `config` extra; our settings stand under"
        " `distribution: spanwell:`.",
    )
    service_name = Setting("OTEL_SERVICE_NAME", text, "", "The service's name.", shown="see docs/resource.md")
    resource_attributes = Setting("OTEL_RESOURCE_ATTRIBUTES", text, "", "Resource attributes, `key=value,…`.")
    traces_exporter = Setting[Names]("OTEL_TRACES_EXPORTER", names, ("otlp",), "Where spans go.")
    metrics_exporter = Setting[Names]("OTEL_METRICS_EXPORTER", names, ("none",), "Where metrics go.")
    logs_exporter = Setting[Names]("OTEL_LOGS_EXPORTER", names, ("none",), "Where log records go.")
    protocol = Setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL", choice(*PROTOCOLS), "http/protobuf", "OTLP transport of all signals."
    )
    traces_protocol = Setting(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        choice(*PROTOCOLS),
        "",
        "OTLP transport of traces.",
        shown="OTEL_EXPORTER_OTLP_PROTOCOL",
    )
    metrics_protocol = Setting(
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        choice(*PROTOCOLS),
        "",
        "OTLP transport of metrics.",
        shown="OTEL_EXPORTER_OTLP_PROTOCOL",
    )
    logs_protocol = Setting(
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
        choice(*PROTOCOLS),
        "",
        "OTLP transport of log records.",
        shown="OTEL_EXPORTER_OTLP_PROTOCOL",
    )
    endpoint = Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        text,
        "",
        "OTLP endpoint of all signals.",
        shown="http://localhost:4318",
    )
    traces_endpoint = Setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        text,
        "",
        "OTLP endpoint of traces, used as it is.",
        shown="OTEL_EXPORTER_OTLP_ENDPOINT + /v1/traces",
    )
    headers = Setting(
        "OTEL_EXPORTER_OTLP_HEADERS", secret, "", "OTLP headers of all signals, `name=value,…`, percent-encoded."
    )
    traces_headers = Setting(
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        secret,
        "",
        "OTLP headers of traces.",
        shown="OTEL_EXPORTER_OTLP_HEADERS",
    )
    certificate = Setting(
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        text,
        "",
        "File (PEM) of the certificates that OTLP endpoints are trusted by.",
        shown="what Python trusts",
    )
    traces_certificate = Setting(
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        text,
        "",
        "The same for traces.",
        shown="OTEL_EXPORTER_OTLP_CERTIFICATE",
    )
    client_certificate = Setting(
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", text, "", "File (PEM) of the certificate that says who we are."
    )
    traces_client_certificate = Setting(
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
        text,
        "",
        "The same for traces.",
        shown="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    )
    client_key = Setting("OTEL_EXPORTER_OTLP_CLIENT_KEY", text, "", "File (PEM) of the key to that certificate.")
    traces_client_key = Setting(
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
        text,
        "",
        "The same for traces.",
        shown="OTEL_EXPORTER_OTLP_CLIENT_KEY",
    )
    insecure = Setting(
        "OTEL_EXPORTER_OTLP_INSECURE",
        otel_boolean,
        False,
        "Credentials may go to `http://` endpoints over a network; gRPC without TLS.",
    )
    traces_insecure = Setting[bool | None](
        "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
        otel_boolean,
        None,
        "The same for traces.",
        shown="OTEL_EXPORTER_OTLP_INSECURE",
    )
    timeout = Setting[float | None](
        "OTEL_EXPORTER_OTLP_TIMEOUT", seconds, None, "Seconds that one OTLP export may take.", shown="10"
    )
    traces_timeout = Setting[float | None](
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        seconds,
        None,
        "Seconds that one OTLP export of traces may take.",
        shown="OTEL_EXPORTER_OTLP_TIMEOUT",
    )
    compression = Setting(
        "OTEL_EXPORTER_OTLP_COMPRESSION", choice(*COMPRESSIONS), "none", "OTLP compression of all signals."
    )
    traces_compression = Setting(
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        choice(*COMPRESSIONS),
        "",
        "OTLP compression of traces.",
        shown="OTEL_EXPORTER_OTLP_COMPRESSION",
    )
    metric_export_interval = Setting(
        "OTEL_METRIC_EXPORT_INTERVAL", positive, 60000, "Milliseconds between two exports of metrics."
    )
    temporality = Setting(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        choice("cumulative", "delta", "lowmemory"),
        "cumulative",
        "Whether OTLP metrics are sums since the start or since the last export.",
    )
    histogram_aggregation = Setting(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        choice("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
        "explicit_bucket_histogram",
        "How OTLP histograms are aggregated.",
    )
    logging_handler = Setting(
        "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED",
        otel_boolean,
        False,
        "Add the SDK's (deprecated) logging handler to the root logger; takes effect with a logs exporter.",
    )
    log_correlation = Setting(
        "OTEL_PYTHON_LOG_CORRELATION",
        otel_boolean,
        False,
        "Put trace and span ids into the application's log lines.",
    )
    propagators = Setting[Names](
        "OTEL_PROPAGATORS",
        names,
        ("baggage", "tracecontext", "xray"),
        "Context formats, in order; `xray` means spanwell's codec.",
    )
    id_generator = Setting(
        "OTEL_PYTHON_ID_GENERATOR", text, "spanwell_xray", "Trace and span ids: `spanwell_xray` or `random`."
    )
    sampler = Setting(
        "OTEL_TRACES_SAMPLER",
        text,
        "parentbased_always_on",
        "The sampler: the SDK's, or `xray`, `xray_local`, `tail`, `budget` (docs/sampling.md).",
    )
    sampler_arg = Setting(
        "OTEL_TRACES_SAMPLER_ARG", text, "", "The sampler's argument; for ours `key=value,key=value`."
    )
    adaptive_sampling = Setting(
        "AWS_XRAY_ADAPTIVE_SAMPLING_CONFIG",
        text,
        "",
        "X-Ray adaptive sampling: the path of a YAML file, or the YAML itself (docs/sampling.md).",
    )
    adot_application_signals = Setting(
        "OTEL_AWS_APPLICATION_SIGNALS_ENABLED",
        boolean,
        False,
        "ADOT's name of SPANWELL_APPLICATION_SIGNALS, which wins.",
    )
    application_signals_endpoint = Setting(
        "OTEL_AWS_APPLICATION_SIGNALS_EXPORTER_ENDPOINT",
        text,
        "http://localhost:4316/v1/metrics",
        "Where the metrics of Application Signals go, by OTLP over HTTP: a CloudWatch agent; `none` sends none.",
    )
    daemon_address = Setting(
        "AWS_XRAY_DAEMON_ADDRESS",
        text,
        "127.0.0.1:2000",
        "Where the exporters `xray` and `xray_otlp_udp` send to: `host:port`, or `udp:host:port tcp:host:port`"
        " (docs/xray.md).",
    )
    semconv_opt_in = Setting(
        "OTEL_SEMCONV_STABILITY_OPT_IN",
        text,
        "http,database",
        "Which stable semantic conventions the instrumentors use; left alone if set.",
    )
    disabled_instrumentations = Setting[Names](
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
        names,
        (),
        "Instrumentors that stay off; `*` means all.",
    )
    resource_detectors = Setting[Names](
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",
        names,
        ("otel", "spanwell_aws"),
        "Resource detectors, in order.",
    )
    bsp_schedule_delay = Setting(
        "OTEL_BSP_SCHEDULE_DELAY", positive, 5000, "Milliseconds between two exports of a batch."
    )
    bsp_max_queue_size = Setting(
        "OTEL_BSP_MAX_QUEUE_SIZE",
        positive,
        2048,
        "Spans that wait for export at most. Unless it is set, bytes are the bound where spans wait encoded.",
    )
    bsp_max_export_batch_size = Setting(
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        positive,
        512,
        "Spans in one export at most. Unless it is set, up to 4096 while many wait, where spans wait encoded.",
    )
    bsp_export_timeout = Setting(
        "OTEL_BSP_EXPORT_TIMEOUT", positive, 30000, "Milliseconds that `force_flush` waits by default."
    )
    blrp_schedule_delay = Setting(
        "OTEL_BLRP_SCHEDULE_DELAY", positive, 1000, "Milliseconds between two exports of log records."
    )
    blrp_max_queue_size = Setting(
        "OTEL_BLRP_MAX_QUEUE_SIZE",
        positive,
        2048,
        "Log records that wait for export at most; beyond, the oldest go.",
    )
    blrp_max_export_batch_size = Setting(
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", positive, 512, "Log records in one export at most."
    )
    blrp_export_timeout = Setting(
        "OTEL_BLRP_EXPORT_TIMEOUT", positive, 30000, "Milliseconds that `force_flush` of logs waits by default."
    )
    attribute_count_limit = Setting(
        "OTEL_ATTRIBUTE_COUNT_LIMIT", natural, 128, "Attributes at most, where no narrower limit is set."
    )
    attribute_value_length_limit = Setting[int | None](
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", natural, None, "Characters of a text value.", shown="no limit"
    )
    span_attribute_count_limit = Setting[int | None](
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        natural,
        None,
        "Attributes of a span at most.",
        shown="OTEL_ATTRIBUTE_COUNT_LIMIT",
    )
    span_attribute_value_length_limit = Setting[int | None](
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        natural,
        None,
        "Characters of a span attribute's text.",
        shown="OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    )
    span_event_count_limit = Setting("OTEL_SPAN_EVENT_COUNT_LIMIT", natural, 128, "Events of a span at most.")
    span_link_count_limit = Setting("OTEL_SPAN_LINK_COUNT_LIMIT", natural, 128, "Links of a span at most.")
    event_attribute_count_limit = Setting(
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", natural, 128, "Attributes of an event at most."
    )
    link_attribute_count_limit = Setting(
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", natural, 128, "Attributes of a link at most."
    )

    def __init__(self, values: dict[str, Any], sources: dict[str, str], problems: tuple[str, ...]) -> None:
        object.__setattr__(self, "_values", values)
        object.__setattr__(self, "sources", sources)
        object.__setattr__(self, "problems", problems)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Settings are frozen: {name}")

    @classmethod
    def rows(cls) -> Iterator[Setting[Any]]:
        """Every setting, in the order of declaration."""
        return (row for row in vars(cls).values() if isinstance(row, Setting))

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str],
        *,
        layers: tuple[tuple[str, Mapping[str, str]], ...] = (),
    ) -> Settings:
        """Read every setting from `environ`; what is unset or empty there is looked up in `layers`.

        `layers` are (source name, variables) pairs, the first that has a value wins, e.g. the `distribution`
        section of a declarative configuration. Never raises: see `problems`.
        """
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        problems: list[str] = []
        for row in cls.rows():
            values[row.attribute], sources[row.attribute] = row.default, "default"
            for source, variables in (("environment", environ), *layers):
                raw = variables.get(row.variable, "").strip()
                if not raw:
                    continue
                try:
                    values[row.attribute], sources[row.attribute] = row.parse(raw), source
                except (ValueError, OverflowError):
                    problems.append(_problem(row, raw))
                break
        return cls(values, sources, tuple(problems))

    def with_problem(self, problem: str) -> Settings:
        """The same settings with one more line in `problems`."""
        return Settings(self._values, self.sources, (*self.problems, problem))

    @property
    def wants_application_signals(self) -> bool:
        """Whether Application Signals are on, by our variable or by ADOT's."""
        chosen = self.chosen(Settings.application_signals)
        return self.application_signals if chosen else self.adot_application_signals

    def source(self, row: Setting[Any]) -> str:
        """Where the value of `row` came from: ``default``, ``environment`` or the name of a layer."""
        return self.sources[row.attribute]

    def value(self, row: Setting[Any]) -> Any:
        """The value of `row`."""
        return self._values[row.attribute]

    def chosen(self, row: Setting[Any]) -> bool:
        """Whether the user set `row` to a usable value."""
        return self.sources[row.attribute] != "default"


def _problem(row: Setting[Any], raw: str) -> str:
    shown = raw if len(raw) <= 80 else raw[:77] + "..."
    return f"{row.variable}={shown!r} is not {row.parse.__doc__}; using {display(row)}"


def display(row: Setting[Any]) -> str:
    """The default of `row` as a user would write it."""
    if row.shown is not None:
        return row.shown
    if isinstance(row.default, tuple):
        return ",".join(row.default) or "(none)"
    if isinstance(row.default, bool):
        return str(row.default).lower()
    if isinstance(row.default, float):
        return f"{row.default:g}"
    return str(row.default) if row.default != "" else "(none)"


def markdown() -> str:
    """docs/settings.md: every setting as a table row."""
    lines = [
        "# Settings",
        "",
        "Generated by `python -m spanwell.settings > docs/settings.md`; a test keeps the two equal.",
        "Environment variables, all optional. A bad value is reported in one line and the default is used.",
    ]
    for title, prefix in (
        ("spanwell's own", "SPANWELL_"),
        ("OpenTelemetry's, as spanwell reads them", "OTEL_"),
        ("AWS's, as spanwell reads them", "AWS_"),
    ):
        lines += [
            "",
            f"## {title}",
            "",
            "| variable | value | default | meaning |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{row.variable}` | {row.parse.__doc__} | {display(row)} | {row.text} |"
            for row in Settings.rows()
            if row.variable.startswith(prefix)
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
