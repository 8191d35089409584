"""Who is asking: local accounts and site credentials, or Amazon Cognito."""
