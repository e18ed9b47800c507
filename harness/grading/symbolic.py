"""Placeholder until the worker stage."""
from harness.grading.equivalence import Decision


def decide_open(decision):
    return Decision(False, decision.rule, "ok")
