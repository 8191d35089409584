# Three functions of one code: the API and the pages, what combines, and what looks once a minute for steps that are overdue.

locals {
  names = {
    api        = "${var.name}-api"
    aggregator = "${var.name}-aggregator"
    tick       = "${var.name}-tick"
  }

  kept = {
    MESHNET_TABLE  = aws_dynamodb_table.this.name
    MESHNET_BUCKET = aws_s3_bucket.this.id
    MESHNET_QUEUE  = aws_sqs_queue.steps.url
  }
}

resource "aws_lambda_function" "api" {
  function_name    = local.names.api
  role             = aws_iam_role.function["api"].arn
  handler          = "service.aws.api"
  filename         = var.api_package
  source_code_hash = filebase64sha256(var.api_package)
  runtime          = var.runtime
  architectures    = [var.architecture]
  memory_size      = var.api_memory
  timeout          = 29

  environment {
    variables = merge(local.kept, {
      MESHNET_ISSUER = local.issuer
      MESHNET_CLIENT = aws_cognito_user_pool_client.this.id
      MESHNET_KEYS   = local.keys

      MESHNET_PAGES   = aws_cognito_user_pool_client.pages.id
      MESHNET_DOOR    = local.door
      MESHNET_ADDRESS = local.address
    })
  }

  depends_on = [aws_cloudwatch_log_group.function]
}

resource "aws_lambda_function" "aggregator" {
  function_name = local.names.aggregator
  role          = aws_iam_role.function["aggregator"].arn
  architectures = [var.architecture]
  memory_size   = var.aggregator_memory
  timeout       = local.aggregator_seconds

  package_type     = var.aggregator_image == "" ? "Zip" : "Image"
  image_uri        = var.aggregator_image == "" ? null : var.aggregator_image
  handler          = var.aggregator_image == "" ? "service.aws.aggregate" : null
  runtime          = var.aggregator_image == "" ? var.runtime : null
  filename         = var.aggregator_image == "" ? var.aggregator_package : null
  source_code_hash = var.aggregator_image == "" ? filebase64sha256(var.aggregator_package) : null

  dynamic "image_config" {
    for_each = var.aggregator_image == "" ? [] : [true]

    content {
      entry_point = ["python", "-m", "service.runtime"]
      command     = ["service.aws.aggregate"]
    }
  }

  # A run's folder is unpacked here by an aggregator that has not seen the run yet.
  ephemeral_storage {
    size = 4096
  }

  environment {
    variables = local.kept
  }

  depends_on = [aws_cloudwatch_log_group.function]
}

resource "aws_lambda_function" "tick" {
  function_name    = local.names.tick
  role             = aws_iam_role.function["tick"].arn
  handler          = "service.aws.tick"
  filename         = var.api_package
  source_code_hash = filebase64sha256(var.api_package)
  runtime          = var.runtime
  architectures    = [var.architecture]
  memory_size      = 512
  timeout          = 55

  environment {
    variables = local.kept
  }

  depends_on = [aws_cloudwatch_log_group.function]
}

resource "aws_lambda_event_source_mapping" "steps" {
  event_source_arn        = aws_sqs_queue.steps.arn
  function_name           = aws_lambda_function.aggregator.arn
  batch_size              = 1
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.aggregators
  }
}

resource "aws_cloudwatch_event_rule" "tick" {
  name                = local.names.tick
  description         = "Looks for steps that are overdue or were forgotten."
  schedule_expression = "rate(1 minute)"
}

resource "aws_cloudwatch_event_target" "tick" {
  rule = aws_cloudwatch_event_rule.tick.name
  arn  = aws_lambda_function.tick.arn
}

resource "aws_lambda_permission" "tick" {
  statement_id  = "schedule"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.tick.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.tick.arn
}
