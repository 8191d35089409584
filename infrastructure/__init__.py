"""The service on AWS: Terraform, and what builds the zip that it sends."""
