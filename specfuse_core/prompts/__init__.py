"""Converts conversations and text to token ids, and ids to text, with each model's own tokenizer.

Chat templates, tokenizers and the repair of conversations belong here. No module imports torch.
"""

__all__: list[str] = []
