"""The service's name when the user gave none: from the platform, else from the command that was started."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNKNOWN = "unknown_service:python"

_MAX = 255
# The alphabet of Kubernetes' generated name parts: no vowels, nothing that reads like another letter.
_GENERATED = frozenset("bcdfghjklmnpqrstvwxz2456789")
# Options of the interpreter that take the next argument.
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
# A module of this name says what it is, not what the service is: `shop.wsgi` is the shop.
_GENERIC = ("__main__", "app", "asgi", "celery", "main", "manage", "wsgi")
_APP_SERVERS = (
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "granian",
    "waitress-serve",
    "uwsgi",
    "dramatiq",
)


def default_service_name(environ: Mapping[str, str], argv: Sequence[str], main: str = "") -> tuple[str, str]:
    """(name, where it came from) for a process started as `argv`.

    `argv` is the command with or without the interpreter and its options (`sys.orig_argv` or the words after
    `spanwell run --`). `main` is the module started by `python -m`, where the caller knows it
    (`__main__.__spec__.name`). The user's own name, in OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES, always
    wins; without any evidence the name is `unknown_service:python` and its source "". Pure, never raises.
    """
    guesses = (
        (environ.get("OTEL_SERVICE_NAME", ""), "OTEL_SERVICE_NAME"),
        (_given(environ.get("OTEL_RESOURCE_ATTRIBUTES", "")), "OTEL_RESOURCE_ATTRIBUTES"),
        (environ.get("AWS_LAMBDA_FUNCTION_NAME", ""), "AWS_LAMBDA_FUNCTION_NAME"),
        (_deployment(environ), "the Kubernetes deployment in HOSTNAME"),
        (_command(environ, list(argv), main), "the command"),
    )
    for name, source in guesses:
        clean = "".join(filter(str.isprintable, name)).strip()[:_MAX]
        if clean:
            return clean, source
    return UNKNOWN, ""


def _given(attributes: str) -> str:
    name = ""
    for pair in attributes.split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name":
            from urllib.parse import unquote

            name = unquote(value.strip())
    return name


def _deployment(environ: Mapping[str, str]) -> str:
    """`shop-web` of the pod `shop-web-7d9f8c6b5d-x2x4z`; "" for any name that no ReplicaSet made."""
    host = environ.get("HOSTNAME", "") if environ.get("KUBERNETES_SERVICE_HOST") else ""
    owner, _, pod = host.rpartition("-")
    name, _, replica_set = owner.rpartition("-")
    # At 63 characters the name was cut, and its parts cannot be told any more.
    if len(host) >= 63 or len(pod) != 5 or not 8 <= len(replica_set) <= 10:
        return ""
    return name if _GENERATED.issuperset(pod) and _GENERATED.issuperset(replica_set) else ""


def _command(environ: Mapping[str, str], argv: list[str], main: str) -> str:
    argv = _without_interpreter(argv)
    if not argv:
        return _module(main)
    program, rest = _program(argv[0]), argv[1:]
    if argv[0] == "-m":
        program, rest = (rest[0] if rest else main), rest[1:]
    if argv[0] == "-c" or not program:
        return ""
    return _application(program, rest, environ) or _module(program)


def _without_interpreter(argv: list[str]) -> list[str]:
    """From the script, or from -m or -c, onwards; [] for a bare interpreter."""
    if not argv or not _is_python(argv[0]):
        return argv
    rest = argv[1:]
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c", "-"):
        if rest[0][:2] in ("-m", "-c"):
            return [rest[0][:2], rest[0][2:], *rest[1:]]
        rest = rest[2:] if rest[0] in _WITH_VALUE else rest[1:]
    return [] if rest[:1] == ["-"] else rest


def _is_python(program: str) -> bool:
    name = _base(program).lower().removesuffix(".exe")
    return name.rstrip("0123456789.t") in ("python", "pypy") or name in ("python", "pythonw")


def _base(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _program(path: str) -> str:
    """The script's name without its ending; the folder's for a folder's __main__.py."""
    name = _base(path)
    if name == "__main__.py":
        return _base(path.replace("\\", "/").rpartition("/")[0]) or "__main__"
    for ending in (".py", ".pyc", ".pyz", ".exe"):
        name = name.removesuffix(ending)
    return name


def _module(name: str) -> str:
    """`name` without what says nothing at its end: `orders.main` is `orders`, but `main` stays `main`."""
    parts = name.split(".")
    while len(parts) > 1 and parts[-1] in _GENERIC:
        parts.pop()
    return ".".join(parts)


def _application(program: str, rest: list[str], environ: Mapping[str, str]) -> str:
    """The application behind a server or a framework's command; "" if `program` is the application."""
    if program in ("manage", "django-admin", "django"):
        settings = _option(rest, "--settings") or environ.get("DJANGO_SETTINGS_MODULE", "")
        return settings.partition(".settings")[0]
    if program == "celery":
        return _target(_option(rest, "-A", "--app"))
    if program == "flask":
        return _target(_option(rest, "-A", "--app") or environ.get("FLASK_APP", ""))
    if program == "fastapi":
        return _target(next((word for word in rest if word.endswith(".py")), ""))
    return _served(rest) if program in _APP_SERVERS else ""


def _option(words: list[str], *names: str) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in names:
            return following
        name, equals, value = word.partition("=")
        if equals and name in names:
            return value
    return ""


def _served(words: list[str]) -> str:
    """The `module:attribute` among a server's arguments, or else a lone dotted module."""
    for word in words:
        module, colon, attribute = word.partition("=")[2].partition(":") if word[:2] == "--" else word.partition(":")
        if colon and _dotted(module) and attribute[:1].isidentifier():
            return _module(module)
    for before, word in zip(["", *words], words, strict=False):
        if _dotted(word) and (not before.startswith("-") or "=" in before):
            return _module(word)
    return ""


def _target(text: str) -> str:
    """The module of `shop.web`, `shop.web:create_app()` or `shop/web.py`."""
    path = text.partition(":")[0].removesuffix(".py").replace("\\", "/").strip("./").replace("/", ".")
    return _module(path) if _dotted(path) else _module(path.rpartition(".")[2])


def _dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
