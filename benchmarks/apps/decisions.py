"""CPU of a sampling decision: `decisions.py SAMPLER COUNT`, with 25 rules of which the last matches.

SAMPLER: `sdk` (ParentBased(TraceIdRatioBased)), `adot`, or one of spanwell's. Rules come from a server of this
process, as they would from the X-Ray daemon. `prefix`: rules with path prefixes; `varied`: several wildcards in
several fields and attributes; `sampled`, `unsampled`: with a parent.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

ATTRIBUTES = {
    "http.request.method": "GET",
    "url.path": "/orders/7/items/12",
    "server.address": "shop.example.com",
    "server.port": 443,
    "url.scheme": "https",
    "network.protocol.version": "1.1",
    "user_agent.original": "bench/1.0",
    "client.address": "127.0.0.1",
}


def rule(number, **fields):
    given = {
        "RuleName": f"rule-{number}",
        "RuleARN": "",
        "ResourceARN": "*",
        "Priority": number,
        "FixedRate": 1.0,
        "ReservoirSize": 0,
        "ServiceName": "*",
        "ServiceType": "*",
        "Host": "*",
        "HTTPMethod": "*",
        "URLPath": "*",
        "Version": 1,
        "Attributes": {},
    }
    return {"SamplingRule": {**given, **fields}, "CreatedAt": 0.0, "ModifiedAt": 0.0}


def prefix_rules():
    return [*(rule(n, URLPath=f"/api/v{n}/*") for n in range(1, 25)), rule(25, URLPath="/orders/*")]


def varied_rules():
    return [
        *(
            rule(
                n,
                URLPath=f"/*/{n}?/*items*/x{n}*",
                Host=f"*shop{n}.*.com",
                HTTPMethod="G?T",
                Attributes={"user_agent.original": f"*bench*{n}*"},
            )
            for n in range(1, 25)
        ),
        rule(25, URLPath="/*/?/*", Host="*.example.*", Attributes={"url.scheme": "http*"}),
    ]


class Rules(BaseHTTPRequestHandler):
    rules = ()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = {"SamplingRuleRecords": self.rules, "NextToken": None}
        if "Targets" in self.path:
            answer = {"SamplingTargetDocuments": [], "UnprocessedStatistics": [], "LastRuleModification": 0.0}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def make(name, rules):
    if name == "sdk":
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        return ParentBased(TraceIdRatioBased(1.0))
    Rules.rules = rules
    server = ThreadingHTTPServer(("127.0.0.1", 0), Rules)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    if name == "adot":
        from amazon.opentelemetry.distro.sampler.aws_xray_remote_sampler import AwsXRayRemoteSampler

        return AwsXRayRemoteSampler(Resource({"service.name": "shop"}), endpoint=endpoint)
    from spanwell.sampling.build import Making, make
    from spanwell.sampling.parentbased import Surroundings

    arguments = {
        "xray": f"endpoint={endpoint}",
        "tail": f"head=(xray;endpoint={endpoint})",
        "budget": "spans_per_second=1000000",
    }
    sampler = make(name, arguments[name], Making(print))
    resource = {"service.name": "shop"}
    sampler.connect(Surroundings(lambda: resource, lambda span: None))
    return sampler


def decide(sampler, context, attributes, number):
    return sampler.should_sample(
        context, 0x6913E4F1_0000000000000001_00000000 | number, "GET", SpanKind.SERVER, attributes
    )


def decided_by_the_last(sampler, name):
    """Wait until the rules are here: the last one is the only one that keeps everything, under its name."""
    deadline = time.monotonic() + 30
    while name in ("adot", "xray", "tail") and time.monotonic() < deadline:
        result = decide(sampler, None, ATTRIBUTES, (1 << 56) - 1)
        if "rule-25" in dict(result.attributes).values():
            return
        time.sleep(0.05)
    assert time.monotonic() < deadline, "the rules did not arrive"


def parent(sampled):
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(0x6913E4F1 << 96 | 7, 7, False, flags)))


def cpu(sampler, context, count):
    """Seconds of CPU of this thread for one decision; the median of five blocks."""
    blocks = []
    for block in range(5):
        # No path twice: a sampler that remembers what it has matched gains nothing here.
        requests = [{**ATTRIBUTES, "url.path": f"/orders/7/{block}-{count}-{n}"} for n in range(count // 5)]
        begin = time.thread_time()
        for number, attributes in enumerate(requests):
            decide(sampler, context, attributes, number)
        blocks.append((time.thread_time() - begin) / (count // 5))
    return sorted(blocks)[2]


def main(name, count):
    answer = {}
    for kind, rules in (("prefix", prefix_rules()), ("varied", varied_rules())):
        if kind == "varied" and name not in ("adot", "xray"):
            continue
        sampler = make(name, rules)
        decided_by_the_last(sampler, name)
        cpu(sampler, None, count // 10)
        answer[kind] = cpu(sampler, None, count)
        if kind == "prefix":
            answer["sampled"] = cpu(sampler, parent(True), count)
            answer["unsampled"] = cpu(sampler, parent(False), count)
    print(json.dumps(answer))


main(sys.argv[1], int(sys.argv[2]))
