"""aiobotocore against moto."""

import asyncio
import os

from aiobotocore.session import get_session

run = os.environ["RUN"]


async def main():
    async with get_session().create_client("sqs") as sqs:
        queue = (await sqs.create_queue(QueueName=f"aio-{run}"))["QueueUrl"]
        await sqs.send_message(QueueUrl=queue, MessageBody="hello")
        answer = await sqs.receive_message(QueueUrl=queue)
        print([message["Body"] for message in answer["Messages"]])
    async with get_session().create_client("dynamodb") as dynamodb:
        try:
            await dynamodb.get_item(TableName="no-such-table", Key={"id": {"S": "7"}})
        except dynamodb.exceptions.ResourceNotFoundException as error:
            print(type(error).__name__)


asyncio.run(main())
