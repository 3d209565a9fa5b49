"""Child processes as Deferreds, and the programs that are guards."""
