"""How people, platforms and jobs reach us over HTTP."""
