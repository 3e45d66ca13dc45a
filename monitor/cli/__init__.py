"""The command line: one file a command; data on stdout, narration on stderr.

Each command's module has `register(app)`, which `main` calls. Exit codes: 0 done, 1 it could not be done (one
clean message says why), 2 the command line was wrong, 130 interrupted, 143 told to stop before it was done.
`groundwatch-worker` adds 3: the dead-letter limit stopped the worker.
"""
