"""The default service name: what the user said, what the platform says, what was started."""

from __future__ import annotations

import pytest

from spanwell.enrich.service import UNKNOWN, default_service_name


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python shop.py", "shop"),
        ("/usr/bin/python3.12 -X dev -W ignore -u /srv/app/orders.py --port 80", "orders"),
        ("orders.py", "orders"),
        ("python -m shop", "shop"),
        ("python -m shop.worker --queue q", "shop.worker"),
        ("python -mshop.worker", "shop.worker"),
        ("python -m shop.__main__", "shop"),
        ("python /srv/shop/__main__.py", "shop"),
        ("python shop.pyz", "shop"),
        ("/srv/venv/bin/shop-worker --fast", "shop-worker"),
        ("gunicorn shop.web:app", "shop.web"),
        ("/usr/bin/python /venv/bin/gunicorn -b 0.0.0.0:8000 -w 4 shop.web:app", "shop.web"),
        ("gunicorn --bind localhost:8000 shop.web:create_app()", "shop.web"),
        ("gunicorn -k uvicorn.workers.UvicornWorker mysite.wsgi", "mysite"),
        ("gunicorn mysite.wsgi -k uvicorn.workers.UvicornWorker", "mysite"),
        ("python -m gunicorn shop.web:app", "shop.web"),
        ("gunicorn", "gunicorn"),
        ("uvicorn --host 0.0.0.0 --port 80 orders.main:app", "orders"),
        ("uvicorn main:app", "main"),
        ("hypercorn shop.asgi:app", "shop"),
        ("waitress-serve --call shop.web:create_app", "shop.web"),
        ("uwsgi --module=shop.web:app", "shop.web"),
        ("celery -A shop.tasks worker", "shop.tasks"),
        ("celery --app=proj.celery:app beat", "proj"),
        ("celery worker", "celery"),
        ("flask --app shop.web run", "shop.web"),
        ("flask -A shop/web.py run", "shop.web"),
        ("flask --app app.py run", "app"),
        ("fastapi run shop/main.py", "shop"),
        ("dramatiq shop.tasks", "shop.tasks"),
        ("python manage.py runserver --settings mysite.settings.dev", "mysite"),
        ("python manage.py migrate", "manage"),
        ("python -c pass", UNKNOWN),
        ("python", UNKNOWN),
        ("python -", UNKNOWN),
        ("python -u", UNKNOWN),
        ("pythonista run", "pythonista"),
        ("python -m", UNKNOWN),
    ],
)
def test_name_from_the_command(command, expected):
    assert default_service_name({}, command.split())[0] == expected


def test_sources_in_their_order():
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "shop-web-7d9f8c6b5d-x2x4z"}
    argv = ["gunicorn", "shop.web:app"]
    assert default_service_name({}, argv) == ("shop.web", "the command")
    assert default_service_name(pod, argv) == ("shop-web", "the Kubernetes deployment in HOSTNAME")
    function = {**pod, "AWS_LAMBDA_FUNCTION_NAME": "resize"}
    assert default_service_name(function, argv) == ("resize", "AWS_LAMBDA_FUNCTION_NAME")
    given = {**function, "OTEL_RESOURCE_ATTRIBUTES": "team=a, service.name = my%20shop ,x"}
    assert default_service_name(given, argv) == ("my shop", "OTEL_RESOURCE_ATTRIBUTES")
    named = {**given, "OTEL_SERVICE_NAME": "shop"}
    assert default_service_name(named, argv) == ("shop", "OTEL_SERVICE_NAME")
    assert default_service_name({}, []) == (UNKNOWN, "")
    assert default_service_name({}, [], "shop.main") == ("shop", "the command")


@pytest.mark.parametrize(
    "host",
    [
        "shop-web-0",
        "shop",
        "ip-10-0-1-2.ec2.internal",
        "shop-web-7d9f8c6b5d-x2x4zz",
        "shop-aeiouaeiou-x2x4z",
        "7d9f8c6b5d-x2x4z",
        "a" * 46 + "-7d9f8c6b5d-x2x4z",
    ],
)
def test_a_pod_name_that_no_replica_set_made_is_not_guessed_at(host):
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": host}
    assert default_service_name(environ, ["python"]) == (UNKNOWN, "")


def test_framework_variables_name_the_application():
    django = {"DJANGO_SETTINGS_MODULE": "mysite.settings"}
    assert default_service_name(django, ["python", "manage.py", "runserver"])[0] == "mysite"
    assert default_service_name({"FLASK_APP": "shop.web:create_app"}, ["flask", "run"])[0] == "shop.web"
