"""BEiT-3 (arXiv 2208.10442): a Hugging Face model of ours, as transformers has none."""
