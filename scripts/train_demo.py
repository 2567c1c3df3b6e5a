"""`make demo-train`: 20 steps of the demo's small model on a run's answers, with TRL on the CPU.

    python scripts/train_demo.py [RUN [STEPS]]

RUN: a run's folder or name; without it the demo makes one. Prints the loss of the first and of the
last step, and exits with 1 where it has not fallen. The trained model is not kept.
"""

from __future__ import annotations

import sys
from tempfile import TemporaryDirectory

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from backends.vllm.demo_model import demo_model
from fastdatasets.commands import export_again
from fastdatasets.config.run import OutputOptions
from fastdatasets.demo import demo

STEPS = 20


def train(folder: str, steps: int) -> list[float]:
    """The loss of each step."""
    dataset = load_dataset(folder, "messages", split="train")
    with TemporaryDirectory() as output:
        trainer = SFTTrainer(
            model=str(demo_model(print)),
            train_dataset=dataset,
            args=SFTConfig(
                output_dir=output,
                max_steps=steps,
                per_device_train_batch_size=4,
                max_length=256,
                learning_rate=1e-4,
                lr_scheduler_type="constant",
                model_init_kwargs={"dtype": "float32"},
                bf16=False,
                gradient_checkpointing=False,
                use_cpu=True,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
            ),
        )
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    run = sys.argv[1] if sys.argv[1:] else str(demo())
    files = export_again(run, output=OutputOptions(formats="messages"))
    losses = train(str(files.folder.path), int(sys.argv[2]) if sys.argv[2:] else STEPS)
    print(f"loss at step 1: {losses[0]:.3f}, at step {len(losses)}: {losses[-1]:.3f}")
    sys.exit(losses[-1] >= losses[0])
