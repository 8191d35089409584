# What an emulator does not check. Nothing is made: AWS answers with inventions.
#
#   cd infrastructure && terraform init && terraform test

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_resource "aws_cognito_user_pool" {
    defaults = { id = "eu-central-1_abcdefghi", arn = "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/eu-central-1_abcdefghi" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/one" }
  }

  mock_resource "aws_lambda_function" {
    defaults = {
      arn        = "arn:aws:lambda:eu-central-1:123456789012:function:one"
      invoke_arn = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-central-1:123456789012:function:one/invocations"
    }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:one", url = "https://sqs.eu-central-1.amazonaws.com/123456789012/one" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:one" }
  }

  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/one" }
  }

  mock_resource "aws_dynamodb_table" {
    defaults = { arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/one" }
  }

  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::one" }
  }

  mock_resource "aws_apigatewayv2_api" {
    defaults = { execution_arn = "arn:aws:execute-api:eu-central-1:123456789012:one", api_endpoint = "https://one.execute-api.eu-central-1.amazonaws.com" }
  }
}

variables {
  region           = "eu-central-1"
  aggregator_image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/meshnet@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  # Any file: nothing is sent.
  api_package = "outputs.tf"
}

run "only_health_and_pages_are_open" {
  command = apply

  assert {
    condition     = aws_apigatewayv2_route.private.authorization_type == "JWT" && aws_apigatewayv2_route.private.authorizer_id == aws_apigatewayv2_authorizer.token.id
    error_message = "the API's route asks for no token"
  }

  assert {
    condition     = toset([for route in aws_apigatewayv2_route.health : route.route_key]) == toset(["GET /healthz", "GET /readyz"])
    error_message = "a route besides the two of health asks for no token"
  }

  assert {
    condition     = alltrue([for key in local.pages : can(regex("^(GET|POST) /", key)) && !can(regex(" /(v1|\\{)", key)) && !strcontains(key, "$default")])
    error_message = "a page's route lets requests of the API by"
  }

  assert {
    condition     = tolist(aws_apigatewayv2_authorizer.token.jwt_configuration[0].audience) == tolist([aws_cognito_user_pool_client.this.id])
    error_message = "tokens of other clients are taken"
  }

  assert {
    condition     = aws_apigatewayv2_stage.this.default_route_settings[0].throttling_rate_limit == 100 && aws_apigatewayv2_stage.this.default_route_settings[0].throttling_burst_limit == 200
    error_message = "nothing is throttled"
  }

  assert {
    condition     = !can(regex("(?i)authorization|header|querystring|sourceIp", aws_apigatewayv2_stage.this.access_log_settings[0].format))
    error_message = "the access log holds a token, a query or an address"
  }

  assert {
    condition     = aws_lambda_permission.api.principal == "apigateway.amazonaws.com" && startswith(aws_lambda_permission.api.source_arn, aws_apigatewayv2_api.this.execution_arn)
    error_message = "the gateway may not call the API, or any gateway may"
  }

  assert {
    condition     = aws_lambda_permission.tick.principal == "events.amazonaws.com" && aws_lambda_permission.tick.source_arn == aws_cloudwatch_event_rule.tick.arn
    error_message = "the schedule may not call, or any schedule may"
  }
}

