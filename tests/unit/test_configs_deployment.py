"""configs/ for platforms: every file is loaded, and fits its schema, the other files and spanwell's defaults."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

from spanwell.insights.detectors import slow_trace
from spanwell.otlp_settings import otlp_url
from spanwell.sampling.remote import ENDPOINT
from spanwell.settings import Settings
from support.servers import missing

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
COLLECTORS = sorted(CONFIGS.glob("collector-*.yaml"))
DEFAULTS = Settings.from_env({})
HTTP = otlp_url(DEFAULTS)
GRPC = otlp_url(Settings.from_env({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}))
REGION = "${env:AWS_REGION}"


def port(url: str) -> int:
    found = re.search(r":(\d+)(/|$)", url)
    assert found, url
    return int(found[1])


def all_files() -> list[Path]:
    return sorted(path for path in CONFIGS.iterdir() if path.is_file())


# --- all of them ------------------------------------------------------------------------------------------------


def test_the_defaults_that_the_ports_are_compared_with() -> None:
    assert (port(HTTP), port(GRPC), port(ENDPOINT)) == (4318, 4317, 2000)


@pytest.mark.parametrize("path", all_files(), ids=lambda path: path.name)
def test_no_file_holds_a_secret(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b", text)
    assert not re.search(r"(?i)(secret_?access_?key|password|passwd)\W{1,3}\S", text)
    for found in re.finditer(r"(?im)^[^#\n]*\b(token|api_?key|authorization)\b\"?\s*[:=]\s*(\S+)", text):
        assert re.fullmatch(r"\$\{env:[A-Z_]+\}", found[2]), found[0]
    assert set(re.findall(r"\b\d{12}\b", text)) <= {"123456789012"}  # the account of AWS's own examples


HEADED = [
    path for path in all_files() if path.suffix in (".conf", ".service") or path.stem.startswith(("coll", "eks"))
]


@pytest.mark.parametrize("path", HEADED, ids=lambda path: path.name)
def test_a_file_says_what_it_is_for_and_what_to_change(path: Path) -> None:
    head = [line for line in path.read_text().splitlines()[:14] if line.startswith("#")]
    if path.suffix == ".env":
        assert head
        return
    assert any("Change: " in line for line in head)


# --- the collector ----------------------------------------------------------------------------------------------

# Options of the components as their READMEs and config.schema.yaml list them; only what is used here, and its kin.
TLS = {"insecure", "ca_file", "cert_file", "key_file", "insecure_skip_verify"}
SENDING = {"timeout", "sending_queue", "retry_on_failure"}
CLIENT = {"endpoint", "tls", "auth", "compression", "headers", "proxy_url", *SENDING}
AWS = {"region", "role_arn", "endpoint", "num_workers", "request_timeout_seconds", "max_retries", "local_mode"}
OPTIONS: dict[str, set[str]] = {
    "extensions/health_check": {"endpoint", "path"},
    "extensions/sigv4auth": {"region", "service", "assume_role"},
    "receivers/otlp": {"protocols"},
    "receivers/awsxray": {"endpoint", "transport", "proxy_server"},
    "processors/memory_limiter": {
        *("check_interval", "limit_percentage", "spike_limit_percentage", "limit_mib", "spike_limit_mib"),
    },
    "processors/batch": {"timeout", "send_batch_size", "send_batch_max_size"},
    "processors/tail_sampling": {
        *("decision_wait", "num_traces", "expected_new_traces_per_sec", "decision_cache", "policies"),
    },
    "exporters/awsxray": {*AWS, "index_all_attributes", "indexed_attributes", "aws_log_groups", "telemetry"},
    "exporters/awsemf": {
        *AWS,
        *("namespace", "log_group_name", "log_stream_name", "log_retention", "metric_declarations", "version"),
        *("dimension_rollup_option", "resource_to_telemetry_conversion", "detailed_metrics"),
    },
    "exporters/loadbalancing": {"routing_key", "protocol", "resolver", *SENDING},
    "exporters/otlphttp": {*CLIENT, "traces_endpoint", "metrics_endpoint", "logs_endpoint", "encoding"},
    "exporters/influxdb": {*CLIENT, "org", "bucket", "token", "span_dimensions", "metrics_schema", "precision"},
}
POLICIES = {
    "status_code": {"status_codes"},
    "latency": {"threshold_ms", "upper_threshold_ms"},
    "probabilistic": {"sampling_percentage", "hash_salt"},
}


def load(path: Path) -> dict[str, Any]:
    found = yaml.safe_load(path.read_text())
    assert isinstance(found, dict)
    return found


def kubernetes() -> dict[str, dict[str, Any]]:
    """The manifests of eks-daemonset.yaml by kind."""
    found = list(yaml.safe_load_all((CONFIGS / "eks-daemonset.yaml").read_text()))
    kinds = [each["kind"] for each in found]
    assert len(set(kinds)) == len(kinds)
    return dict(zip(kinds, found, strict=True))


def embedded() -> dict[str, Any]:
    """The collector's configuration in the ConfigMap."""
    found = yaml.safe_load(kubernetes()["ConfigMap"]["data"]["collector.yaml"])
    assert isinstance(found, dict)
    return found


