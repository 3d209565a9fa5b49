"""What ``xohook check`` looks at, a module for each subject."""
