"""Golem: definitions of services as files, and the runtime program that its providers start."""
