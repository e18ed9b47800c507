"""Rows in, padded batches out; who wrote the rows, a person or a rollout, is invisible here."""

from harness.datamodules.policy import PolicyDataModule
from harness.datamodules.preference import PreferenceDataModule
from harness.datamodules.sft import SFTDataModule
from harness.datamodules.steps import StepDataModule
from harness.datamodules.unpaired import UnpairedDataModule

__all__ = ["PolicyDataModule", "PreferenceDataModule", "SFTDataModule", "StepDataModule", "UnpairedDataModule"]
