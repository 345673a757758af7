"""What a service charges by: from an exchange, and perhaps its response, to a number of units."""
