from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from instatune_deploy.finetune.dropout import Dropout


def test_off_and_on_again(make_model: Callable[..., Any]) -> None:
    model = make_model(hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.5).train()
    dropout, tokens = Dropout(model), torch.arange(9)[None] + 7
    assert {probability for _, probability in dropout.modules} == {0.25, 0.5}
    dropout.switch(False)
    first, second = model(input_ids=tokens).logits, model(input_ids=tokens).logits
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, model.eval()(input_ids=tokens).logits)
    dropout.switch(True)
    model.train()
    assert not torch.allclose(model(input_ids=tokens).logits, model(input_ids=tokens).logits)