def configurations() -> Iterator[Any]:
    for path in COLLECTORS:
        yield pytest.param(load(path), id=path.name)
    yield pytest.param(embedded(), id="eks-daemonset.yaml")


CONFIGURATIONS = list(configurations())


def kind_of(component: str) -> str:
    return component.partition("/")[0]


@pytest.mark.parametrize("found", CONFIGURATIONS)
def test_every_component_is_defined_used_and_has_known_options(found: dict[str, Any]) -> None:
    assert set(found) == {"extensions", "receivers", "processors", "exporters", "service"}
    pipelines = found["service"]["pipelines"]
    assert pipelines
    assert {kind_of(name) for name in pipelines} <= {"traces", "metrics", "logs"}
    used: dict[str, set[str]] = {"extensions": set(found["service"]["extensions"])}
    for pipeline in pipelines.values():
        assert set(pipeline) == {"receivers", "processors", "exporters"}
        for group, names in pipeline.items():
            assert names
            used.setdefault(group, set()).update(names)
    for group, names in used.items():
        assert names == set(found[group]), group
        for name in names:
            options = found[group][name] or {}
            assert set(options) <= OPTIONS[f"{group}/{kind_of(name)}"], name


@pytest.mark.parametrize("found", CONFIGURATIONS)
def test_processors_stand_in_the_documented_order(found: dict[str, Any]) -> None:
    for pipeline in found["service"]["pipelines"].values():
        kinds = [kind_of(name) for name in pipeline["processors"]]
        assert kinds[0] == "memory_limiter"
        if "loadbalancing" in map(kind_of, pipeline["exporters"]):
            assert kinds == ["memory_limiter"]
        else:
            assert kinds[-1] == "batch"


@pytest.mark.parametrize("found", CONFIGURATIONS)
def test_ports_are_those_that_spanwell_sends_to(found: dict[str, Any]) -> None:
    protocols = found["receivers"]["otlp"]["protocols"]
    assert set(protocols) <= {"grpc", "http"}
    assert port(protocols["grpc"]["endpoint"]) == port(GRPC)
    if "http" in protocols:
        assert port(protocols["http"]["endpoint"]) == port(HTTP)
    udp = found["receivers"].get("awsxray")
    if udp is not None:
        assert port(udp["endpoint"]) == port(udp["proxy_server"]["endpoint"]) == port(ENDPOINT)
        assert udp["transport"] == "udp"
    assert port(found["extensions"]["health_check"]["endpoint"]) == 13133


@pytest.mark.parametrize("found", CONFIGURATIONS)
def test_values_of_the_environment_are_named_as_such(found: dict[str, Any]) -> None:
    def texts(tree: Any) -> Iterator[str]:
        if isinstance(tree, dict):
            for value in tree.values():
                yield from texts(value)
        elif isinstance(tree, list):
            for value in tree:
                yield from texts(value)
        elif isinstance(tree, str):
            yield tree

    for text in texts(found):
        assert "$" not in re.sub(r"\$\{env:[A-Z_]+\}|\^spanwell[a-z.\\]+\$", "", text), text
    for exporter in found["exporters"].values():
        assert exporter.get("region", REGION) == REGION


