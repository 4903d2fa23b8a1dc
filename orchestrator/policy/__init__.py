"""May it, and how: Rego policy over verified facts. Four outcomes; only *allow* lets anything happen."""
