"""AWS Batch: the only room that knows boto3, which it loads when it first calls."""
