"""When is the right moment for an instrumentor? Data only; imports nothing, read at every start.

A trigger fires when its import completes: the module has run to its end, the importing statement has not
yet bound a name. So `from flask import Flask` still gets the instrumented class. Rules for the reader:

1. An entry point whose name and target are both in `TABLE` waits until one of its triggers has been imported.
   Any other entry point is unknown and is applied at once: another vendor may use the same name (`openai`).
2. If, at that moment, a module of `AFTER[name]` is in the middle of its import, it waits for that one too.
   The same holds for the instrumentor's own module, which an application may import first.
3. An instrumentor in `FIRST_CALL` waits, after its trigger, for the first call of the function named there.
4. `EAGER` goes with the set-up of the SDK, `LAST` after everything else.
5. An instrumentor in `CAN_WAIT` may come later than its trigger: a Lambda function has it at the first invocation
   that is traced.
6. A trigger inside a package (`mysql.connector`) completes before the import system binds it on its parent;
   whoever applies the instrumentor binds it first, because `import mysql.connector` relies on it.
"""

_CONTRIB = "opentelemetry.instrumentation."

#: Entry-point name -> (target below `opentelemetry.instrumentation.`, trigger modules: the first one counts).
_ROWS: "dict[str, tuple[str, tuple[str, ...]]]" = {
    # AWS
    "aiobotocore": ("botocore:AiobotocoreInstrumentor", ("aiobotocore.client",)),
    "boto3": ("boto3sqs:Boto3SQSInstrumentor", ("boto3",)),
    "botocore": ("botocore:BotocoreInstrumentor", ("botocore.client",)),
    # HTTP clients
    "aiohttp-client": ("aiohttp_client:AioHttpClientInstrumentor", ("aiohttp",)),
    "httpx": ("httpx:HTTPXClientInstrumentor", ("httpx",)),
    "httpx2": ("httpx:HTTPX2ClientInstrumentor", ("httpx2",)),
    "requests": ("requests:RequestsInstrumentor", ("requests",)),
    "urllib": ("urllib:URLLibInstrumentor", ("urllib.request",)),
    "urllib3": ("urllib3:URLLib3Instrumentor", ("urllib3",)),
    # web frameworks
    "aiohttp-server": ("aiohttp_server:AioHttpServerInstrumentor", ("aiohttp.web",)),
    "django": ("django:DjangoInstrumentor", ("django.core.handlers.base",)),
    "falcon": ("falcon:FalconInstrumentor", ("falcon",)),
    "fastapi": ("fastapi:FastAPIInstrumentor", ("fastapi",)),
    "flask": ("flask:FlaskInstrumentor", ("flask",)),
    "pyramid": ("pyramid:PyramidInstrumentor", ("pyramid.config",)),
    "starlette": ("starlette:StarletteInstrumentor", ("starlette.applications",)),
    "tornado": ("tornado:TornadoInstrumentor", ("tornado.web", "tornado.httpclient")),
    # RPC; `import grpc` imports grpc.aio, but binds it only at its own end
    "grpc_aio_client": ("grpc:GrpcAioInstrumentorClient", ("grpc",)),
    "grpc_aio_server": ("grpc:GrpcAioInstrumentorServer", ("grpc",)),
    "grpc_client": ("grpc:GrpcInstrumentorClient", ("grpc",)),
    "grpc_server": ("grpc:GrpcInstrumentorServer", ("grpc",)),
    # databases and caches
    "aiopg": ("aiopg:AiopgInstrumentor", ("aiopg",)),
    "asyncpg": ("asyncpg:AsyncPGInstrumentor", ("asyncpg",)),
    "cassandra": ("cassandra:CassandraInstrumentor", ("cassandra.cluster",)),
    "elasticsearch": ("elasticsearch:ElasticsearchInstrumentor", ("elasticsearch",)),
    "mysql": ("mysql:MySQLInstrumentor", ("mysql.connector",)),
    "mysqlclient": ("mysqlclient:MySQLClientInstrumentor", ("MySQLdb",)),
    "psycopg": ("psycopg:PsycopgInstrumentor", ("psycopg",)),
    "psycopg2": ("psycopg2:Psycopg2Instrumentor", ("psycopg2",)),
    "pymemcache": ("pymemcache:PymemcacheInstrumentor", ("pymemcache",)),
    "pymongo": ("pymongo:PymongoInstrumentor", ("pymongo",)),
    "pymssql": ("pymssql:PyMSSQLInstrumentor", ("pymssql",)),
    "pymysql": ("pymysql:PyMySQLInstrumentor", ("pymysql",)),
    "redis": ("redis:RedisInstrumentor", ("redis",)),
    "sqlalchemy": ("sqlalchemy:SQLAlchemyInstrumentor", ("sqlalchemy",)),
    "sqlite3": ("sqlite3:SQLite3Instrumentor", ("sqlite3",)),
    "tortoiseorm": ("tortoiseorm:TortoiseORMInstrumentor", ("tortoise",)),
    # queues and workers
    "aio-pika": ("aio_pika:AioPikaInstrumentor", ("aio_pika",)),
    "aiokafka": ("aiokafka:AIOKafkaInstrumentor", ("aiokafka",)),
    "celery": ("celery:CeleryInstrumentor", ("celery.app",)),
    "confluent_kafka": ("confluent_kafka:ConfluentKafkaInstrumentor", ("confluent_kafka",)),
    "kafka": ("kafka:KafkaInstrumentor", ("kafka",)),
    "pika": ("pika:PikaInstrumentor", ("pika",)),
    "remoulade": ("remoulade:RemouladeInstrumentor", ("remoulade",)),
    # the rest
    "asyncclick": ("asyncclick:AsyncClickInstrumentor", ("asyncclick",)),
    "click": ("click:ClickInstrumentor", ("click",)),
    "jinja2": ("jinja2:Jinja2Instrumentor", ("jinja2",)),
    "openai": ("openai_v2:OpenAIInstrumentor", ("openai",)),
    "structlog": ("structlog:StructlogInstrumentor", ("structlog",)),
}

