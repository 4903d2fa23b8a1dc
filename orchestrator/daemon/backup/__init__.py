"""One private file with all that the daemon must not lose, made while it runs, and the way back.

`places` says what there is, `copying` takes one consistent copy of a file, `archive` writes and reads the file they are
in, `making` and `restoring` are the two commands, and `unfinished` ends the jobs that an older journal would run again.
"""
