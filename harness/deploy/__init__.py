"""Schedules for `convbench nightly`: what other programs must be told, and how a person installs it."""