@pytest.mark.parametrize("found", CONFIGURATIONS)
def test_authenticators_are_extensions(found: dict[str, Any]) -> None:
    for exporter in found["exporters"].values():
        authenticator = exporter.get("auth", {}).get("authenticator")
        assert authenticator is None or authenticator in found["service"]["extensions"]


@pytest.mark.parametrize("found", [load(CONFIGS / "collector-agent.yaml"), embedded()], ids=["agent", "eks"])
def test_metrics_that_are_billed_are_ours(found: dict[str, Any]) -> None:
    from spanwell.analysis.names import ENTRY, INSIGHTS, OPERATION, OUTCOME, TYPE

    emf = found["exporters"]["awsemf"]
    assert emf["dimension_rollup_option"] == "NoDimensionRollup"
    declared = emf["metric_declarations"]
    assert [each["metric_name_selectors"] for each in declared] == [
        [f"^{re.escape(name)}$"] for name in (ENTRY, INSIGHTS)
    ]
    known = {"service.name", OPERATION, OUTCOME, TYPE}
    assert {name for each in declared for dimensions in each["dimensions"] for name in dimensions} == known


def test_the_daemonset_has_the_agent_s_configuration() -> None:
    agent, pod = load(CONFIGS / "collector-agent.yaml"), embedded()
    assert pod["processors"] == agent["processors"]
    assert pod["exporters"] == agent["exporters"]
    assert pod["receivers"]["otlp"]["protocols"].keys() == agent["receivers"]["otlp"]["protocols"].keys()


def test_the_gateway_sends_whole_traces_to_the_sampling_tier() -> None:
    gateway, sampling = load(CONFIGS / "collector-gateway.yaml"), load(CONFIGS / "collector-sampling.yaml")
    balancing = gateway["exporters"]["loadbalancing"]
    assert balancing["routing_key"] == "traceID"
    assert set(balancing["protocol"]) == {"otlp"}
    assert "endpoint" not in balancing["protocol"]["otlp"]
    [(resolver, options)] = balancing["resolver"].items()
    assert resolver == "dns"
    assert set(options) <= {"hostname", "port", "interval", "timeout"}
    assert int(options["port"]) == port(sampling["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"])


def test_the_sampling_tier_keeps_what_our_defaults_call_worth_it() -> None:
    tail = load(CONFIGS / "collector-sampling.yaml")["processors"]["tail_sampling"]
    policies = {each["name"]: each for each in tail["policies"]}
    for each in policies.values():
        assert set(each) == {"name", "type", each["type"]}
        assert set(each[each["type"]]) <= POLICIES[each["type"]]
    assert list(policies) == ["errors", "slow", "base"]
    assert policies["errors"]["status_code"]["status_codes"] == ["ERROR"]
    slow = policies["slow"]["latency"]["threshold_ms"]
    assert slow == slow_trace.DEFAULTS["slow_trace.duration_ms"]
    assert 0 < policies["base"]["probabilistic"]["sampling_percentage"] < 100
    # A slow trace must have ended, and its last batch have come, before the decision.
    assert int(tail["decision_wait"].removesuffix("s")) * 1000 > slow + DEFAULTS.bsp_schedule_delay
    assert all(size >= 10 * tail["num_traces"] for size in tail["decision_cache"].values())


def test_telegraf_takes_otlp_and_writes_to_timestream() -> None:
    found = tomllib.loads((CONFIGS / "telegraf-timestream.conf").read_text())
    assert set(found) == {"agent", "inputs", "outputs"}
    [source] = found["inputs"]["opentelemetry"]
    assert set(source) <= {"service_address", "span_dimensions", "metrics_schema", "timeout", "max_msg_size"}
    assert port(source["service_address"]) == port(GRPC)
    [sink] = found["outputs"]["timestream"]
    assert sink["mapping_mode"] in ("multi-table", "single-table")
    assert {name for name in sink if not name.startswith("create_table_")} == {
        *("region", "database_name", "mapping_mode", "use_multi_measure_records"),
        "measure_name_for_multi_measure_records",
    }


# --- the CloudWatch agent ---------------------------------------------------------------------------------------


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


