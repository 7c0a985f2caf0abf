"""Evidence and question to text."""
