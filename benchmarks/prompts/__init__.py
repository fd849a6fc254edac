"""Chat templates and tokenizers, tried on conversations and texts of many kinds."""
