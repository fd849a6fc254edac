"""From a conversation to ids, and from text to ids and back, by each model's own tokenizer.

Templates, tokenizers and their repairs belong here; nothing here imports torch.
"""

__all__: list[str] = []
