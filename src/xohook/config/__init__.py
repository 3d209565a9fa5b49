"""The configuration, from INI text to frozen settings."""
