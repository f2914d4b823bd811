"""Setup, teardown, administration and doctor, against the rig's account."""
