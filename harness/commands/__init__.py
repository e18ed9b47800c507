"""The commands of `harness`, a file each; those that Lightning runs, and `list`, are part of the command line."""
