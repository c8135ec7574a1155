"""What SetFit answers for ``benchmarks/texts.py --only contrastive``; it needs packages that quickstudy does not.

    pip install --no-deps --target DIR setfit==1.2.0 sentence-transformers==6.2.0 datasets==5.2.0 evaluate==0.4.6 \\
        dill multiprocess xxhash
    SETFIT=DIR python benchmarks/texts.py --root DATA --only contrastive

Reads a JSON request, ``{"folder": MODEL, "texts": [...], "labels": [...], "asked": [...], "steps": 200}``, and answers
it with one line: the labels of what is asked, and the seconds of a processor that training took.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments


def main() -> None:
    request = json.loads(sys.stdin.read())
    torch.set_num_threads(1)
    began = time.process_time()
    model = SetFitModel.from_pretrained(request["folder"])
    options = TrainingArguments(batch_size=16, max_steps=request["steps"], seed=0, report_to="none", save_strategy="no")
    learned = Dataset.from_dict({"text": request["texts"], "label": request["labels"]})
    Trainer(model=model, args=options, train_dataset=learned).train()
    took = time.process_time() - began
    answers = [str(label) for label in model.predict(request["asked"])]
    print(json.dumps({"answers": answers, "cpu_seconds": round(took, 1), "version": version("setfit")}))


if __name__ == "__main__":
    main()