#: Entry-point name -> (``"module:Class"``, trigger modules).
TABLE: "dict[str, tuple[str, tuple[str, ...]]]" = {
    name: (_CONTRIB + target, triggers) for name, (target, triggers) in _ROWS.items()
}

#: Instrumentors of the standard library itself, which every process has imported already.
EAGER: "frozenset[str]" = frozenset({"asyncio", "exceptions", "logging", "system_metrics", "threading"})

#: Of those, the ones whose module not every process imports: until it does there is nothing to instrument.
WHEN_IMPORTED: "dict[str, str]" = {"asyncio": "asyncio"}

#: `instrument()` imports the user's handler, so everything else must be in place; deferred, it waits for that import.
LAST: "dict[str, str]" = {"aws-lambda": _CONTRIB + "aws_lambda:AwsLambdaInstrumentor"}

#: Entry-point name -> modules that import the trigger on their way; while one is half imported, wait for it.
AFTER: "dict[str, tuple[str, ...]]" = {
    # The instrumentor asks for flask.cli, and goes without Flask's commands when it cannot have it.
    "click": ("flask",),
    # FastAPI must subclass the plain Starlette, as it does when everything is instrumented at start.
    "starlette": ("fastapi",),
    "tornado": ("tornado.web", "tornado.websocket"),
}

#: Entry-point name -> function of its trigger module whose first call is the moment.
FIRST_CALL: "dict[str, str]" = {
    # `instrument()` reads settings.MIDDLEWARE. The stock wsgi.py imports django.core.wsgi, hence the trigger,
    # before it names the settings module: read then, Django would be configured with empty settings for good.
    "django": "BaseHandler.load_middleware",
}


#: Modules that get something from spanwell itself, without an instrumentor (`libraries`).
FOLLOWED: "frozenset[str]" = frozenset({"structlog", "loguru", "multiprocessing.pool", "concurrent.futures.process"})


#: Instrumentors that wrap methods which are looked up at every call: clients made before them are traced, too.
CAN_WAIT: "frozenset[str]" = frozenset(
    {
        "aiobotocore",
        "asyncpg",
        "boto3",
        "botocore",
        "httpx",
        "httpx2",
        "jinja2",
        "pymemcache",
        "redis",
        "requests",
        "urllib",
        "urllib3",
    }
)

#: Modules that may go without some of their imports (`_otel.stand_ins`).
STAND_INS: "frozenset[str]" = frozenset(
    {
        "opentelemetry.attributes",
        "opentelemetry.baggage.propagation",
        "opentelemetry.instrumentation._semconv",
        "opentelemetry.instrumentation.dependencies",
        "opentelemetry.metrics._internal.instrument",
        "opentelemetry.propagators.composite",
        "opentelemetry.sdk._shared_internal",
        "opentelemetry.sdk.resources",
        "opentelemetry.sdk.trace",
        "opentelemetry.sdk.util",
        "opentelemetry.sdk.util.instrumentation",
        "opentelemetry.semconv._incubating.attributes.db_attributes",
        "opentelemetry.semconv._incubating.attributes.http_attributes",
        "opentelemetry.semconv._incubating.attributes.net_attributes",
        "opentelemetry.semconv._incubating.attributes.otel_attributes",
        "opentelemetry.semconv._incubating.attributes.rpc_attributes",
        "opentelemetry.semconv.resource",
        "opentelemetry.util._decorator",
        "opentelemetry.util.re",
        "wrapt.synchronization",
    }
)

#: Watched besides: the OpenTelemetry API, whose import tells that telemetry may be wanted soon, and multiprocessing,
#: whose children end without running exit handlers.
ALSO_WATCHED: "frozenset[str]" = STAND_INS | {
    "opentelemetry.trace",
    "opentelemetry.metrics._internal",
    "opentelemetry._logs._internal",
    "opentelemetry.propagate",
    "multiprocessing.util",
}


def waiting_modules() -> "set[str]":
    """Of the watched modules those whose import nothing has to happen at once for."""
    names = set(FOLLOWED)
    names.add("multiprocessing.util")
    for instrumentor in CAN_WAIT:
        target, triggers = TABLE[instrumentor]
        names.update(triggers)
        names.add(target.partition(":")[0])
    return names


def watched_modules() -> set[str]:
    """Every module whose import may be the moment of some instrumentor; in Lambda the handler's comes to these."""
    names = {module for _, triggers in TABLE.values() for module in triggers}
    names.update(module for modules in AFTER.values() for module in modules)
    names.update(WHEN_IMPORTED.values())
    names.update(target.partition(":")[0] for target, _ in TABLE.values())
    names.update(FOLLOWED)
    return names
