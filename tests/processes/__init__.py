"""Tests for :mod:`xohook.processes`."""
