"""The configuration: a pydantic model, and loading that reports every problem at once."""
