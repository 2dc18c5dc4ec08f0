"""BEiT-3 without a head: images, texts, or both together, to what is known of every token."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.vit.modeling_vit import ViTEmbeddings

from instatune_deploy.supernet.beit3.config import Beit3Config
from instatune_deploy.supernet.beit3.embeddings import Beit3Embeddings
from instatune_deploy.supernet.beit3.layers import Beit3Layer
from instatune_deploy.supernet.beit3.multiway import LANGUAGE, VISION, Multiway, joined, parted


class Beit3PreTrainedModel(PreTrainedModel):
    """What all BEiT-3 models have in common."""

    config_class = Beit3Config
    base_model_prefix = "beit3"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Beit3Layer", "Beit3Embeddings"]  # noqa: RUF012 - as transformers declares it
    _supports_sdpa = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ViTEmbeddings):
            for parameter in (module.cls_token, module.position_embeddings):
                init.trunc_normal_(parameter, mean=0.0, std=self.config.initializer_range)


class Beit3Model(Beit3PreTrainedModel):
    """Embeddings, layers and a last LayerNorm.

    language:   whether texts can be read; without, it has what images need and nothing else
    final_norm: whether the last LayerNorm is there; heads with a LayerNorm of their own do without
    """

    def __init__(self, config: Beit3Config, language: bool = True, final_norm: bool = True) -> None:
        super().__init__(config)
        ways = (VISION, LANGUAGE) if language else (VISION,)
        self.embeddings = Beit3Embeddings(config, ways)
        self.layers = nn.ModuleList([Beit3Layer(config, ways) for _ in range(config.num_hidden_layers)])
        norm = Multiway(lambda: nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps), ways)
        self.norm = norm if final_norm else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Those of words; of patches where texts cannot be read."""
        text = self.embeddings.text
        return self.embeddings.vision.patch_embeddings if text is None else text.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Others for the words."""
        assert self.embeddings.text is not None
        assert isinstance(value, nn.Embedding)
        self.embeddings.text.word_embeddings = value

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """Hidden states of all tokens, (batch, tokens, hidden_size): the class token, the patches, the text, of what is given.

        pixel_values:         (batch, channels, height, width)
        input_ids:            (batch, tokens of text)
        attention_mask:       (batch, tokens of text), 0 for padding; an image has none
        output_hidden_states: also the input of every layer and, last, the output of the last one, before the LayerNorm

        ``ValueError`` as `Beit3Embeddings` has it.
        """
        hidden = self.embeddings(pixel_values, input_ids, attention_mask)
        of_text = 0 if input_ids is None else input_ids.shape[1]
        lengths = {VISION: hidden.shape[1] - of_text, LANGUAGE: of_text}
        lengths = {way: tokens for way, tokens in lengths.items() if tokens}
        if attention_mask is not None and VISION in lengths:
            of_image = attention_mask.new_ones(attention_mask.shape[0], lengths[VISION])
            attention_mask = torch.cat([of_image, attention_mask], dim=1)
        mask = create_bidirectional_mask(self.config, hidden, attention_mask)
        states = [hidden]
        for layer in self.layers:
            hidden = layer(hidden, mask, lengths)
            states.append(hidden)
        if self.norm is not None:
            hidden = joined(self.norm(parted(hidden, lengths)))
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutput(last_hidden_state=hidden, hidden_states=tuple(states) if wanted else None)