run "least_privilege" {
  command = apply

  assert {
    condition = alltrue(flatten([
      for document in data.aws_iam_policy_document.function : [
        for statement in document.statement : [
          for action in statement.actions : can(regex("^[a-z0-9-]+:[A-Za-z]+$", action))
        ]
      ]
    ]))
    error_message = "an action is a wildcard"
  }

  assert {
    condition = alltrue(flatten([
      for document in data.aws_iam_policy_document.function : [
        for statement in document.statement : [
          for resource in statement.resources : startswith(resource, "arn:aws:") && !can(regex("\\*.*\\*|^arn:aws:[a-z0-9]+:\\*", resource))
        ]
      ]
    ]))
    error_message = "a resource is not one of ours"
  }

  assert {
    condition = !anytrue(flatten([
      for document in data.aws_iam_policy_document.function : [
        for statement in document.statement : [
          for action in statement.actions : contains(["dynamodb:Scan", "dynamodb:DeleteTable", "s3:DeleteBucket", "sqs:PurgeQueue"], action)
        ]
      ]
    ]))
    error_message = "a function may scan the table, or remove what holds everything"
  }

  assert {
    condition = alltrue(flatten([
      for statement in data.aws_iam_policy_document.function["tick"].statement : [
        for action in statement.actions : contains(["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "sqs:SendMessage", "logs:CreateLogStream", "logs:PutLogEvents"], action)
      ]
    ]))
    error_message = "the schedule may do more than look and ring"
  }

  assert {
    condition     = length(distinct([for role in aws_iam_role.function : role.name])) == 3
    error_message = "two functions share a role"
  }
}

run "kept_safely" {
  command = apply

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "the bucket may become public"
  }

  assert {
    condition = length(aws_s3_bucket_policy.tls) == 1 && anytrue([
      for statement in data.aws_iam_policy_document.tls.statement :
      statement.effect == "Deny" && anytrue([for one in statement.condition : one.variable == "aws:SecureTransport"])
    ])
    error_message = "the bucket can be spoken to without TLS"
  }

  assert {
    condition = anytrue([
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule :
      rule.status == "Enabled" && one(rule.filter).prefix == "updates/" && try(one(rule.expiration).days, 0) == 7
    ])
    error_message = "single updates are never deleted"
  }

  assert {
    condition = alltrue([
      aws_dynamodb_table.this.deletion_protection_enabled,
      aws_dynamodb_table.this.point_in_time_recovery[0].enabled,
      aws_dynamodb_table.this.server_side_encryption[0].enabled,
      aws_dynamodb_table.this.ttl[0].enabled,
      aws_dynamodb_table.this.billing_mode == "PAY_PER_REQUEST",
    ])
    error_message = "the table is not protected, encrypted, recoverable or on demand"
  }

  assert {
    condition     = aws_sqs_queue.steps.sqs_managed_sse_enabled && aws_sqs_queue.dead.sqs_managed_sse_enabled
    error_message = "a queue is not encrypted"
  }

  assert {
    condition     = !aws_s3_bucket.this.force_destroy && aws_cognito_user_pool.this.deletion_protection == "ACTIVE"
    error_message = "models or users may be destroyed by mistake"
  }

  assert {
    condition     = alltrue([for group in concat(values(aws_cloudwatch_log_group.function), [aws_cloudwatch_log_group.access]) : group.retention_in_days == 90])
    error_message = "a log is kept for ever"
  }
}

run "people" {
  command = apply

  assert {
    condition     = aws_cognito_user_pool.this.admin_create_user_config[0].allow_admin_create_user_only
    error_message = "anybody may register"
  }

  assert {
    condition     = toset([for group in aws_cognito_user_group.role : group.name]) == toset(["administrator", "coordinator", "site", "viewer"])
    error_message = "a role has no group"
  }

  assert {
    condition     = aws_cognito_user_pool_client.this.prevent_user_existence_errors == "ENABLED" && aws_cognito_user_pool_client.this.enable_token_revocation && !aws_cognito_user_pool_client.this.generate_secret
    error_message = "strangers can try names, or tokens cannot be revoked"
  }

  assert {
    condition = alltrue([
      tolist(aws_cognito_user_pool_client.pages.allowed_oauth_flows) == tolist(["code"]),
      tolist(aws_cognito_user_pool_client.pages.callback_urls) == tolist(["https://one.execute-api.eu-central-1.amazonaws.com/login/callback"]),
      tolist(aws_cognito_user_pool_client.pages.logout_urls) == tolist(["https://one.execute-api.eu-central-1.amazonaws.com/logged-out"]),
      tolist(aws_cognito_user_pool_client.pages.explicit_auth_flows) == tolist(["ALLOW_REFRESH_TOKEN_AUTH"]),
      aws_cognito_user_pool_client.pages.enable_token_revocation,
    ])
    error_message = "browsers are sent elsewhere, or passwords are taken outside the pool's pages"
  }

  assert {
    condition     = output.door == "https://meshnet-123456789012.auth.eu-central-1.amazoncognito.com"
    error_message = "people sign in elsewhere than at the pool"
  }

  assert {
    condition     = aws_cognito_user_pool.this.password_policy[0].minimum_length >= 16
    error_message = "short passwords are taken"
  }
}

run "second_factor_is_a_choice" {
  command = apply

  assert {
    condition     = aws_cognito_user_pool.this.mfa_configuration == "OPTIONAL" && aws_cognito_user_pool.this.software_token_mfa_configuration[0].enabled
    error_message = "nobody can have a second factor"
  }

  assert {
    condition = alltrue([
      length(aws_cognito_user_pool.this.sms_configuration) == 0,
      one(aws_cognito_user_pool.this.account_recovery_setting[0].recovery_mechanism).name == "admin_only",
      aws_cognito_user_pool.this.password_policy[0].temporary_password_validity_days == 7,
    ])
    error_message = "a message to a telephone or a mailbox opens an account, or a first password lasts"
  }
}

run "second_factor_for_all" {
  command = apply

  variables {
    mfa = "ON"
  }

  assert {
    condition     = aws_cognito_user_pool.this.mfa_configuration == "ON" && aws_cognito_user_pool.this.software_token_mfa_configuration[0].enabled
    error_message = "somebody signs in without a second factor"
  }

  assert {
    condition     = contains(aws_cognito_user_pool_client.this.explicit_auth_flows, "ALLOW_REFRESH_TOKEN_AUTH")
    error_message = "a site, which has no second factor, is shut out"
  }
}

run "no_second_factor" {
  command = apply

  variables {
    mfa = "OFF"
  }

  assert {
    condition     = aws_cognito_user_pool.this.mfa_configuration == "OFF" && length(aws_cognito_user_pool.this.software_token_mfa_configuration) == 0
    error_message = "AWS takes no codes of an app where there is no second factor"
  }
}

run "half_a_second_factor" {
  command = plan

  variables {
    mfa = "SMS"
  }

  expect_failures = [var.mfa]
}

run "domains_of_one_s_own" {
  command = apply

  variables {
    domain         = { name = "meshnet.example.org", certificate = "arn:aws:acm:eu-central-1:123456789012:certificate/one" }
    sign_in_domain = { name = "login.meshnet.example.org", certificate = "arn:aws:acm:us-east-1:123456789012:certificate/two" }
  }

  assert {
    condition     = output.url == "https://meshnet.example.org" && output.door == "https://login.meshnet.example.org"
    error_message = "people are sent to another address"
  }

  assert {
    condition = alltrue([
      tolist(aws_cognito_user_pool_client.pages.callback_urls) == tolist(["https://meshnet.example.org/login/callback"]),
      tolist(aws_cognito_user_pool_client.pages.logout_urls) == tolist(["https://meshnet.example.org/logged-out"]),
      aws_lambda_function.api.environment[0].variables.MESHNET_ADDRESS == "https://meshnet.example.org",
      aws_lambda_function.api.environment[0].variables.MESHNET_DOOR == "https://login.meshnet.example.org",
    ])
    error_message = "who signs in comes back to another address"
  }

  assert {
    condition = alltrue([
      one(aws_apigatewayv2_domain_name.own[0].domain_name_configuration).security_policy == "TLS_1_2",
      aws_apigatewayv2_api_mapping.own[0].api_id == aws_apigatewayv2_api.this.id,
      aws_apigatewayv2_api.this.disable_execute_api_endpoint,
      startswith(output.issuer, "https://cognito-idp."),
    ])
    error_message = "the domain leads elsewhere, to old TLS, or is not the only way"
  }
}

run "no_domain" {
  command = apply

  assert {
    condition     = length(aws_apigatewayv2_domain_name.own) == 0 && !aws_apigatewayv2_api.this.disable_execute_api_endpoint && output.domain_target == null && output.sign_in_target == null
    error_message = "a domain is asked for that nobody named"
  }
}

run "certificate_of_another_region" {
  command = plan

  variables {
    domain = { name = "meshnet.example.org", certificate = "arn:aws:acm:us-east-1:123456789012:certificate/one" }
  }

  expect_failures = [var.domain]
}

run "certificate_where_cognito_finds_none" {
  command = plan

  variables {
    sign_in_domain = { name = "login.meshnet.example.org", certificate = "arn:aws:acm:eu-central-1:123456789012:certificate/two" }
  }

  expect_failures = [var.sign_in_domain]
}

run "a_domain_is_no_address" {
  command = plan

  variables {
    domain = { name = "https://meshnet.example.org/", certificate = "arn:aws:acm:eu-central-1:123456789012:certificate/one" }
  }

  expect_failures = [var.domain]
}

run "steps" {
  command = apply

  assert {
    condition     = aws_sqs_queue.steps.visibility_timeout_seconds >= 6 * aws_lambda_function.aggregator.timeout
    error_message = "a note is shown again while an aggregator still works on it"
  }

  assert {
    condition     = jsondecode(aws_sqs_queue.steps.redrive_policy).maxReceiveCount == 3 && jsondecode(aws_sqs_queue.steps.redrive_policy).deadLetterTargetArn == aws_sqs_queue.dead.arn
    error_message = "a note that cannot be worked off comes back for ever"
  }

  assert {
    condition     = contains(aws_lambda_event_source_mapping.steps.function_response_types, "ReportBatchItemFailures") && aws_lambda_event_source_mapping.steps.batch_size == 1
    error_message = "one note's failure is another's"
  }

  assert {
    condition     = aws_lambda_function.aggregator.package_type == "Image" && aws_lambda_function.aggregator.timeout == 900
    error_message = "the aggregator is not the product's image, or has no time"
  }

  assert {
    condition     = aws_lambda_function.api.timeout < 30
    error_message = "the gateway gives up before the API"
  }
}

run "alarms" {
  command = apply

  variables {
    alarm_topics = ["arn:aws:sns:eu-central-1:123456789012:night"]
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.errors) == 3
    error_message = "a function's errors wake nobody"
  }

  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.errors), aws_cloudwatch_metric_alarm.server, aws_cloudwatch_metric_alarm.dead, aws_cloudwatch_metric_alarm.waiting, aws_cloudwatch_metric_alarm.stuck) :
      tolist(alarm.alarm_actions) == tolist(["arn:aws:sns:eu-central-1:123456789012:night"])
    ])
    error_message = "an alarm tells nobody"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.stuck[0].metric_name == "OverdueSteps" && aws_cloudwatch_metric_alarm.stuck[0].treat_missing_data == "breaching"
    error_message = "nobody hears that the schedule stands still"
  }
}

run "emulated" {
  command = apply

  variables {
    endpoint           = "http://127.0.0.1:4570"
    aggregator_image   = ""
    aggregator_package = "outputs.tf"
  }

  assert {
    condition     = length(aws_s3_bucket_policy.tls) == 0 && aws_lambda_function.aggregator.package_type == "Zip"
    error_message = "an emulator is asked for what it cannot do"
  }

  assert {
    condition     = output.sign_in == "http://127.0.0.1:4570" && startswith(output.issuer, "https://cognito-idp.")
    error_message = "a token of the emulator is not one of the pool"
  }
}

run "no_foreign_emulator" {
  command = plan

  variables {
    endpoint = "http://example.org:4570"
  }

  expect_failures = [var.endpoint]
}

run "no_aggregator" {
  command = plan

  variables {
    aggregator_image = ""
  }

  expect_failures = [var.aggregator_image]
}

run "no_shouting" {
  command = plan

  variables {
    name = "MeshNet"
  }

  expect_failures = [var.name]
}
