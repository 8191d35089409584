# People and sites. Nobody registers alone: an administrator makes each user and puts it into a group.

locals {
  roles = ["administrator", "coordinator", "site", "viewer"]
}

resource "aws_cognito_user_pool" "this" {
  name                = var.name
  deletion_protection = var.deletion_protection ? "ACTIVE" : "INACTIVE"
  mfa_configuration   = var.mfa

  admin_create_user_config {
    allow_admin_create_user_only = true
  }

  account_recovery_setting {
    recovery_mechanism {
      name     = "admin_only"
      priority = 1
    }
  }

  password_policy {
    minimum_length                   = 16
    require_lowercase                = true
    require_numbers                  = true
    require_symbols                  = false
    require_uppercase                = true
    temporary_password_validity_days = 7
  }

  username_configuration {
    case_sensitive = false
  }

  email_configuration {
    email_sending_account = "COGNITO_DEFAULT"
  }

  dynamic "software_token_mfa_configuration" {
    for_each = var.mfa == "OFF" ? [] : [true]

    content {
      enabled = true
    }
  }
}

resource "aws_cognito_user_group" "role" {
  for_each = toset(local.roles)

  name         = each.key
  user_pool_id = aws_cognito_user_pool.this.id
}

resource "aws_cognito_user_pool_client" "this" {
  name         = var.name
  user_pool_id = aws_cognito_user_pool.this.id

  # The password goes to Cognito over TLS, never to this service. A public client: a secret in every hospital is none.
  explicit_auth_flows           = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
  generate_secret               = false
  enable_token_revocation       = true
  prevent_user_existence_errors = "ENABLED"

  access_token_validity  = 60
  id_token_validity      = 60
  refresh_token_validity = var.refresh_days

  token_validity_units {
    access_token  = "minutes"
    id_token      = "minutes"
    refresh_token = "days"
  }
}

# Of the pages alone: people sign in at the pool's own, and what a browser is given there is no token for the API.
resource "aws_cognito_user_pool_client" "pages" {
  name         = "${var.name}-pages"
  user_pool_id = aws_cognito_user_pool.this.id

  allowed_oauth_flows_user_pool_client = true
  allowed_oauth_flows                  = ["code"]
  allowed_oauth_scopes                 = ["openid"]
  supported_identity_providers         = ["COGNITO"]
  callback_urls                        = ["${local.address}/login/callback"]
  logout_urls                          = ["${local.address}/logged-out"]

  # No password is taken but at the pool's pages. No secret either: PKCE shows who began a sign-in.
  explicit_auth_flows           = ["ALLOW_REFRESH_TOKEN_AUTH"]
  generate_secret               = false
  enable_token_revocation       = true
  prevent_user_existence_errors = "ENABLED"

  # Groups are those of the hour; a session ends after a week.
  access_token_validity  = 60
  id_token_validity      = 60
  refresh_token_validity = 7

  token_validity_units {
    access_token  = "minutes"
    id_token      = "minutes"
    refresh_token = "days"
  }
}

resource "aws_cognito_user_pool_domain" "this" {
  # Of one's own, or one name in all of a region, whoever has it.
  domain          = local.own_door ? var.sign_in_domain.name : "${var.name}-${data.aws_caller_identity.this.account_id}"
  certificate_arn = local.own_door ? var.sign_in_domain.certificate : null
  user_pool_id    = aws_cognito_user_pool.this.id
}

locals {
  issuer = "https://cognito-idp.${var.region}.amazonaws.com/${aws_cognito_user_pool.this.id}"
  # An emulator signs in AWS's name, but its keys lie with it.
  keys    = local.emulated ? "${var.endpoint}/${aws_cognito_user_pool.this.id}/.well-known/jwks.json" : "${local.issuer}/.well-known/jwks.json"
  sign_in = local.emulated ? var.endpoint : "https://cognito-idp.${var.region}.amazonaws.com"
  # Where people sign in, and where they come back to.
  own_door = var.sign_in_domain != null
  aws_door = local.own_door ? "https://${aws_cognito_user_pool_domain.this.domain}" : "https://${aws_cognito_user_pool_domain.this.domain}.auth.${var.region}.amazoncognito.com"
  door     = local.emulated ? var.endpoint : local.aws_door
  gateway  = local.emulated ? "${var.endpoint}/_aws/execute-api/${aws_apigatewayv2_api.this.id}/$default" : aws_apigatewayv2_api.this.api_endpoint
  address  = var.domain == null ? local.gateway : "https://${var.domain.name}"
}