ADDRESS = {"type": "string", "pattern": r"^[\w.]+:\d+$", "minLength": 4}
OTLP = _object(grpc_endpoint=ADDRESS, http_endpoint=ADDRESS, tls={"type": "object"})
ANYTHING = {"type": "object"}
AGENT = _object(
    agent=_object(
        metrics_collection_interval={"type": "integer", "minimum": 1, "maximum": 172800},
        omit_hostname={"type": "boolean"},
        region={"type": "string"},
        debug={"type": "boolean"},
    ),
    traces=_object(
        ("traces_collected",),
        traces_collected=_object(
            application_signals=ANYTHING,
            otlp=OTLP,
            xray=_object(bind_address=ADDRESS, tcp_proxy=_object(bind_address=ADDRESS)),
        ),
        concurrency={"type": "integer", "minimum": 1},
        buffer_size_mb={"type": "integer", "minimum": 3},
        transit_spans_in_otlp_format={"type": "boolean"},
    ),
    logs=_object(metrics_collected=_object(application_signals=ANYTHING, emf=ANYTHING)),
    metrics=_object(
        ("metrics_collected",),
        namespace={"type": "string", "minLength": 1, "maxLength": 255},
        metrics_collected={**_object(otlp=OTLP), "minProperties": 1},
    ),
)
"""The part of the agent's own schema (translator/config/schema.json) that the file needs, stricter at its edges."""


def test_the_cloudwatch_agent_s_file_is_by_its_schema() -> None:
    from jsonschema import Draft7Validator

    found = json.loads((CONFIGS / "cloudwatch-agent.json").read_text())
    assert [error.message for error in Draft7Validator(AGENT).iter_errors(found)] == []
    # Application Signals takes both signals or neither.
    assert "application_signals" in found["traces"]["traces_collected"]
    assert "application_signals" in found["logs"]["metrics_collected"]


def test_the_cloudwatch_agent_listens_where_spanwell_sends() -> None:
    found = json.loads((CONFIGS / "cloudwatch-agent.json").read_text())
    collected = found["traces"]["traces_collected"]
    assert port(collected["otlp"]["grpc_endpoint"]) == port(GRPC)
    assert port(collected["otlp"]["http_endpoint"]) == port(HTTP)
    assert port(collected["xray"]["bind_address"]) == port(ENDPOINT)
    assert port(collected["xray"]["tcp_proxy"]["bind_address"]) == port(ENDPOINT)
    metrics = found["metrics"]["metrics_collected"]["otlp"]
    taken = [*collected["otlp"].values(), *metrics.values(), "127.0.0.1:4315", "127.0.0.1:4316"]
    assert len(set(taken)) == len(
        taken
    )  # each `otlp` section needs ports of its own; Application Signals has 4315 f.
    assert metrics["http_endpoint"] in (ROOT / "docs/deployment.md").read_text().replace("localhost", "127.0.0.1")


# --- ECS --------------------------------------------------------------------------------------------------------

TASK_SIZES = {"256": (512, 2048), "512": (1024, 4096), "1024": (2048, 8192)}
"""CPU units of Fargate -> MB at least and at most."""


def task() -> dict[str, Any]:
    found = json.loads((CONFIGS / "ecs-task-definition.json").read_text())
    assert isinstance(found, dict)
    return found


def test_the_task_definition_is_one_for_botocore() -> None:
    from botocore.session import Session
    from botocore.validate import ParamValidator

    shape = Session().get_service_model("ecs").operation_model("RegisterTaskDefinition").input_shape
    report = ParamValidator().validate(task(), shape)
    assert not report.has_errors(), report.generate_report()

    def unknown(tree: Any, shape: Any) -> Iterator[str]:
        """Members that botocore would leave out without a word."""
        if shape.type_name == "structure":
            for name, value in tree.items():
                yield from unknown(value, shape.members[name]) if name in shape.members else [name]
        elif shape.type_name == "list":
            for value in tree:
                yield from unknown(value, shape.member)
        elif getattr(shape, "enum", None) and tree not in shape.enum:
            yield f"{tree} is none of {shape.enum}"

    assert list(unknown(task(), shape)) == []


