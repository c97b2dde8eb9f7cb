"""Helpers without a registry: files, random states, the runner."""
