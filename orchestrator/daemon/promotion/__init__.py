"""What may be deployed: evidence about artifacts, people's consent, and the gate that asks for both."""
