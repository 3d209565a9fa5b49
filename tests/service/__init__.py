"""Tests for :mod:`xohook.service`."""
