"""Exact match on generated questions: questions, rows, answers and intervals."""
