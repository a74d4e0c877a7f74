"""Suites as text, turned into a plan."""
