"""The AWS rig: boto3 over HTTP to moto, whose jobs are real processes, with a checker and a fault layer in front."""