def test_the_containers_of_the_task_fit_together() -> None:
    found = task()
    containers = {each["name"]: each for each in found["containerDefinitions"]}
    least, most = TASK_SIZES[found["cpu"]]
    assert least <= int(found["memory"]) <= most
    assert sum(each.get("memory", 0) for each in containers.values()) < int(found["memory"])
    for each in containers.values():
        for needed in each.get("dependsOn", ()):
            assert needed["condition"] in ("START", "HEALTHY")
            assert needed["condition"] != "HEALTHY" or "healthCheck" in containers[needed["containerName"]]
    assert [name for name, each in containers.items() if each["essential"]] == ["orders"]
    assert containers["orders"]["command"][:3] == ["spanwell", "run", "--"]
    variables = {each["name"]: each["value"] for each in containers["orders"]["environment"]}
    settings = Settings.from_env(variables)
    assert settings.problems == ()
    assert {row.variable for row in Settings.rows() if settings.chosen(row)} == set(variables)
    assert otlp_url(settings) == HTTP
    # A task's collector has longer than its service, so the last spans find it.
    assert containers["collector"]["stopTimeout"] > containers["orders"]["stopTimeout"]
    assert all(":ssm:" in each["valueFrom"] for each in containers["collector"]["secrets"])


# --- EKS --------------------------------------------------------------------------------------------------------


