# What each function may do, and nothing else. None may scan the table, list the bucket or delete from it.

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "function" {
  for_each = local.names

  name               = each.value
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "function" {
  for_each = local.names

  name   = each.value
  role   = aws_iam_role.function[each.key].id
  policy = data.aws_iam_policy_document.function[each.key].json
}

locals {
  record           = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"]
  table            = aws_dynamodb_table.this.arn
  indexes_of_table = [for name in local.indexes : "${local.table}/index/${name}"]
  objects          = "${aws_s3_bucket.this.arn}/*"
  queue            = aws_sqs_queue.steps.arn

  grants = {
    api = [
      { actions = local.record, resources = [local.table] },
      { actions = ["dynamodb:Query"], resources = local.indexes_of_table },
      # A signed address can do what its signer may.
      { actions = ["s3:GetObject", "s3:PutObject"], resources = [local.objects] },
      { actions = ["sqs:SendMessage"], resources = [local.queue] },
    ]
    aggregator = [
      { actions = local.record, resources = [local.table] },
      { actions = ["dynamodb:Query"], resources = local.indexes_of_table },
      { actions = ["s3:GetObject", "s3:PutObject"], resources = [local.objects] },
      { actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:SendMessage"], resources = [local.queue] },
    ]
    tick = [
      { actions = ["dynamodb:GetItem", "dynamodb:Query"], resources = concat([local.table], local.indexes_of_table) },
      { actions = ["sqs:SendMessage"], resources = [local.queue] },
    ]
  }
}

data "aws_iam_policy_document" "function" {
  for_each = local.names

  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"]
  }

  dynamic "statement" {
    for_each = local.grants[each.key]

    content {
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }
}
