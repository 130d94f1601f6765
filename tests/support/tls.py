"""A certificate authority of a test's own, servers and clients that it vouches for, and a CONNECT proxy."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Its certificate is the file `ca`; `issue` makes further ones in `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {name}")])
        self._certificate = self._signed(self._name, self._key.public_key(), [], ca=True)
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, *names: str) -> tuple[Path, Path]:
        """(certificate, key) for host names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        made = self._signed(subject, key.public_key(), list(names))
        files = self._folder / f"{names[0]}.pem", self._folder / f"{names[0]}.key"
        files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, names: list[str], *, ca: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(*(True, False, False, False, False), ca, *(ca, False, False)),
                critical=True,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_named(name) for name in names]), False)
        return builder.sign(self._key, hashes.SHA256())


def _named(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextlib.contextmanager
def https_server(
    handler: type[BaseHTTPRequestHandler], certificate: tuple[Path, Path], *, clients: Path | None = None
) -> Iterator[str]:
    """An HTTPS server; with `clients` it wants a certificate of that authority from whoever connects."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*map(str, certificate))
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(str(clients))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]
    # The handshake is made by the thread of the connection, at its first read.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Proxy:
    """What a CONNECT proxy was asked for: request lines and the credentials with them."""

    def __init__(self, to: str, answer: bytes) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.credentials: list[str] = []
        host, _, port = to.partition("://")[2].partition(":")
        self._to = host, int(port or 1)
        self._answer = answer

    def serve(self, client: socket.socket) -> None:
        """One connection, passed on to `to` whatever host is asked for."""
        head = b""
        while b"\r\n\r\n" not in head:
            more = client.recv(65536)
            if not more:
                return
            head += more
        lines = head.decode("latin-1").split("\r\n")
        self.asked.append(lines[0])
        self.credentials += [line[21:] for line in lines if line.lower().startswith("proxy-authorization: ")]
        if not lines[0].startswith("CONNECT "):
            with socket.create_connection(self._to) as server:
                server.sendall(head)
                _pass_on(client, server)
            return
        client.sendall(self._answer)
        if b" 200 " in self._answer:
            with socket.create_connection(self._to) as server:
                _pass_on(client, server)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            for ready in select.select([one, other], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                (other if ready is one else one).sendall(data)


@contextlib.contextmanager
def proxy(to: str, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Iterator[Proxy]:
    """A proxy in front of the server at URL `to`."""
    made = Proxy(to, answer)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        made.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def run() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return

                def one(client: socket.socket = client) -> None:
                    with client, contextlib.suppress(OSError):
                        made.serve(client)

                threading.Thread(target=one, daemon=True).start()

        threading.Thread(target=run, daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)