def test_the_manifests_are_what_kubernetes_takes() -> None:
    found = kubernetes()
    versions = {kind: each["apiVersion"] for kind, each in found.items()}
    assert versions == {
        **dict.fromkeys(("Namespace", "ServiceAccount", "ConfigMap", "Service"), "v1"),
        "DaemonSet": "apps/v1",
    }
    space = found["Namespace"]["metadata"]["name"]
    assert {each["metadata"]["namespace"] for kind, each in found.items() if kind != "Namespace"} == {space}
    role = found["ServiceAccount"]["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    assert re.fullmatch(r"arn:aws:iam::\d{12}:role/[\w+=,.@-]+", role)


def test_the_daemonset_fits_its_account_configuration_and_service() -> None:
    found = kubernetes()
    spec = found["DaemonSet"]["spec"]
    pod = spec["template"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert pod["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"]
    [container] = pod["containers"]
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", container["image"])
    [volume] = pod["volumes"]
    assert volume["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    [mount] = container["volumeMounts"]
    assert mount["name"] == volume["name"]
    [key] = found["ConfigMap"]["data"]
    assert container["args"] == [f"--config={mount['mountPath']}/{key}"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    service = found["Service"]["spec"]
    assert service["selector"].items() <= labels.items()
    assert service["internalTrafficPolicy"] == "Local"
    assert {each["port"]: ports[each["targetPort"]] for each in service["ports"]} == {
        port(GRPC): port(GRPC),
        port(HTTP): port(HTTP),
    }
    given = {each["name"] for each in container["env"]}
    assert set(re.findall(r"\$\{env:(\w+)\}", found["ConfigMap"]["data"][key])) == given
    for probe in ("readinessProbe", "livenessProbe"):
        assert ports[container[probe]["httpGet"]["port"]] == 13133
    assert "limits" in container["resources"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


# --- EC2 --------------------------------------------------------------------------------------------------------

UNITS = sorted(CONFIGS.glob("*.service"))


def unit(path: Path) -> list[tuple[str, str, str]]:
    """(section, key, value); keys may stand several times."""
    found, section = [], ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            found.append((section, key, value))
    return found


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_has_its_sections_and_absolute_paths(path: Path) -> None:
    found = unit(path)
    assert list(dict.fromkeys(section for section, _, _ in found)) == ["Unit", "Service", "Install"]
    values = {key: value for _, key, value in found}
    assert values["ExecStart"].startswith("/")
    assert values["WantedBy"] == "multi-user.target"
    wanted = {name for _, key, value in found if key in ("Wants", "After") for name in value.split()}
    assert all((CONFIGS / name).exists() for name in wanted if name.startswith("ec2-"))


def test_the_units_start_spanwell_and_the_collector() -> None:
    service = {key: value for _, key, value in unit(CONFIGS / "ec2-orders.service")}
    assert " run -- " in service["ExecStart"]
    assert service["KillMode"] == "mixed"
    agent = {key: value for _, key, value in unit(CONFIGS / "ec2-collector.service")}
    assert "--config=/etc/otelcol/collector-agent.yaml" in agent["ExecStart"]
    needed = set(re.findall(r"\$\{env:(\w+)\}", (CONFIGS / "collector-agent.yaml").read_text()))
    assert needed == {agent["Environment"].partition("=")[0]}


def test_systemd_finds_nothing(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        missing("systemd-analyze", "systemd takes the units of configs/")
    assert program
    copies = []
    for path in UNITS:
        # The commands are not installed here, and systemd looks for them.
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", path.read_text(), flags=re.MULTILINE)
        copies.append(tmp_path / path.name)
        copies[-1].write_text(text)
    done = subprocess.run([program, "verify", "--man=no", *copies], capture_output=True, text=True, timeout=60)
    about = [line for line in (done.stdout + done.stderr).splitlines() if "ec2-" in line]
    assert about == []
    copies[0].write_text(copies[0].read_text().replace("[Service]", "[Service]\nColour=blue"))
    done = subprocess.run([program, "verify", "--man=no", *copies], capture_output=True, text=True, timeout=60)
    assert "Colour" in done.stdout + done.stderr


# --- Grafana ----------------------------------------------------------------------------------------------------

DASHBOARDS = sorted(CONFIGS.glob("grafana-*.json"))
PANEL = {"id", "type", "title", "description", "datasource", "gridPos", "fieldConfig", "options", "targets"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_has_what_grafana_wants(path: Path) -> None:
    found = json.loads(path.read_text())
    assert "id" not in found  # of the Grafana it came from
    for field, kind in {"uid": str, "title": str, "schemaVersion": int, "panels": list, "templating": dict}.items():
        assert isinstance(found[field], kind)
    assert len(found["uid"]) <= 40
    variables = {each["name"]: each for each in found["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    kind = variables["datasource"]["query"]
    wanted = {"type": kind, "uid": "${datasource}"}
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids) > 0
    cells: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        assert set(panel) == PANEL
        assert panel["datasource"] == wanted
        assert [target["datasource"] for target in panel["targets"]] == [wanted] * len(panel["targets"])
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not own & cells
        cells |= own
    named = set(re.findall(r"\$\{?(?!__)(\w+)\}?", json.dumps(found)))
    assert named == set(variables)


def test_the_prometheus_dashboard_asks_for_metrics_and_labels_that_exist() -> None:
    names = {
        name.replace(".", "_")
        for path in (ROOT / "src/spanwell").rglob("*.py")
        for name in re.findall(r"\"((?:spanwell|error)\.[a-z0-9_.]+)\"", path.read_text())
    }
    found = json.loads((CONFIGS / "grafana-prometheus.json").read_text())
    queries = [target["expr"] for panel in found["panels"] for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"\bspanwell_\w+", query)}
    assert {re.sub(r"_(total|seconds)$", "", name) for name in asked} - names == set()
    for query in queries:
        assert query.count("(") == query.count(")")
        assert query.count("{") == query.count("}")
        assert 'job=~"$service"' in query


def test_the_cloudwatch_dashboard_asks_for_what_the_exporter_sends() -> None:
    from spanwell.analysis.names import ENTRY
    from spanwell.cli.alarm_template import Wanted, template
    from spanwell.export.cloudwatch_names import DEFAULT, NAMESPACE

    found = json.loads((CONFIGS / "grafana-cloudwatch.json").read_text())
    targets = [target for panel in found["panels"] for target in panel["targets"]]
    assert {target["namespace"] for target in targets} == {NAMESPACE}
    assert {target["metricName"] for target in targets} == {*DEFAULT, ENTRY}
    alarms = template(Wanted("$service"))["Resources"].values()
    severities = {
        alarm["Properties"]["MetricName"]: {each["Name"]: each["Value"] for each in alarm["Properties"]["Dimensions"]}
        for alarm in alarms
        if "MetricName" in alarm["Properties"]
    }
    for target in targets:
        assert target["dimensions"] == severities.get(target["metricName"], {"ServiceName": "$service"})
