# A function with the spanwell layer: CDK in Python (aws-cdk-lib 2). Two ways, take one.
# Start: make layer, then call one of these in your stack.
# Change: the path of the zip, entry, handler, names, retention.
from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk.cloudformation_include import CfnInclude

RUNTIMES = [
    lambda_.Runtime.PYTHON_3_10,
    lambda_.Runtime.PYTHON_3_11,
    lambda_.Runtime.PYTHON_3_12,
    lambda_.Runtime.PYTHON_3_13,
    lambda_.Runtime.PYTHON_3_14,
]


def included(stack: Stack, bucket: str) -> CfnInclude:
    """The resources of cloudformation.yaml as they are."""
    return CfnInclude(stack, "Spanwell", template_file="cloudformation.yaml", parameters={"ArtifactBucket": bucket})


def constructed(stack: Stack) -> lambda_.Function:
    """The same with constructs."""
    layer = lambda_.LayerVersion(
        stack,
        "SpanwellLayer",
        layer_version_name="spanwell",
        code=lambda_.Code.from_asset("dist/spanwell-layer.zip"),
        compatible_runtimes=RUNTIMES,
        compatible_architectures=[lambda_.Architecture.X86_64, lambda_.Architecture.ARM_64],
    )
    return lambda_.Function(
        stack,
        "Orders",
        code=lambda_.Code.from_asset("src"),
        handler="orders.handler",
        runtime=lambda_.Runtime.PYTHON_3_13,
        memory_size=512,
        timeout=Duration.seconds(10),
        layers=[layer],
        tracing=lambda_.Tracing.ACTIVE,  # CDK then gives the role what `spanwell iam xray` prints
        environment={
            "OTEL_SERVICE_NAME": "orders",  # without it, the function's name
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=production",
        },
        log_group=logs.LogGroup(
            stack, "OrdersLogs", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY
        ),
    )
