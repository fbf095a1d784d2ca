"""Recipes: settings, their sources, and the plan they become."""
