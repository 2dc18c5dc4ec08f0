"""Run by optimum's own environment: export a checkpoint as optimum-onnx and optimum-intel do it, each at its best.

python optimum_export.py CHECKPOINT FOLDER TOKENS [ROWS.npz]
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(checkpoint: str, folder: Path, tokens: int, rows: Path | None) -> None:
    """Write onnx/ (as exported), o2/ (with ONNX Runtime's transformer fusions) and openvino/ (with fixed shapes).

    rows: of the training data, to calibrate with; then also o3/, int8-dynamic/ and openvino-int8/
    """
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
    if rows is not None:
        with_int8(checkpoint, folder, tokens, rows)


def with_int8(checkpoint: str, folder: Path, tokens: int, rows: Path) -> None:
    """What is quantised, and O3, which approximates GELU."""
    import numpy as np
    from datasets import Dataset
    from optimum.intel import OVConfig, OVModelForSequenceClassification, OVQuantizationConfig, OVQuantizer
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTOptimizer, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoOptimizationConfig, AutoQuantizationConfig

    model = ORTModelForSequenceClassification.from_pretrained(folder / "onnx")
    optimizer = ORTOptimizer.from_pretrained(model)
    optimizer.optimize(save_dir=folder / "o3", optimization_config=AutoOptimizationConfig.O3())
    quantizer = ORTQuantizer.from_pretrained(folder / "onnx", file_name="model.onnx")
    dynamic = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    quantizer.quantize(save_dir=folder / "int8-dynamic", quantization_config=dynamic)
    with np.load(rows) as values:
        calibration = Dataset.from_dict({name: values[name].tolist() for name in values.files})
    intel = OVModelForSequenceClassification.from_pretrained(checkpoint, export=True, compile=False, load_in_8bit=False)
    intel.reshape(1, tokens)
    config = OVConfig(quantization_config=OVQuantizationConfig(bits=8, num_samples=len(calibration)))
    OVQuantizer.from_pretrained(intel).quantize(
        calibration_dataset=calibration, ov_config=config, save_directory=folder / "openvino-int8"
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]) if len(sys.argv) > 4 else None)
