"""The programs in an artifact: `verify.py`, which proves it, and `predict.py`, which uses it. Neither needs this package."""

from __future__ import annotations

from pathlib import Path

from instatune_deploy.artifact.graph_files import GRAPH_FILES
from instatune_deploy.devices.plan import package_of
from instatune_deploy.devices.pyz import build_pyz
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.modules import MODULES, runtime_module

VERIFY, VERIFY_MODULES, PREDICT = "verify.py", "verify.pyz", "predict.py"
EDGE = "instatune_deploy.artifact.edge"
VERIFY_TEXT = '''\
"""Is this artifact what it says? Needs Python 3.10, NumPy and {package}.

    python verify.py [--json]

Checks every file's checksum, the outputs on the samples, and the budget, measured anew. Exit code 0: all is well; 2: it
cannot be checked here; 4: it is not what it says; 5: this host is too busy to say. What it does is in verify.pyz, a zip of
Python sources.
"""

import os
import sys

if sys.version_info < (3, 10):
    sys.stderr.write("Error: Python 3.10 or newer is needed; this is " + sys.version.split()[0] + "\\n")
    sys.exit(2)

folder = os.path.dirname(os.path.abspath(__file__))
# instead of the artifact's folder: no other file in it is imported, whatever it is called
sys.path[0] = os.path.join(folder, "verify.pyz")

try:
    from instatune_deploy.artifact.edge import main
except ModuleNotFoundError as error:
    sys.stderr.write("Error: " + str(error.name) + " is not installed: pip install " + str(error.name) + "\\n")
    sys.exit(2)

sys.exit(main(folder))
'''
PREDICT_TEXT = '''\
"""What does the model say of a text? Needs Python, NumPy, tokenizers and {package}.

    python predict.py "A text." "Another one."
"""

import json
import sys
from pathlib import Path

import numpy as np
import {runtime}
from tokenizers import Tokenizer

folder = Path(__file__).resolve().parent
steps = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
tokenizer = Tokenizer.from_file(str(folder / steps["tokenizer"]))
tokenizer.enable_truncation(steps["length"])
tokenizer.enable_padding(length=steps["length"], **steps["padding"])


{load}

def predict(texts, run):
    """Probabilities, (texts, labels)."""
    logits, batch = [], steps["batch_size"]
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        tokens = tokenizer.encode_batch(part + [""] * (batch - len(part)))  # the graph has one shape
        inputs = {{name: np.array([getattr(row, kind) for row in tokens]) for name, kind in steps["inputs"].items()}}
        logits.append(run(inputs)[: len(part)])
    raised = np.exp(np.concatenate(logits) - np.concatenate(logits).max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for text, row in zip(sys.argv[1:], predict(sys.argv[1:], load(str(folder / {graph!r})))):
        print(f"{{steps['labels'][row.argmax()]}} {{row.max():.1%}}\\t{{text}}")
'''


def write_verify(folder: Path, run: Run) -> None:
    """Write verify.py and the modules that it runs."""
    (folder / VERIFY).write_text(VERIFY_TEXT.format(package=package_of(run)), encoding="utf-8")
    (folder / VERIFY_MODULES).write_bytes(build_pyz(EDGE, [MODULES[run.runtime]]))


def write_predict(folder: Path, run: Run) -> None:
    """Write predict.py, which runs the graph as it was measured."""
    load = runtime_module(run.runtime).loading_source(run.precision, run.threads, run.provider)
    text = PREDICT_TEXT.format(package=package_of(run), runtime=run.runtime, load=load, graph=GRAPH_FILES[run.runtime].names[0])
    (folder / PREDICT).write_text(text, encoding="utf-8")
