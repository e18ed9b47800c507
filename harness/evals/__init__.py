"""Evaluation: tasks as data, rollouts in, values with intervals out. Nothing here needs Lightning."""
