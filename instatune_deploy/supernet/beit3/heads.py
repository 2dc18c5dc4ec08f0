"""BEiT-3 for tasks: image classification, visual question answering, and reasoning about two images (NLVR2)."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_outputs import ImageClassifierOutput, SequenceClassifierOutput

from instatune_deploy.supernet.beit3.config import Beit3Config
from instatune_deploy.supernet.beit3.model import Beit3Model, Beit3PreTrainedModel


class Beit3ForImageClassification(Beit3PreTrainedModel):
    """The mean of the patches, a LayerNorm, one matrix. It has no language way."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__(config)
        self.beit3 = Beit3Model(config, language=False, final_norm=False)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.hidden_size, _labels(config))
        self.post_init()

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> ImageClassifierOutput:
        """pixel_values: (batch, channels, height, width); labels: (batch,) numbers of classes, for a loss

        Logits are (batch, classes).
        """
        output = self.beit3(pixel_values, output_hidden_states=output_hidden_states)
        logits = self.classifier(self.norm(output.last_hidden_state[:, 1:].mean(dim=1)))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits, hidden_states=output.hidden_states)


class Beit3Pooler(nn.Module):
    """What the class token knows."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden: (batch, tokens, hidden_size) -> (batch, hidden_size), between -1 and 1."""
        return torch.tanh(self.dense(self.norm(hidden[:, 0])))


class Beit3ForVisualQuestionAnswering(Beit3PreTrainedModel):
    """An image and a question to scores of answers, of which several may be right."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__(config)
        self.beit3 = Beit3Model(config, final_norm=False)
        self.pooler = Beit3Pooler(config)
        inner = 2 * config.hidden_size
        self.classifier = nn.Sequential(
            nn.Linear(config.hidden_size, inner),
            nn.LayerNorm(inner, eps=config.layer_norm_eps),
            nn.GELU(),
            nn.Linear(inner, _labels(config)),
        )
        self.post_init()

    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """pixel_values: (batch, channels, height, width); input_ids, attention_mask: (batch, tokens of text)

        labels: (batch, answers) from 0 to 1, how right each answer is, for a loss. Logits are (batch, answers).
        """
        output = self.beit3(pixel_values, input_ids, attention_mask, output_hidden_states)
        logits = self.classifier(self.pooler(output.last_hidden_state))
        loss = None
        if labels is not None:
            # summed over the answers, averaged over the rows: most answers are wrong, and a mean over them would be tiny
            loss = functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype)) * labels.shape[1]
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=output.hidden_states)


class Beit3ForVisualReasoning(Beit3PreTrainedModel):
    """Two images and a sentence about them to classes (NLVR2: is it true?). Each image is read with the sentence by itself."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__(config)
        self.beit3 = Beit3Model(config)
        size, eps = config.hidden_size, config.layer_norm_eps
        self.classifier = nn.Sequential(
            nn.LayerNorm(4 * size, eps=eps),
            nn.Linear(4 * size, 2 * size),
            nn.LayerNorm(2 * size, eps=eps),
            nn.GELU(),
            nn.Linear(2 * size, _labels(config)),
        )
        self.post_init()

    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """pixel_values: (batch, 2, channels, height, width); input_ids, attention_mask: (batch, tokens of text)

        labels: (batch,) numbers of classes, for a loss. Logits are (batch, classes); hidden states are those of both images of
        every row, (2 * batch, tokens, hidden_size).
        """
        output = self.beit3(pixel_values.flatten(0, 1), _twice(input_ids), _twice(attention_mask), output_hidden_states)
        hidden = output.last_hidden_state
        # the class token and the first token of the text, of the first image and of the second
        known = torch.cat([hidden[:, 0], hidden[:, -input_ids.shape[1]]], dim=-1).view(input_ids.shape[0], -1)
        logits = self.classifier(known)
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=output.hidden_states)


def _labels(config: Beit3Config) -> int:
    """How many; transformers' type would allow that nothing is said of them."""
    return cast(int, config.num_labels)


def _twice(rows: torch.Tensor | None) -> torch.Tensor | None:
    """Each row for both of its images."""
    return None if rows is None else rows.repeat_interleave(2, dim=0)
