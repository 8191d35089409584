# What each function may do, and nothing else. None may scan the table.

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
  table            = aws_dynamodb_table.this.arn
  indexes_of_table = [for name in local.indexes : "${local.table}/index/${name}"]
  bucket           = aws_s3_bucket.this.arn
  queue            = aws_sqs_queue.steps.arn

  # To read, and to write on conditions.
  records = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:ConditionCheckItem"]
  # A signed address can do what its signer may. Without the right to list, what is missing would look forbidden.
  files = [
    { actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], resources = ["${local.bucket}/*"] },
    { actions = ["s3:ListBucket"], resources = [local.bucket] },
  ]

  grants = {
    # It forgets whole runs, and reservations that were used.
    api = concat(local.files, [
      { actions = concat(local.records, ["dynamodb:DeleteItem", "dynamodb:BatchWriteItem"]), resources = [local.table] },
      { actions = ["dynamodb:Query"], resources = local.indexes_of_table },
      { actions = ["sqs:SendMessage"], resources = [local.queue] },
      # Whom a coordinator can invite.
      { actions = ["cognito-idp:ListUsersInGroup"], resources = [aws_cognito_user_pool.this.arn] },
    ])
    # It deletes single updates once they are in a result.
    aggregator = concat(local.files, [
      { actions = local.records, resources = [local.table] },
      { actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:SendMessage"], resources = [local.queue] },
    ])
    tick = [
      { actions = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"], resources = [local.table] },
      { actions = ["dynamodb:Query"], resources = local.indexes_of_table },
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
