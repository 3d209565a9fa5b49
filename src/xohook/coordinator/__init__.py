"""Drives the state machine, freezes and thaws the participants in order, recovers."""
