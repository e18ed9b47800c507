"""The commands of `harness`, a file each."""
