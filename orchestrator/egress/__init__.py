"""What a runner may reach: the rules, and the gateway that is its only way out."""
