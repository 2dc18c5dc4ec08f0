from __future__ import annotations

from typing import Any

from instatune_deploy.graphs.variants import PLAIN, Variant, make_variant, variant_of

from .conftest import Case


def no_rows() -> Any:
    raise AssertionError("no fp32 graph is calibrated")


def test_runtimes_and_their_variants(bert: Case) -> None:
    plain, fused = variant_of("openvino", "fp32"), variant_of("onnxruntime", "fp32")
    assert (plain, fused) == (Variant(PLAIN), Variant("onnxruntime"))
    assert variant_of("openvino", "bf16") == variant_of("onnxruntime", "fp16", "tensorrt") == plain
    assert variant_of("onnxruntime", "fp16", "cuda") == fused
    assert make_variant(plain, bert.plain, bert.network.family, no_rows) is bert.plain
    assert make_variant(fused, bert.plain, bert.network.family, no_rows).structure == bert.fused.structure


def test_what_each_is_made_from() -> None:
    int8 = variant_of("onnxruntime", "int8")
    assert int8 == Variant("onnxruntime", ("onnxruntime", "int8"))
    assert (str(int8), int8.before) == ("onnxruntime-onnxruntime-int8", Variant("onnxruntime"))
    assert variant_of("openvino", "int8").before == Variant("onnxruntime").before == Variant(PLAIN)
    assert Variant(PLAIN).before is None
