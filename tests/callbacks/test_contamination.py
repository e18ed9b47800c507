import logging

from lightning import Trainer

from harness.callbacks import ContaminationCheck
from harness.datamodules import SFTDataModule
from harness.modules import SFTModule
from harness.store import write_rows

QUESTION = "a farmer who sells eggs at the market every single day keeps three hens and two geese in total"


def test_shared_problems_are_named_before_training(tmp_path, tiny_model_dir, caplog):
    write_rows(tmp_path / "bench.jsonl", [{"id": "b1", "question": QUESTION, "answer": "5"}])
    write_rows(tmp_path / "clean.jsonl", [{"id": "c1", "question": "how many sheep?", "answer": "5"}])
    rows = [{"prompt": "unrelated ", "response": "x"}, {"prompt": f"Question: {QUESTION}?", "response": "5"}]
    write_rows(tmp_path / "train.jsonl", rows)
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[ContaminationCheck(f"{tmp_path / 'bench.jsonl'},{tmp_path / 'clean.jsonl'}")],
    )
    with caplog.at_level(logging.INFO, logger="lightning"):
        trainer.fit(SFTModule(str(tiny_model_dir)), SFTDataModule([str(tmp_path / "train.jsonl")], batch_size=2))
    said = [record.getMessage() for record in caplog.records if "contamination" in record.getMessage()]
    assert len(said) == 2
    assert "1 more share 13 words" in said[0]
    assert "train.jsonl:2" in said[0]
    assert "no overlap" in said[1]
