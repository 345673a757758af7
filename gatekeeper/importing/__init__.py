"""From another gateway's files and environment to a configuration of ours, and what is lost."""
