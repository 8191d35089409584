# The only door. The API's requests show a token that the gateway has checked, and the app checks it again. Browsers show
# a cookie, which the gateway knows nothing of: pages are for the app to guard, and so are the two of health.

resource "aws_apigatewayv2_api" "this" {
  name          = var.name
  protocol_type = "HTTP"
  # One address: cookies and sign-ins are of it.
  disable_execute_api_endpoint = var.domain != null
}

resource "aws_apigatewayv2_authorizer" "token" {
  api_id           = aws_apigatewayv2_api.this.id
  name             = "token"
  authorizer_type  = "JWT"
  identity_sources = ["$request.header.Authorization"]

  jwt_configuration {
    issuer   = local.issuer
    audience = [aws_cognito_user_pool_client.this.id]
  }

  lifecycle {
    # An emulator answers with one; authorizers by token have none.
    ignore_changes = [authorizer_payload_format_version]
  }
}

resource "aws_apigatewayv2_integration" "api" {
  api_id                 = aws_apigatewayv2_api.this.id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.api.invoke_arn
  payload_format_version = "2.0"
  timeout_milliseconds   = 30000
}

resource "aws_apigatewayv2_route" "private" {
  api_id             = aws_apigatewayv2_api.this.id
  route_key          = "ANY /v1/{path+}"
  target             = "integrations/${aws_apigatewayv2_integration.api.id}"
  authorization_type = "JWT"
  authorizer_id      = aws_apigatewayv2_authorizer.token.id
}

resource "aws_apigatewayv2_route" "health" {
  for_each = toset(["GET /healthz", "GET /readyz"])

  api_id             = aws_apigatewayv2_api.this.id
  route_key          = each.key
  target             = "integrations/${aws_apigatewayv2_integration.api.id}"
  authorization_type = "NONE"
}

locals {
  # Whatever else is asked for never reaches the app.
  pages = [
    "GET /",
    "GET /favicon.ico",
    "GET /invitations",
    "GET /logged-out",
    "GET /login",
    "GET /login/callback",
    "POST /logout",
    "GET /pulse",
    "GET /runs/{path+}",
    "POST /runs/{path+}",
    "GET /static/{path+}",
  ]
}

resource "aws_apigatewayv2_route" "page" {
  for_each = toset(local.pages)

  api_id             = aws_apigatewayv2_api.this.id
  route_key          = each.key
  target             = "integrations/${aws_apigatewayv2_integration.api.id}"
  authorization_type = "NONE"
}

resource "aws_apigatewayv2_stage" "this" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true

  default_route_settings {
    throttling_rate_limit    = var.throttle.rate
    throttling_burst_limit   = var.throttle.burst
    detailed_metrics_enabled = true
  }

  dynamic "access_log_settings" {
    # An emulator forgets them, and would see a change in every plan.
    for_each = local.emulated ? [] : [true]

    content {
      destination_arn = aws_cloudwatch_log_group.access.arn
      # Who by the token's subject, never the token; no address, no query.
      format = jsonencode({
        at          = "$context.requestTime"
        id          = "$context.requestId"
        route       = "$context.routeKey"
        status      = "$context.status"
        subject     = "$context.authorizer.claims.sub"
        bytes       = "$context.responseLength"
        ms          = "$context.responseLatency"
        refused     = "$context.authorizer.error"
        integration = "$context.integrationErrorMessage"
      })
    }
  }
}

resource "aws_lambda_permission" "api" {
  statement_id  = "gateway"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.api.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.this.execution_arn}/*/*"
}

# A name of one's own. Its record is for whoever keeps that domain: an alias of, or a CNAME to, the output `domain_target`.
resource "aws_apigatewayv2_domain_name" "own" {
  count = var.domain == null ? 0 : 1

  domain_name = var.domain.name

  domain_name_configuration {
    certificate_arn = var.domain.certificate
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "own" {
  count = var.domain == null ? 0 : 1

  api_id      = aws_apigatewayv2_api.this.id
  domain_name = aws_apigatewayv2_domain_name.own[0].id
  stage       = aws_apigatewayv2_stage.this.id
}
