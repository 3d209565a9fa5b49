"""Tests for :mod:`xohook.state`."""
