"""Loopback imitations of the EC2 and ECS metadata services, well and ill."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "AQAEAD-token=="

IDENTITY = {
    "accountId": "111122223333",
    "architecture": "x86_64",
    "availabilityZone": "eu-west-1b",
    "imageId": "ami-0abcdef1234567890",
    "instanceId": "i-0123456789abcdef0",
    "instanceType": "m5.large",
    "region": "eu-west-1",
}

TASK_ID = "158d1c8083dd49d6b527399fd6414f5c"
DOCKER_ID = "ea32192c8553fbff06c9340478a2ff089b2bb5646fb718b4ee206641c9086d66"
FARGATE_ID = "cd189a933e5849daa93386466019ab50-2495160603"


def container(launch_type: str) -> dict[str, object]:
    """What ${ECS_CONTAINER_METADATA_URI_V4} answers."""
    fargate = launch_type == "FARGATE"
    return {
        "DockerId": FARGATE_ID if fargate else DOCKER_ID,
        "Name": "web",
        "DockerName": "web" if fargate else "ecs-shop-24-web-cca48e8dcadd97805600",
        "Image": "111122223333.dkr.ecr.us-west-2.amazonaws.com/shop/web:1.4.2",
        "ImageID": "sha256:d691691e9652791a60114e67b365688d20d19940dde7c4736ea30e660d8d3553",
        "Labels": {
            "com.amazonaws.ecs.cluster": "default",
            "com.amazonaws.ecs.container-name": "web",
            "com.amazonaws.ecs.task-arn": f"arn:aws:ecs:us-west-2:111122223333:task/default/{TASK_ID}",
            "com.amazonaws.ecs.task-definition-family": "shop",
            "com.amazonaws.ecs.task-definition-version": "24",
        },
        "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING",
        "Limits": {"CPU": 10, "Memory": 128},
        "Type": "NORMAL",
        "LogDriver": "awslogs",
        "LogOptions": {
            "awslogs-create-group": "true",
            "awslogs-group": "/ecs/shop",
            "awslogs-region": "us-west-2",
            "awslogs-stream": f"ecs/web/{TASK_ID}",
        },
        "ContainerARN": "arn:aws:ecs:us-west-2:111122223333:container/0206b271-b33f-47ab-86c6-a0ba208a70a9",
        "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.100"]}],
    }


def task(launch_type: str) -> dict[str, object]:
    """What ${ECS_CONTAINER_METADATA_URI_V4}/task answers."""
    return {
        "Cluster": "arn:aws:ecs:us-west-2:111122223333:cluster/default" if launch_type == "FARGATE" else "default",
        "TaskARN": f"arn:aws:ecs:us-west-2:111122223333:task/default/{TASK_ID}",
        "Family": "shop",
        "Revision": "24",
        "DesiredStatus": "RUNNING",
        "AvailabilityZone": "us-west-2d",
        "Containers": [container(launch_type)],
        "LaunchType": launch_type,
    }


@contextlib.contextmanager
def http(answer, ssl_context=None):
    """A server that answers (status, body) = `answer(method, path, headers)`; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self):
            self.rfile.read(int(self.headers.get("Content-Length", "0")))  # unread, it would reset the connection
            status, body = answer(self.command, self.path, self.headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = reply

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if ssl_context is not None:
        server.socket = ssl_context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if ssl_context else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def imds(calls=None, document=None):
    """An IMDSv2 service: no document without a token fetched by PUT."""

    def answer(method, path, headers):
        if calls is not None:
            calls.append((method, path))
        if path == "/latest/api/token":
            fits = method == "PUT" and headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdigit()
            return (200, TOKEN.encode()) if fits else (405, b"")
        if headers.get("X-aws-ec2-metadata-token") != TOKEN:
            return 401, b""
        if path == "/latest/dynamic/instance-identity/document":
            return 200, json.dumps(document or IDENTITY).encode()
        return 404, b""

    return answer


def ecs(launch_type):
    """A task metadata endpoint below /v4/abc."""

    def answer(method, path, headers):
        pages = {"/v4/abc": container, "/v4/abc/task": task}
        return (200, json.dumps(pages[path](launch_type)).encode()) if path in pages else (404, b"")

    return answer


@contextlib.contextmanager
def raw(behave):
    """A TCP server that hands each connection to `behave(connection, stop)`; yields its base URL."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    threads = []

    def serve():
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                continue
            threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
            threads[-1].start()

    def one(connection):
        with connection, contextlib.suppress(OSError):
            behave(connection, stop)

    acceptor = threading.Thread(target=serve, daemon=True)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        acceptor.join(5)
        for thread in threads:
            thread.join(5)
        listener.close()


def hang(connection, stop):
    """Accepts and never answers."""
    stop.wait(30)


def drip(connection, stop):
    """One header byte at a time: no single recv ever times out."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not stop.wait(0.02):
        connection.sendall(b"x")


def drip_body(connection, stop):
    """A prompt header, then a body byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not stop.wait(0.02):
        connection.sendall(b" ")


def half(connection, stop):
    """Cuts the answer short."""
    connection.recv(65536)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"Cluster": ')


def noise(connection, stop):
    """Not HTTP at all."""
    connection.recv(65536)
    connection.sendall(b"\x00\x16SSH-2.0-OpenSSH\r\n\r\n")
