# `terraform output -json` into a file: what `join` and an administrator need. Nothing here is secret.

output "url" {
  description = "Where the service answers, programs and browsers."
  value       = local.address
}

output "sign_in" {
  description = "Where a password becomes a token."
  value       = local.sign_in
}

output "issuer" {
  description = "Who signs tokens."
  value       = local.issuer
}

output "client" {
  description = "Whom tokens are for."
  value       = aws_cognito_user_pool_client.this.id
}

output "door" {
  description = "Where people sign in."
  value       = local.door
}

output "pages" {
  description = "Whom the tokens of browsers are for."
  value       = aws_cognito_user_pool_client.pages.id
}

output "pool" {
  description = "Where an administrator makes users."
  value       = aws_cognito_user_pool.this.id
}

output "region" {
  description = "Where everything lies."
  value       = var.region
}

output "table" {
  description = "The table's name."
  value       = aws_dynamodb_table.this.name
}

output "bucket" {
  description = "The bucket's name."
  value       = aws_s3_bucket.this.id
}

output "queue" {
  description = "The queue's address."
  value       = aws_sqs_queue.steps.url
}

output "dead_letters" {
  description = "The address of the queue of notes that could not be worked off."
  value       = aws_sqs_queue.dead.url
}

output "domain_target" {
  description = "What the record of a domain of your own names, for API and pages; empty without one."
  value       = one(flatten(aws_apigatewayv2_domain_name.own[*].domain_name_configuration[*].target_domain_name))
}

output "sign_in_target" {
  description = "What the record of a domain of your own names, for the pages at which people sign in; empty without one."
  value       = local.own_door ? aws_cognito_user_pool_domain.this.cloudfront_distribution : null
}
