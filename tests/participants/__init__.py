"""Tests for :mod:`xohook.participants`."""
