# "This run's step may be ready." A lost or doubled note does no harm: the table says what is so.

locals {
  aggregator_seconds = 900
}

resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-dead"
  message_retention_seconds = 14 * 24 * 3600
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue" "steps" {
  name                    = "${var.name}-steps"
  sqs_managed_sse_enabled = true
  # AWS asks for six times the function's time; a note that is shown again too early is claimed by nobody.
  visibility_timeout_seconds = 6 * local.aggregator_seconds
  # A day: after it, the schedule has asked anew long since.
  message_retention_seconds = 24 * 3600

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = 3
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  # An emulator never lets go of it.
  count = local.emulated ? 0 : 1

  queue_url = aws_sqs_queue.dead.id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.steps.arn]
  })
}
