"""May it, and how: Rego rules over facts that we verified."""
