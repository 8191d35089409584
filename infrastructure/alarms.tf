locals {
  functions = var.alarms ? local.names : {}
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  for_each = local.functions

  alarm_name          = "${each.value}-errors"
  alarm_description   = "The function ended with an error: its log says which."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = each.value }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
}

resource "aws_cloudwatch_metric_alarm" "server" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-5xx"
  alarm_description   = "The API answered with a fault of its own."
  namespace           = "AWS/ApiGateway"
  metric_name         = "5xx"
  dimensions          = { ApiId = aws_apigatewayv2_api.this.id }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
}

resource "aws_cloudwatch_metric_alarm" "dead" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-dead"
  alarm_description   = "A step could not be combined, three times over."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
}

resource "aws_cloudwatch_metric_alarm" "waiting" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-waiting"
  alarm_description   = "Steps wait for an aggregator: none runs, or too few."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.steps.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  comparison_operator = "GreaterThanThreshold"
  threshold           = local.aggregator_seconds
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
}

resource "aws_cloudwatch_metric_alarm" "stuck" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-stuck"
  alarm_description   = "A step has been overdue for long; or nobody looked any more."
  namespace           = var.name
  metric_name         = aws_cloudwatch_log_metric_filter.overdue[0].metric_transformation[0].name
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = var.stuck_minutes
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topics
}
