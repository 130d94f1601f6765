"""What every resource detector of ours promises, wherever it runs."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading

import pytest
from opentelemetry.sdk.resources import Resource, ResourceDetector, get_aggregated_resources

from spanwell.enrich.aws import AwsResourceDetector

PLACES = {
    "laptop": ({"HOME": "/home/me"}, {}),
    "laptop with AWS settings": ({"AWS_REGION": "eu-west-1", "AWS_PROFILE": "me"}, {}),
    "other Kubernetes": ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {}),
    "lambda": ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, {}),
    "ecs, nobody listens": ({"ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4"}, {}),
    "ec2, nobody listens": (
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"},
        {"/sys/class/dmi/id/sys_vendor": "Amazon EC2"},
    ),
}
OFF_AWS = ("laptop", "laptop with AWS settings", "other Kubernetes")


@pytest.fixture
def sockets(monkeypatch):
    """Every connection that is tried; none is made."""
    tried = []

    def connect(self, address):
        tried.append(address)
        raise ConnectionRefusedError(address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return tried


def build(place):
    environ, files = PLACES[place]
    return AwsResourceDetector(environ, read=lambda path: files.get(path, ""))


@pytest.mark.parametrize("place", PLACES)
def test_detect_gives_a_resource_and_no_warning(place, sockets, caplog):
    caplog.set_level(logging.INFO)
    detector = build(place)
    assert isinstance(detector, ResourceDetector)
    resource = detector.detect()
    assert type(resource) is Resource
    assert "service.name" not in resource.attributes
    assert not detector.is_process_dependent()
    assert caplog.records == []
    if place in OFF_AWS:
        assert dict(resource.attributes) == {}


@pytest.mark.parametrize("place", [*OFF_AWS, "lambda"])
def test_no_network_and_no_thread_without_a_metadata_service(place, sockets):
    before = set(threading.enumerate())
    build(place).detect()
    assert build(place).detect_in_background().done
    assert sockets == []
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("place", PLACES)
def test_background_and_synchronous_detection_agree(place, sockets):
    detection = build(place).detect_in_background()
    assert detection.wait(10)
    assert Resource(detection.attributes) == build(place).detect()


@pytest.mark.parametrize("failing", ["read", "fetch", "clock", "readlink"])
def test_a_broken_outside_world_never_raises(failing):
    def broken(*args):
        raise RuntimeError(failing)

    environ = {"ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4"}
    for variables in (environ, {"AWS_LAMBDA_FUNCTION_NAME": "f"}, {}):
        assert isinstance(AwsResourceDetector(variables, **{failing: broken}).detect(), Resource)


def test_the_users_resource_attributes_win_in_the_sdks_own_aggregation(monkeypatch):
    from opentelemetry.sdk.resources import OTELResourceDetector

    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "faas.name=mine")
    found = get_aggregated_resources([build("lambda"), OTELResourceDetector()], Resource({}))
    assert found.attributes["faas.name"] == "mine"
    assert found.attributes["cloud.platform"] == "aws_lambda"


@pytest.mark.slow
def test_off_aws_nothing_heavy_is_imported():
    code = (
        "import sys, opentelemetry.sdk.trace; before = set(sys.modules)\n"
        "from spanwell.enrich.aws import AwsResourceDetector\n"
        "AwsResourceDetector({}, read=lambda path: '').detect_in_background()\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    added = done.stdout.split()
    rooms = ("aws", "late")
    ours = {"spanwell", "spanwell._children", "spanwell._guard", "spanwell.where", "spanwell.enrich"}
    assert set(added) <= ours | {f"spanwell.enrich.{room}" for room in rooms}
