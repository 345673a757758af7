"""Credits: what a request costs, who may still pay it, and how it is collected on a chain."""
