"""The command line as its users have it: real processes, pipes and terminals."""
