"""The state machine of windows: what can happen, what that means and what is answered. Pure."""
