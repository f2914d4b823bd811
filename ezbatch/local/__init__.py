"""The embedded engine: runs a plan on this machine, in a process of its own that outlives the one that submits."""
