"""Run by optimum's own environment: export a checkpoint as optimum-onnx and optimum-intel do it, each at its best."""

from __future__ import annotations

import sys
from pathlib import Path


def main(checkpoint: str, folder: Path, tokens: int) -> None:
    """Write onnx/ (as exported), o2/ (with ONNX Runtime's transformer fusions) and openvino/ (with fixed shapes)."""
    from optimum.intel import OVModelForSequenceClassification
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTOptimizer
    from optimum.onnxruntime.configuration import OptimizationConfig

    model = ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True)
    model.save_pretrained(folder / "onnx")
    optimizer = ORTOptimizer.from_pretrained(model)
    optimizer.optimize(save_dir=folder / "o2", optimization_config=OptimizationConfig(optimization_level=2))
    intel = OVModelForSequenceClassification.from_pretrained(checkpoint, export=True, compile=False, load_in_8bit=False)
    intel.reshape(1, tokens)
    intel.save_pretrained(folder / "openvino")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
