"""boto3 against moto: DynamoDB, S3, a queue, and an error that AWS reports."""

import os

import boto3

run = os.environ["RUN"]
dynamodb = boto3.client("dynamodb")
table = f"orders-{run}"
dynamodb.create_table(
    TableName=table,
    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    BillingMode="PAY_PER_REQUEST",
)
dynamodb.put_item(TableName=table, Item={"id": {"S": "7"}})
print(dynamodb.get_item(TableName=table, Key={"id": {"S": "7"}})["Item"])
try:
    dynamodb.get_item(TableName="no-such-table", Key={"id": {"S": "7"}})
except dynamodb.exceptions.ResourceNotFoundException as error:
    print(type(error).__name__)

sqs = boto3.client("sqs")
queue = sqs.create_queue(QueueName=f"queue-{run}")["QueueUrl"]
sqs.send_message(QueueUrl=queue, MessageBody="hello")
for message in sqs.receive_message(QueueUrl=queue)["Messages"]:
    print(message["Body"])

s3 = boto3.resource("s3", region_name="us-east-1")
bucket = s3.create_bucket(Bucket=f"bucket-{run}")
bucket.put_object(Key="hello", Body=b"hello")
print(s3.Object(bucket.name, "hello").get()["Body"].read())
