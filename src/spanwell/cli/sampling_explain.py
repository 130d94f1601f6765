"""`spanwell sampling explain`: which rule decides on a request, and why each earlier one does not."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, NamedTuple

from spanwell.cli.terminal import Style, clean, quiet_pipe, say_error, table, wants_colour

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TextIO

    from spanwell.sampling.rules import Rule

_LOCAL = "http://127.0.0.1:2000"


class _Unusable(Exception):
    """Why there are no rules, or no request, to explain: one line."""


class _Source(NamedTuple):
    where: str
    rules: list[Rule]


def register(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the part; `run` of the parsed arguments is `(args, environ, out) -> exit code`."""
    parser = parts.add_parser("explain", help="which rule decides on a request, and why not an earlier one")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--rules", metavar="FILE", help="a file of rules: GetSamplingRules, or the X-Ray SDK's v1 or v2"
    )
    source.add_argument(
        "--endpoint",
        metavar="URL",
        help=f"ask X-Ray's proxy, or with `aws` X-Ray itself (what OTEL_TRACES_SAMPLER_ARG says, else {_LOCAL})",
    )
    parser.add_argument("--service", metavar="NAME", help="service.name")
    parser.add_argument("--service-type", metavar="TYPE", help="such as AWS::ECS::Container")
    parser.add_argument("--host", help="server.address")
    parser.add_argument("--method", help="http.request.method")
    parser.add_argument("--path", help="url.path")
    parser.add_argument("--arn", help="the ARN of the container or Lambda function")
    parser.add_argument(
        "--attribute", action="append", default=[], metavar="KEY=VALUE", help="of the span when it starts; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Print what decides: exit code 0, 1 when no rule matches, 2 when rules or request cannot be used.

    JSON: `{"source", "rules": [{"name", …, "why_not"}, …], "match": rule or null}`; `rules` are those that were
    tried, `why_not` is "" for the one that matches.
    """
    from spanwell.sampling.rules import explain

    try:
        resource, attributes = _request(args)
        source = _source(args, environ)
    except _Unusable as error:
        say_error(str(error))
        return 2
    tried = explain(source.rules, resource, attributes)
    match = tried[-1][0] if tried and not tried[-1][1] else None
    with quiet_pipe(out):
        if args.json:
            shown = [{**_as_json(rule), "why_not": why} for rule, why in tried]
            json.dump({"source": source.where, "rules": shown, "match": match and _as_json(match)}, out, indent=2)
            out.write("\n")
        else:
            _print(source, tried, match, Style(wants_colour(environ, out)), out)
    return 0 if match else 1


# --- the request


def _request(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The resource and the span's attributes that the arguments stand for."""
    from spanwell.sampling.rules import SERVICE_TYPES

    platforms = {kind.lower(): platform for platform, kind in SERVICE_TYPES.items()}
    platform = platforms.get((args.service_type or "").lower())
    if args.service_type and platform is None:
        raise _Unusable(f"--service-type {args.service_type!r} is none of {', '.join(SERVICE_TYPES.values())}")
    arn_key = "cloud.resource_id" if platform == "aws_lambda" else "aws.ecs.container.arn"
    resource = {"service.name": args.service, "cloud.platform": platform, arn_key: args.arn}
    attributes = {"server.address": args.host, "http.request.method": args.method, "url.path": args.path}
    for given in args.attribute:
        key, mark, value = given.partition("=")
        if not mark or not key:
            raise _Unusable(f"--attribute {given!r} is not KEY=VALUE")
        attributes[key] = value
    return _given(resource), _given(attributes)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


# --- the rules


def _note(problem: str) -> None:
    say_error(f"note: {problem}")


def _read_file(path: str) -> _Source:
    from spanwell.sampling.rules_file import read_rules, read_text

    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise _Unusable(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    said: list[str] = []
    rules = read_rules(text, said.append)
    if rules is None:
        raise _Unusable(f"{path}: {said[-1]}")
    for problem in said:
        _note(problem)
    return _Source(path, rules)


def _ask(endpoint: str) -> _Source:
    from spanwell.sampling.client import ClientError, SamplingClient, check_endpoint
    from spanwell.sampling.rules import parse

    try:
        where = check_endpoint(endpoint)
    except ValueError as error:
        raise _Unusable(f"endpoint {endpoint!r} is not {error}") from None
    client = SamplingClient(where)
    try:
        return _Source(where, parse(client.rules(_note), _note))
    except ClientError as error:
        raise _Unusable(str(error)) from None
    finally:
        client.close()


def _source(args: argparse.Namespace, environ: Mapping[str, str]) -> _Source:
    path, endpoint = args.rules, args.endpoint
    if path is None and endpoint is None:
        path, endpoint = _configured(environ)
    return _read_file(path) if path else _ask(endpoint or _LOCAL)


def _configured(environ: Mapping[str, str]) -> tuple[str, str]:
    """The rules file of the `xray_local` sampler that is configured, or the endpoint of the `xray` sampler, however
    deep it is nested; "" for none."""
    from spanwell.sampling.arguments import nested, parse
    from spanwell.settings import Settings

    settings = Settings.from_env(environ)
    name, argument = settings.sampler, settings.sampler_arg
    for _ in range(5):
        if name == "xray_local" and argument and "=" not in argument:
            return argument, ""
        known = {"xray": {"endpoint": str}, "xray_local": {"rules_file": str}}.get(name, {"head": nested})
        values = parse(name, argument, known, lambda _problem: None)
        if "head" not in values:
            return values.get("rules_file", ""), values.get("endpoint", "")
        name, argument = values["head"]
    return "", ""


# --- the answer


def _as_json(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "priority": rule.priority,
        "reservoir_size": rule.reservoir_size,
        "fixed_rate": rule.fixed_rate,
    }


def _print(source: _Source, tried: list[tuple[Rule, str]], match: Rule | None, style: Style, out: TextIO) -> None:
    total = len(source.rules)
    out.write(f"{total} rule{'' if total == 1 else 's'} from {clean(source.where)}\n")
    if tried:
        lines = table(
            [(str(rule.priority), rule.name, why or "matches") for rule, why in tried],
            ("PRIORITY", "RULE", "WHY"),
            right=(0,),
        )
        out.write(style("title", lines[0]) + "\n")
        for (_, why), line in zip(tried, lines[1:], strict=True):
            out.write(style("dim" if why else "good", line) + "\n")
    if match is None:
        out.write(style("warning", "no rule matches: the sampler's fallback decides") + "\n")
        return
    out.write(f"{clean(match.name)} decides: {_policy(match)}\n")


def _policy(rule: Rule) -> str:
    rate = f"{rule.fixed_rate * 100:.6g} % of the{' rest' if rule.reservoir_size else ' traces'}"
    text = f"a reservoir of {rule.reservoir_size} a second, then {rate}" if rule.reservoir_size else rate
    if rule.boost is not None:
        text += f"; X-Ray may boost it up to {rule.boost.max_rate * 100:.6g} %"
    return text
