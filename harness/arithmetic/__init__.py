"""The built-in task: endless arithmetic problems, a tokenizer and a small model, all made here."""
