terraform {
  # 1.9: a variable's validation may look at another variable.
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

locals {
  # Set: an emulator stands for AWS, and every difference between the two hangs on this one word.
  emulated = var.endpoint != ""
}

provider "aws" {
  region     = var.region
  access_key = local.emulated ? "test" : null
  secret_key = local.emulated ? "test" : null

  skip_credentials_validation = local.emulated
  skip_metadata_api_check     = local.emulated
  s3_use_path_style           = local.emulated

  dynamic "endpoints" {
    for_each = local.emulated ? [var.endpoint] : []

    content {
      apigatewayv2   = endpoints.value
      cloudwatch     = endpoints.value
      cognitoidp     = endpoints.value
      dynamodb       = endpoints.value
      events         = endpoints.value
      iam            = endpoints.value
      lambda         = endpoints.value
      cloudwatchlogs = endpoints.value
      s3             = endpoints.value
      sqs            = endpoints.value
      sts            = endpoints.value
    }
  }

  default_tags {
    # An emulator forgets some of them, and would see a change in every plan.
    tags = local.emulated ? {} : merge({ application = var.name }, var.tags)
  }
}

data "aws_caller_identity" "this" {}
