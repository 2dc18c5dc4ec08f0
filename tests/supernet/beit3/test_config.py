from __future__ import annotations

import pytest

from instatune_deploy.supernet.beit3.config import Beit3Config


def test_the_defaults_are_those_of_base() -> None:
    config = Beit3Config()
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size) == (
        768,
        12,
        12,
        3072,
    )
    assert (config.image_size, config.patch_size, config.vocab_size, config.layer_norm_eps) == (224, 16, 64010, 1e-5)


def test_what_is_saved_is_what_is_loaded() -> None:
    config = Beit3Config(hidden_size=48, num_labels=5, attention_probs_dropout_prob=0.1)
    assert Beit3Config.from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_heads_divide_the_hidden_size() -> None:
    with pytest.raises(ValueError, match=r"hidden size \(768\) is not a multiple of the number of attention heads \(5\)"):
        Beit3Config(num_attention_heads=5)
