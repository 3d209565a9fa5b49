"""Small programs that stand between the agent and what it runs: standard library alone."""
