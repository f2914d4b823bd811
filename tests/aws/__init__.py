"""The AWS rig: boto3 over HTTP to moto, whose jobs are real processes, with a checker and a fault layer in front.

A test takes the fixture ``aws_rig`` (or ``aws_env``, which also points this process's environment at it); tests outside
this folder import the fixture from `tests.aws.fixtures`. ``python -m tests.aws.batch_server`` serves it to a person.

================ ====================================================================================================
`rig`            `Rig`: queues, jobs, calls, violations, faults: what a test holds
`batch_server`   moto over HTTP, its gaps filled, behind the front door that logs and checks
`engine`         states, dependencies, arrays, retries, capacity
`containers`     the docker client that runs processes
`checker`        what AWS Batch accepts
`faults`         what can go wrong on the way
================ ====================================================================================================
"""
