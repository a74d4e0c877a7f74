"""What the project is tested, measured and documented with; each file is run by itself."""
