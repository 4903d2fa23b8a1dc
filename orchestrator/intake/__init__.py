"""Where jobs come from: one folder or module for each source's language."""
