"""The trust map: which verified facts may get which audience, role, life and session tags. One document for each
environment, compiled and checked when it is loaded, and asked once for each token. Pure but for reading the files."""
