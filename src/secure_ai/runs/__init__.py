"""Verbs, recipes, stages and the store: the one place that names red and blue together."""
