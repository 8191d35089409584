resource "aws_cloudwatch_log_group" "function" {
  for_each = local.names

  name              = "/aws/lambda/${each.value}"
  retention_in_days = var.log_days
}

resource "aws_cloudwatch_log_group" "access" {
  name              = "/aws/apigateway/${var.name}"
  retention_in_days = var.log_days
}

# The schedule writes one line of JSON a minute; its number of overdue steps becomes a metric.
resource "aws_cloudwatch_log_metric_filter" "overdue" {
  count = var.alarms ? 1 : 0

  name           = "overdue"
  log_group_name = aws_cloudwatch_log_group.function["tick"].name
  pattern        = "{ $.overdue = * }"

  metric_transformation {
    name      = "OverdueSteps"
    namespace = var.name
    value     = "$.overdue"
  }
}
