from __future__ import annotations

from instatune_deploy.graphs.variants import PLAIN, make_variant, variant_of

from .conftest import Case


def test_runtimes_and_their_variants(bert: Case) -> None:
    assert variant_of("openvino") == PLAIN
    assert variant_of("onnxruntime") == "onnxruntime" != PLAIN
    assert make_variant(bert.plain, bert.network.family, "openvino") is bert.plain
    assert make_variant(bert.plain, bert.network.family, "onnxruntime").structure == bert.fused.structure
