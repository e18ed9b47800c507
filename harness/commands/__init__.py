"""How the commands of `harness.cli` read their options."""
