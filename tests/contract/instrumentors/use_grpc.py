"""gRPC without generated code, sync and aio: a unary call, a stream, an error; client and server."""

import asyncio
from concurrent import futures

import grpc


def same(request, context):
    if request == b"bad":
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad")
    return request


def many(request, context):
    yield request
    yield request


async def aio_same(request, context):
    return request


server = grpc.server(futures.ThreadPoolExecutor(2))
handlers = {
    "Same": grpc.unary_unary_rpc_method_handler(same),
    "Many": grpc.unary_stream_rpc_method_handler(many),
}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Shop", handlers),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    print(channel.unary_unary("/Shop/Same")(b"hello"))
    print(list(channel.unary_stream("/Shop/Many")(b"hello")))
    try:
        channel.unary_unary("/Shop/Same")(b"bad")
    except grpc.RpcError as error:
        print(error.code())
server.stop(None).wait()


async def main():
    server = grpc.aio.server()
    handlers = {"Same": grpc.unary_unary_rpc_method_handler(aio_same)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("AioShop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        print(await channel.unary_unary("/AioShop/Same")(b"hello"))
    await server.stop(None)


asyncio.run(main())
