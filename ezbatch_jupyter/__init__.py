"""AWS Batch in the notebook."""
