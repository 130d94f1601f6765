# A function with the spanwell layer: Terraform.
# Start: make layer, then terraform init && terraform apply
# Change: the paths of the zip files, handler, the names, the retention.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.32"
    }
  }
}

variable "layer_zip" {
  type        = string
  default     = "dist/spanwell-layer.zip"
  description = "What make layer built"
}

variable "code_zip" {
  type        = string
  default     = "orders.zip"
  description = "The function's code"
}

resource "aws_lambda_layer_version" "spanwell" {
  layer_name               = "spanwell"
  filename                 = var.layer_zip
  source_code_hash         = filebase64sha256(var.layer_zip)
  compatible_runtimes      = ["python3.10", "python3.11", "python3.12", "python3.13", "python3.14"]
  compatible_architectures = ["x86_64", "arm64"]
}

resource "aws_lambda_function" "orders" {
  function_name    = "orders"
  filename         = var.code_zip
  source_code_hash = filebase64sha256(var.code_zip)
  handler          = "orders.handler"
  runtime          = "python3.13"
  memory_size      = 512
  timeout          = 10
  role             = aws_iam_role.orders.arn
  layers           = [aws_lambda_layer_version.spanwell.arn]

  # Active: Lambda samples, and its daemon takes the spans. With PassThrough a trace is only recorded where the
  # caller sampled it.
  tracing_config {
    mode = "Active"
  }

  environment {
    variables = {
      OTEL_SERVICE_NAME        = "orders" # without it, the function's name
      OTEL_RESOURCE_ATTRIBUTES = "deployment.environment.name=production"
      # SPANWELL_INSIGHTS      = "true" # what was slow, failing or repeated, as attributes of the trace
      # OTEL_METRICS_EXPORTER  = "emf" # the same as CloudWatch metrics, which are billed
    }
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.orders.name
  }

  depends_on = [aws_iam_role_policy.orders]
}

resource "aws_cloudwatch_log_group" "orders" {
  name              = "/aws/lambda/orders"
  retention_in_days = 30
}

resource "aws_iam_role" "orders" {
  name_prefix = "orders-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

data "aws_iam_policy_document" "orders" {
  statement {
    sid       = "SegmentsOfTheDaemon" # what `spanwell iam xray` prints
    actions   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
    resources = ["*"]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.orders.arn}:*"]
  }
}

resource "aws_iam_role_policy" "orders" {
  role   = aws_iam_role.orders.id
  policy = data.aws_iam_policy_document.orders.json
}
